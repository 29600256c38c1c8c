"""What engines compiled is kept for the next start: `compiled_store.py` and `openvino_compiler.py`."""

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from personsearch.core.engines.choice import load_engine
from personsearch.core.engines.compiled_store import VARIABLE, CompiledStore, cache_folder

KEY, OTHER = "a" * 64, "b" * 64


@pytest.fixture
def store(tmp_path: Path) -> CompiledStore:
    return CompiledStore(tmp_path / "cache" / "openvino")


def test_what_was_saved_is_found_again_and_nobody_else_may_read_it(store: CompiledStore) -> None:
    assert store.load(KEY) is None
    store.save(KEY, b"compiled")
    assert (store.load(KEY), store.load(OTHER)) == (b"compiled", None)
    assert store.folder is not None
    assert store.folder.stat().st_mode & 0o777 == 0o700
    assert [file.stat().st_mode & 0o777 for file in store.folder.iterdir()] == [0o600]


@pytest.mark.parametrize("damage", [lambda c: c[:-3], lambda c: c[:10], lambda c: b"", lambda c: c[:-1] + b"X"])
def test_a_damaged_file_is_removed_and_told(store, caplog, damage) -> None:
    store.save(KEY, b"compiled")
    (file,) = store.folder.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    assert store.load(KEY) is None
    assert [r.getMessage().endswith("it is damaged; it is made anew") for r in caplog.records] == [True]
    assert not file.exists()


def test_what_was_not_used_for_the_longest_time_makes_room(store: CompiledStore) -> None:
    assert store.folder is not None
    small = CompiledStore(store.folder, most_bytes=500)
    for number, key in enumerate("abc"):
        small.save(key, bytes(100))
        os.utime(store.folder / f"{key}.blob", (number, number))
    assert small.load("a") is not None  # used last
    small.save("d", bytes(100))
    assert sorted(file.stem for file in store.folder.iterdir()) == ["a", "c", "d"]
    small.save("e", bytes(501))
    assert not (store.folder / "e.blob").exists()


def test_what_a_killed_process_was_writing_is_removed(store: CompiledStore) -> None:
    store.save(KEY, b"compiled")
    assert store.folder is not None
    for name, age in (("old", 10_000), ("new", 0)):
        partial = store.folder / f"{name}.1.partial"
        partial.write_bytes(b"half")
        os.utime(partial, (partial.stat().st_mtime - age,) * 2)
    store.save(OTHER, b"compiled")
    assert sorted(file.name for file in store.folder.glob("*.partial")) == ["new.1.partial"]


def test_many_at_once_find_whole_files(store: CompiledStore) -> None:
    blob = bytes(range(256)) * 4000

    def use(_: int) -> bool:
        mine = CompiledStore(store.folder)
        mine.save(KEY, blob)
        return mine.load(KEY) == blob

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(use, range(64)))


def spoil(folder: Path, how: str) -> None:
    """What is no safe place for files that a native library reads."""
    if how == "folder of everybody":
        folder.chmod(0o777)
    elif how == "file of everybody":
        (folder / f"{KEY}.blob").chmod(0o666)
    elif how == "linked folder":
        folder.rename(folder.with_name("elsewhere"))
        folder.symlink_to(folder.with_name("elsewhere"))
    elif how == "linked file":
        (folder / f"{KEY}.blob").rename(folder.parent / "elsewhere")
        (folder / f"{KEY}.blob").symlink_to(folder.parent / "elsewhere")
    elif how == "pipe":
        (folder / f"{KEY}.blob").unlink()
        os.mkfifo(folder / f"{KEY}.blob", 0o600)
    else:
        os.chown(folder if how == "folder of another" else folder / f"{KEY}.blob", 12345, 12345)


@pytest.mark.parametrize(
    "how",
    ["folder of everybody", "file of everybody", "linked folder", "linked file", "pipe", "folder of another",
     "file of another"],
)  # fmt: skip
def test_what_others_could_have_written_is_left_alone(store, caplog, how: str) -> None:
    if how.endswith("another") and os.geteuid():
        pytest.skip("only root can give files away")
    caplog.set_level(logging.INFO)
    store.save(KEY, b"compiled")
    spoil(store.folder, how)
    assert store.load(KEY) is None
    assert [r.getMessage().partition(":")[0] for r in caplog.records] == [
        "compiled networks are not kept, so each start compiles them anew"
    ]
    store.save(OTHER, b"compiled")  # without another word
    assert len(caplog.records) == 1


def test_a_place_that_takes_nothing_costs_nothing_but_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    store = CompiledStore(tmp_path / "file" / "openvino")
    store.save(KEY, b"compiled")
    assert store.load(KEY) is None
    CompiledStore(None).save(KEY, b"compiled")
    assert CompiledStore(None).load(KEY) is None
    assert caplog.records == []  # below a warning


def test_the_folder_is_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (VARIABLE, "CACHE_DIRECTORY", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "personsearch"
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/tmp/caches")
    assert cache_folder() == Path("/var/tmp/caches/personsearch")
    monkeypatch.setenv("CACHE_DIRECTORY", "/var/cache/personsearch:/var/cache/other")
    assert cache_folder() == Path("/var/cache/personsearch")
    monkeypatch.setenv(VARIABLE, "/data/cache")
    assert cache_folder() == Path("/data/cache")
    monkeypatch.setenv(VARIABLE, "off")
    assert cache_folder() is None


def test_nothing_is_kept_in_a_home_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (VARIABLE, "CACHE_DIRECTORY", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "missing"))
    assert cache_folder() is None
    if os.geteuid() == 0:
        os.chown(tmp_path, 12345, 12345)
        monkeypatch.setenv("HOME", str(tmp_path))
        assert cache_folder() is None


def test_a_kept_network_gives_the_same_numbers_and_another_ones_is_not_taken(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    images = np.random.default_rng(1).integers(0, 255, (1, 96, 160, 3), np.uint8)

    def outputs(threads: int = 1) -> list[np.ndarray]:
        return list(load_engine(tiny_bundle, "openvino-fp32", threads).infer(images))

    def files() -> set[Path]:
        return set((tmp_path / "cache" / "openvino").iterdir())

    compiled, first = outputs(), files()
    written = {file: file.stat().st_ino for file in first}
    for kept, made in zip(outputs(), compiled, strict=True):
        np.testing.assert_array_equal(kept, made)
    assert {file: file.stat().st_ino for file in files()} == written  # nothing was compiled

    outputs(threads=2)  # other options: files of their own
    second = files()
    assert len(second) == 2 * len(first)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    from personsearch.core.engines.openvino_compiler import _here

    _here.cache_clear()
    try:
        outputs()
    finally:
        _here.cache_clear()
    assert len(files()) == 3 * len(first)

    cut, strange = sorted(first)[:2]
    cut.write_bytes(cut.read_bytes()[:-7])
    # Whole, but nothing that OpenVINO takes.
    CompiledStore(tmp_path / "cache" / "openvino").save(strange.stem, b"nonsense")
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    for made, before in zip(outputs(), compiled, strict=True):
        np.testing.assert_array_equal(made, before)
    told = [r.getMessage() for r in caplog.records]
    assert [sum(words in text for text in told) for words in ("it is damaged", "OpenVINO does not take it")] == [1, 1]
    assert {cut, strange} <= files()


def test_a_bundle_that_is_only_tried_leaves_nothing(tiny_bundle: Path, tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    load_engine(tiny_bundle, "openvino-fp32", 1, keep=False)
    assert list(tmp_path.iterdir()) == []
