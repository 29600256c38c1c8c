"""Files are replaced whole or not at all: through links, over mounts, with the disk full, and beside other writers."""

import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from personsearch.core.bundle import check_place
from personsearch.core.errors import BundleError
from personsearch.core.files import is_mount, real_path, replace_file


@pytest.mark.parametrize("content", [b"", b"new", lambda file: file.write(b"new")], ids=["empty", "bytes", "writer"])
def test_a_file_is_made_and_replaced(tmp_path: Path, content) -> None:
    path = tmp_path / "a" / "b.json"
    for _ in range(2):
        replace_file(path, content)
        assert path.read_bytes() == (b"" if content == b"" else b"new")
        assert [p.name for p in path.parent.iterdir()] == ["b.json"]


def test_permissions_stay_or_are_what_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "f"
    replace_file(path, b"1", 0o600)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    replace_file(path, b"2")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    replace_file(path, b"3", 0o600)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_target_of_a_link_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "middle").symlink_to("real/people")
    (tmp_path / "link").symlink_to(tmp_path / "middle")
    for content in (b"first", b"second"):  # at first the links lead to nothing
        replace_file(tmp_path / "link", content)
        assert (tmp_path / "real" / "people").read_bytes() == content
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "middle").is_symlink()
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(OSError, match="symbolic links"):
        replace_file(tmp_path / "circle", b"")
    assert (tmp_path / "circle").is_symlink()
    assert real_path(tmp_path / "none") == tmp_path.resolve() / "none"


def test_a_failing_writer_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")

    def fails(file) -> None:
        file.write(b"half")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        replace_file(path, fails)
    with pytest.raises(OSError, match="directory"):
        replace_file(tmp_path, b"")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_what_killed_writers_left_is_removed_and_a_living_writers_file_is_not(tmp_path: Path) -> None:
    living = tmp_path / f".f.{os.getppid()}.partial"
    dead = tmp_path / ".f.999999999.partial"
    for path in (living, dead):
        path.write_bytes(b"")
    replace_file(tmp_path / "f", b"")
    assert (living.exists(), dead.exists()) == (True, False)


def test_devices_and_pipes_are_written_to(tmp_path: Path) -> None:
    replace_file("/dev/null", b"x")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    code = "from personsearch.core.files import replace_file; replace_file('/dev/stdout', b'x')"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"x"


def in_own_mounts(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run Python in a namespace of its own, where it may mount; skips where that is not allowed."""
    command = ["unshare", "--mount", "--map-root-user"] if os.getuid() else ["unshare", "--mount"]
    try:
        subprocess.run([*command, "mount", "-t", "tmpfs", "t", "/mnt"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting is not allowed here")
    code = textwrap.dedent(script)
    return subprocess.run(
        [*command, sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False,
        timeout=120,
    )  # fmt: skip


def test_a_mounted_file_is_written_in_place_and_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "place").write_bytes(b"")
    result = in_own_mounts(
        """
        import logging, subprocess, sys
        from pathlib import Path
        from personsearch.core.files import is_mount, replace_file
        logging.basicConfig()
        folder = Path(sys.argv[1])
        disk, place = folder / "disk", folder / "place"
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "t", disk], check=True)
        (disk / "real").write_bytes(b"old")
        subprocess.run(["mount", "--bind", disk / "real", place], check=True)
        assert is_mount(place) and is_mount(disk) and not is_mount(folder)
        (folder / "link").symlink_to(place)
        for content in (b"new, and longer", b"", b"short"):
            replace_file(folder / "link", content)
            assert (disk / "real").read_bytes() == content
        try:
            replace_file(place, bytes(300_000))
        except OSError as error:
            print(error.strerror)
        assert (disk / "real").read_bytes() == b"short"
        subprocess.run(["mount", "-o", "remount,ro,bind", place], check=True)
        try:
            replace_file(place, b"x")
        except OSError as error:
            print(error.strerror)
        """,
        tmp_path,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["No space left on device", "Read-only file system"]
    assert "place is a mount and cannot be replaced in one step" in result.stderr


def test_people_are_enrolled_into_a_mounted_and_into_a_linked_gallery(tmp_path: Path) -> None:
    (tmp_path / "place").write_bytes(b"")
    result = in_own_mounts(
        """
        import subprocess, sys
        from pathlib import Path
        import numpy as np
        from personsearch.runtime.decisions.gallery import EnrolledView
        from personsearch.runtime.decisions.gallery_file import enrol, load_gallery
        folder = Path(sys.argv[1])
        (folder / "host").write_bytes(b"")
        subprocess.run(["mount", "--bind", folder / "host", folder / "place"], check=True)
        (folder / "link").symlink_to("place")
        for name in ("Ada", "Bo"):
            enrol(folder / "link", "a" * 16, 4, name, [EnrolledView(np.eye(4)[0])])
        print(*load_gallery(folder / "host", "a" * 16, 4).people)
        """,
        tmp_path,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "Ada Bo\n"


def test_a_bundle_replaces_only_a_bundle(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    assert check_place(tmp_path / "link") == (tmp_path / "empty").resolve()
    assert check_place(tmp_path / "new" / "b").name == "b"
    (tmp_path / "file").write_bytes(b"mine")
    for place in (tmp_path, tmp_path / "file"):
        with pytest.raises(BundleError, match="holds something else than a bundle"):
            check_place(place)
    assert is_mount("/proc")
    with pytest.raises(BundleError, match="is a mount"):
        check_place("/proc")
