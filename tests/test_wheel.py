"""A wheel, built from the sdist and installed far from the checkout, beside what it requires and nothing else."""

import configparser
import json
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from conftest import REPOSITORY
from packaging.requirements import Requirement

from personsearch.core import __version__
from personsearch.core.errors import TRAINING_PACKAGES
from personsearch.core.street.street import Street, StreetSettings

SOURCES = ("core", "train", "export", "runtime", "archive", "centre", "configs", "models")
FILES = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE")


class Installed(NamedTuple):
    wheel: Path
    sdist: Path
    folder: Path  # of the environment's commands

    def run(
        self, command: str, *arguments: object, cwd: Path, path: str = "", given: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """path  of more packages; given  what it reads"""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        environment |= {"OMP_NUM_THREADS": "2"} | ({"PYTHONPATH": path} if path else {})
        return subprocess.run(
            [str(self.folder / command), *map(str, arguments)], cwd=cwd, env=environment, timeout=600, check=False,
            capture_output=True, text=True, input=given,
        )  # fmt: skip


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in SOURCES:
        shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(REPOSITORY / name, source)
    sdist = build("sdist", source, folder)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    wheel = build("wheel", folder / "unpacked" / sdist.name.removesuffix(".tar.gz"), folder)
    venv.create(folder / "env", symlinks=True)
    commands = folder / "env" / "bin"
    (site,) = (folder / "env" / "lib").glob("python*/site-packages")
    link_requirements(wheel, folder / "requirements")
    (site / "requirements.pth").write_text(f"{folder / 'requirements'}\n")
    pip = [sys.executable, "-m", "pip", "--python", str(commands / "python"), "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", str(wheel)], check=True, cwd=folder)
    return Installed(wheel, sdist, commands)


def build(kind: str, source: Path, out: Path) -> Path:
    """As pip and `python -m build` ask setuptools, but in this environment, since a fresh one needs the network."""
    code = f"import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])"
    result = subprocess.run(
        [sys.executable, "-c", code, str(out)], cwd=source, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    (made,) = out.glob("*.tar.gz" if kind == "sdist" else "*.whl")
    return made


def link_requirements(wheel: Path, folder: Path) -> None:
    """A folder of links to the packages that `personsearch[cpu]` requires, directly or not: what pip would install."""
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        lines = archive.read(metadata).decode().splitlines()
    folder.mkdir()
    required = [line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist: ")]
    for found in closure(required, {"cpu"}):
        for top in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            target = Path(str(found.locate_file(top)))
            if target.exists() and not (folder / top).exists():
                (folder / top).symlink_to(target)


def closure(required: list[str], extras: set[str]) -> Iterator[Distribution]:
    seen: set[str] = set()
    waiting = [(Requirement(text), extras) for text in required]
    while waiting:
        requirement, wanted = waiting.pop()
        if requirement.marker and not any(requirement.marker.evaluate({"extra": e}) for e in wanted | {""}):
            continue
        key = f"{requirement.name.lower()} {sorted(requirement.extras)}"
        if key in seen:
            continue
        seen.add(key)
        try:
            found = distribution(requirement.name)
        except PackageNotFoundError:  # one engine is enough, and this machine may have onnxruntime-gpu
            continue
        yield found
        waiting += [(Requirement(text), set(requirement.extras)) for text in found.requires or ()]


def test_sdist_and_wheel_hold_what_ships(installed: Installed) -> None:
    names = zipfile.ZipFile(installed.wheel).namelist()
    assert installed.wheel.name == f"personsearch-{__version__}-py3-none-any.whl"
    assert installed.sdist.name == f"personsearch-{__version__}.tar.gz"
    assert {name.split("/")[0] for name in names} == {"personsearch", f"personsearch-{__version__}.dist-info"}
    for folder in SOURCES:  # of the checkout, everything but what Python makes by itself
        for file in (REPOSITORY / folder).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                assert f"personsearch/{file.relative_to(REPOSITORY).as_posix()}" in names


def test_every_module_can_be_imported(installed: Installed, tmp_path: Path) -> None:
    names = [name for name in zipfile.ZipFile(installed.wheel).namelist() if name.endswith(".py")]
    modules = [name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in names]
    code = "import importlib, sys\nfor name in sys.argv[1:]: print(importlib.import_module(name).__file__)"
    light = [m for m in modules if m.startswith(("personsearch.core", "personsearch.runtime"))]
    extras = ("personsearch.runtime.page.", "personsearch.runtime.fleet.")  # need [page] and [fleet]
    light = [m for m in light if not m.startswith(extras)]
    result = installed.run("python", "-c", code, *light, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert not [line for line in result.stdout.split() if not line.startswith(str(installed.folder.parent))]
    packages = os.pathsep.join(path for path in sys.path if path.endswith("site-packages"))
    result = installed.run("python", "-c", code, *modules, cwd=tmp_path, path=packages)
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.split()) == len(modules) > 100


def test_the_demo_names_people(installed: Installed, tmp_path: Path) -> None:
    result = installed.run("personsearch-demo", "--seconds", 5, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    right, wrong = (int(result.stdout.split(f"named {word} ")[1].split(",")[0]) for word in ("right", "wrong"))
    assert right > wrong, result.stdout  # how well it names is measured elsewhere, at a speed that is known


def test_a_first_configuration_is_written_and_valid(installed: Installed, tmp_path: Path) -> None:
    import cv2

    written = installed.run("personsearch-stream", "--write-config", cwd=tmp_path)
    assert written.returncode == 0, written.stderr
    assert (tmp_path / "cams.yaml").read_bytes() == (REPOSITORY / "configs" / "cams.yaml").read_bytes()
    assert yaml.safe_load((tmp_path / "cams.yaml").read_text())["gallery"] == "people.gallery"
    again = installed.run("personsearch-stream", "--write-config", cwd=tmp_path)
    assert again.returncode == 2
    assert "exists already" in again.stderr
    (tmp_path / "file").touch()
    nowhere = installed.run("personsearch-stream", "--write-config", "file/cams.yaml", cwd=tmp_path)
    assert nowhere.returncode == 2
    assert nowhere.stderr.startswith("error: file/cams.yaml: cannot be written")
    nobody = installed.run("personsearch-enroll", "--gallery", "people.gallery", "--list", cwd=tmp_path)
    assert nobody.returncode == 2
    assert nobody.stderr.count("\n") == 1
    assert "personsearch-enroll" in nobody.stderr
    frame = Street(StreetSettings(seed=7)).frame(0, 0)
    x1, y1, x2, y2 = frame.boxes[frame.visible.argmax()]
    cv2.imwrite(str(tmp_path / "ada.png"), frame.image)
    box = f"{x1:.0f},{y1:.0f},{x2 - x1:.0f},{y2 - y1:.0f}"
    gallery = ("--gallery", "people.gallery")
    enrolled = installed.run(
        "personsearch-enroll", *gallery, "--name", "Ada", "--image", "ada.png", "--box", box, cwd=tmp_path
    )
    assert enrolled.returncode == 0, enrolled.stderr
    assert installed.run("personsearch-enroll", *gallery, "--list", cwd=tmp_path).stdout.startswith(
        "Ada\t1 view\tpicture\tp-"
    )
    valid = installed.run("personsearch-stream", "--cams", "cams.yaml", "--validate", cwd=tmp_path)
    assert valid.returncode == 0, valid.stderr
    assert "valid: 1 cameras, 1 people" in valid.stdout


# What the scripts of an installation do, many in one process. A line of the input is a module and its arguments, a line
# of the output the exit status, stdout and stderr.
MAINS = """
import contextlib, importlib, io, json, sys
for line in sys.stdin:
    module, *arguments = json.loads(line)
    sys.argv, out, err = [module, *arguments], io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = importlib.import_module(module).main()
        except SystemExit as end:
            status = end.code
    print(json.dumps([status, out.getvalue(), err.getvalue()]))
"""


def call_all(installed: Installed, commands: list[tuple[str, ...]], cwd: Path) -> list[tuple[int, str, str]]:
    given = "".join(f"{json.dumps(command)}\n" for command in commands)
    result = installed.run("python", "-c", MAINS, cwd=cwd, given=given)
    assert result.returncode == 0, result.stderr
    return [tuple(json.loads(line)) for line in result.stdout.splitlines()]


TRAINING = [
    ("personsearch.train.run", "--config", "configs/paper.yaml"),
    ("personsearch.train.evaluate", "--model", "models/edge", "--format", "street"),
    ("personsearch.export.to_trt", "some.pth"),
    ("personsearch.train.label", "--video", "a.avi", "--detector", "yolox.onnx", "--out", "labels", "--tracks"),
    ("personsearch.train.experiments", "toy"),
    ("personsearch.train.official", "a.pth", "--out", "b.pth"),
    ("personsearch.train.profile_step",),
    ("personsearch.train.inspect_data",),
]


def test_without_the_training_packages_one_line_says_so(installed: Installed, tmp_path: Path) -> None:
    started = [
        installed.run(*command, cwd=tmp_path)
        for command in (("personsearch-train",), ("python", "-m", "personsearch.train.adapt", "--video", "a.avi"))
    ]
    said = [(result.returncode, result.stdout, result.stderr) for result in started]
    said += call_all(installed, TRAINING, tmp_path)
    assert len(said) == len(TRAINING) + 2
    for status, out, err in said:
        assert (status, out) == (2, ""), err
        assert err.count("\n") == 1, err
        assert "install personsearch[train]" in err


def test_every_command_says_its_version(installed: Installed, tmp_path: Path) -> None:
    (listing,) = installed.folder.parent.glob("lib/*/site-packages/personsearch-*.dist-info/entry_points.txt")
    programs = configparser.ConfigParser()
    programs.read(listing)
    mains = dict(programs["console_scripts"])
    assert sorted(file.name for file in installed.folder.glob("personsearch-*")) == sorted(mains)
    assert len(mains) == 17
    assert {main.partition(":")[2] for main in mains.values()} == {"main"}
    said = call_all(installed, [(main.partition(":")[0], "--version") for main in mains.values()], tmp_path)
    assert said == [(0, f"personsearch {__version__}\n", "")] * 17
    started = installed.run("personsearch-stream", "--version", cwd=tmp_path)
    assert started.stdout == f"personsearch {__version__}\n"


def test_the_changelog_begins_with_this_version() -> None:
    headings = [line for line in (REPOSITORY / "CHANGELOG.md").read_text().splitlines() if line.startswith("## [")]
    assert headings[0].startswith(f"## [{__version__}] - ")


def test_the_extra_train_is_known_to_the_error() -> None:
    settings = configparser.ConfigParser()
    settings.read(REPOSITORY / "setup.cfg")
    lines = settings["options.extras_require"]["train"].strip().splitlines()
    assert {Requirement(line).name for line in lines} == set(TRAINING_PACKAGES)
