"""Imports run downwards: entries -> pipeline and trainer -> rooms -> core. The table says what is below what."""

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from conftest import REPOSITORY

# What a folder at the top may import besides itself: other folders, or rooms of them. The centre's tables are written
# by its own rooms alone, so an archive uses these; the centre knows nothing of archives on disk.
FOLDERS = {
    "core": "", "train": "core", "export": "core train", "runtime": "core",
    "archive": "core runtime centre.database centre.receiving", "centre": "core runtime", "configs": "", "models": "",
}  # fmt: skip
# Its floors, the lowest first: rooms and files of one floor may use each other and what is below. `*` is whatever is
# named nowhere: the files of core/ and export/, elsewhere the entries, which nothing but an entry may import.
FLOORS = {
    "core": ["*", "engines street tracking"],
    "train": [
        "settings distributed sides state vision",
        "model",
        "weights",
        "data loop teaching blend",
        "scoring paper",
        "*",
    ],
    "export": ["*", "bench to_trt inspect_bundle"],
    "runtime": [
        "keys settings camera_settings fleet_settings page_settings cameras processes",
        "decisions",
        "delivery history recording",
        "pipeline describing telling camera_set operations client",
        "page fleet",
        "*",
    ],
    "archive": ["videos", "pictures scan parts", "analysis joining folder", "workers writing centre_visits", "*"],
    "centre": ["settings access", "codes database receiving", "gallery following", "house", "api", "*"],
    "configs": ["*"],
    "models": ["*"],
}
NEVER = {folder: ("torch", "torchvision") for folder in ("core", "runtime", "archive", "centre")}


@cache
def modules(root: Path = REPOSITORY) -> dict[str, ast.Module]:
    """`train.model.oim` -> its syntax tree; a package is named `train.model.__init__`."""
    files = (file for folder in FOLDERS for file in sorted((root / folder).rglob("*.py")))
    return {".".join(file.relative_to(root).with_suffix("").parts): ast.parse(file.read_text()) for file in files}


@cache
def named(tree: ast.Module) -> tuple[str, ...]:
    """What a file imports, in functions too, as it is written there."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return tuple(names)


def imports(tree: ast.Module, known: dict[str, ast.Module]) -> set[str]:
    """Our modules without the package's name, others as they are."""
    found = set()
    for name in named(tree):
        ours = name.removeprefix("personsearch.")
        candidates = [ours, f"{ours}.__init__", ours.rpartition(".")[0], f"{ours.rpartition('.')[0]}.__init__"]
        found.add(next((c for c in candidates if c in known), ours) if ours != name else name)
    return found


def floor(module: str) -> int:
    folder, part = module.split(".")[:2]
    floors = [line.split() for line in FLOORS[folder]]
    return next(n for name in (part, "*") for n, names in enumerate(floors) if name in names)


def wrong(known: dict[str, ast.Module]) -> list[str]:
    """A line for each import that runs upwards or out of its folder, and for each circle."""
    problems = []
    for module, tree in known.items():
        folder = module.partition(".")[0]
        for other in sorted(imports(tree, known)):
            theirs = other.partition(".")[0]
            if other not in known:
                if theirs in NEVER.get(folder, ()):
                    problems.append(f"{module} imports {other}: {folder}/ works without {theirs}")
            elif not f"{other}.".startswith(tuple(f"{name}." for name in (folder, *FOLDERS[folder].split()))):
                problems.append(f"{module} imports {other}: {folder}/ may use {FOLDERS[folder] or 'nothing'} only")
            elif theirs == folder and floor(other) > floor(module):
                problems.append(f"{module} imports {other}, which is above it in the table FLOORS of {__name__}")
    graph = {module: {o for o in imports(tree, known) if o in known} for module, tree in known.items()}
    try:
        TopologicalSorter(graph).prepare()
    except ValueError as error:
        problems.append("a circle: " + " imports ".join(reversed(error.args[1])))
    return problems


def test_imports_run_downwards_without_circles() -> None:
    problems = wrong(modules())
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    ("module", "line", "words"),
    [
        ("core.boxes", "import torch", "core.boxes imports torch: core/ works without torch"),
        ("runtime.pipeline", "def f():\n    from torch import nn", "runtime.pipeline imports torch.nn"),
        ("runtime.box", "from personsearch.centre import house", "runtime.box imports centre.house: runtime/ may use"),
        ("core.metrics", "from personsearch.runtime import keys", "core.metrics imports runtime.keys: core/ may use"),
        ("runtime.demo", "import personsearch.train.run", "runtime.demo imports train.run: runtime/ may use core only"),
        ("runtime.keys", "from personsearch.runtime.delivery.journal import Journal", "above it in the table FLOORS"),
        (
            "archive.videos",
            "from personsearch.centre import house",
            "archive.videos imports centre.house: archive/ may use",
        ),
        ("train.loop.trainer", "from personsearch.train import run", "train.loop.trainer imports train.run, which"),
        ("runtime.cameras.urls", "from personsearch.runtime.cameras import camera", "a circle: runtime.cameras."),
    ],
)
def test_a_forbidden_import_is_named(module: str, line: str, words: str) -> None:
    changed = ast.Module(modules()[module].body + ast.parse(line).body, [])
    problems = wrong({**modules(), module: changed})
    assert any(words in problem for problem in problems), problems


def test_every_room_says_in_one_sentence_what_it_is_for() -> None:
    for module, tree in modules().items():
        if module.endswith(".__init__"):
            assert (ast.get_docstring(tree) or "").endswith("."), module
