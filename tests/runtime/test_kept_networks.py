"""An engine that dies while it loads is started again without what was compiled before."""

import time
from pathlib import Path

import pytest

from personsearch.core.bundle import read_manifest
from personsearch.core.engines.compiled_store import VARIABLE
from personsearch.runtime.processes import inference as inference_module
from personsearch.runtime.processes.inference import Inference
from personsearch.runtime.settings import InferenceSettings

DIES = """
import os
with open(os.environ["SEEN"], "a") as file:
    print(os.environ["PERSONSEARCH_CACHE"], file=file)
os.kill(os.getpid(), 11)
"""


def test_what_killed_an_engine_while_it_loaded_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shipped_bundle: Path
) -> None:
    (tmp_path / "dies.py").write_text(DIES)
    for name, value in (("PYTHONPATH", tmp_path), ("SEEN", tmp_path / "seen"), (VARIABLE, tmp_path / "cache")):
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(inference_module, "PROCESS", "dies")
    reports: list[str] = []
    options = {"bundle": shipped_bundle, "engine": "auto", "threads": 1}
    settings = InferenceSettings(give_up_after=2)
    inference = Inference(options, read_manifest(shipped_bundle), settings, lambda state, *_: reports.append(state))
    end = time.monotonic() + 60
    while inference.state != "given_up" and time.monotonic() < end:
        inference.tick(time.monotonic())
        inference.read()
        time.sleep(0.002)
    inference.close()
    assert reports == ["failed", "given_up"]
    assert (tmp_path / "seen").read_text().split() == [str(tmp_path / "cache"), "off"]
