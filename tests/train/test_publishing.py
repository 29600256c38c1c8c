"""A published model is a checkpoint without training state, in a hub's form, and says when it is not whole."""

from pathlib import Path

import pytest
import torch
import yaml
from conftest import assert_user_error, call, tiny_config
from safetensors import safe_open
from safetensors.torch import save_file

from personsearch.core.errors import CheckpointError
from personsearch.train.model.network import PersonSearch
from personsearch.train.settings import TrainSettings
from personsearch.train.state import read_torch
from personsearch.train.weights.checkpoint import load_checkpoint, load_network, save_checkpoint
from personsearch.train.weights.initial_weights import initialise
from personsearch.train.weights.published import weights_file


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("publish")
    torch.manual_seed(1)
    config = tiny_config(folder / "runs" / "secret-place")
    settings = TrainSettings.model_validate({**config, "init": "/home/somebody/data/start.pth"})
    network = PersonSearch(settings.model).to(memory_format=torch.channels_last)
    save_checkpoint(folder / "best.pth", {
        "config": settings.model_dump(mode="json"), "model": network.state_dict(), "step": 6,
        "history": [{"step": 3.0, "mAP": 0.9}, {"step": 6.0, "mAP": 0.625, "top-1": 0.5, "odd": float("nan")}],
        "identity": {"lut": torch.ones(3, 32)}, "identity_table": {"a person": 1},
    })  # fmt: skip
    return folder / "best.pth"


@pytest.fixture(scope="module")
def published(checkpoint: Path) -> Path:
    out = checkpoint.parent / "hub" / "tiny"
    options = ("--license", "apache-2.0", "--training-data", "the street")
    result = call("train/publish.py", checkpoint, "--out", out, *options)
    assert result.returncode == 0, result.stderr
    return out


def test_the_folder_holds_what_hubs_expect_and_nothing_private(published: Path) -> None:
    assert sorted(p.name for p in published.parent.iterdir()) == ["tiny"]  # no work folder is left
    assert sorted(p.name for p in published.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    card = (published / "README.md").read_text()
    _, front, text = card.split("---\n", 2)
    assert yaml.safe_load(front)["license"] == "apache-2.0"
    assert "| mAP | 0.625 |" in text  # of this step, not of the best one before
    assert "odd" not in text
    assert "- the street" in text
    everything = card + (published / "config.json").read_text()
    assert "somebody" not in everything
    assert "a person" not in everything
    with safe_open(published / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
        assert not [key for key in file.keys() if key.startswith(("lut", "identity"))]  # noqa: SIM118


def test_it_loads_and_initialises_like_the_checkpoint(checkpoint: Path, published: Path, tmp_path: Path) -> None:
    before = load_checkpoint(checkpoint)["model"]
    network, content = load_network(published)
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert [name for name in before if not torch.equal(before[name], after[name])] == []
    assert content["config"]["model"]["identity"]["dimensions"] == 32
    settings = TrainSettings.model_validate(tiny_config(tmp_path) | {"init": str(published)})
    fresh = PersonSearch(settings.model)
    assert initialise(fresh, settings)
    assert torch.equal(fresh.projection.weight, before["projection.weight"])
    assert weights_file(published).name == "model.safetensors"
    assert weights_file(checkpoint) == checkpoint
    again = tmp_path / "again"
    result = call("train/publish.py", published, "--out", again, "--license", "mit", "--half")
    assert result.returncode == 0, result.stderr
    assert (again / "model.safetensors").stat().st_size < 0.6 * (published / "model.safetensors").stat().st_size
    half = load_checkpoint(again)["model"]["projection.weight"]
    assert torch.equal(half, before["projection.weight"].half())
    assert "not recorded" in (again / "README.md").read_text()  # figures belong to a step of a run
    figures = tmp_path / "figures.json"  # as train/evaluate.py --json writes them
    figures.write_text('{"mAP": 0.5, "top-1, multi-view": null, "95 % interval": {"mAP": [0.4, 0.6]}}')
    result = call("train/publish.py", published, "--out", tmp_path / "third", "--license", "mit", "--figures", figures)
    assert result.returncode == 0, result.stderr
    card = (tmp_path / "third" / "README.md").read_text()
    assert "| mAP | 0.500 |" in card
    assert "multi-view" not in card


def test_damaged_and_foreign_folders_are_refused_in_one_line(published: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()

    def refused(words: str) -> None:
        with pytest.raises(CheckpointError, match=words) as caught:
            load_checkpoint(copy)
        assert "\n" not in str(caught.value)

    refused("is a folder without config.json and model.safetensors")
    config = (published / "config.json").read_bytes()
    weights = bytearray((published / "model.safetensors").read_bytes())
    (copy / "model.safetensors").write_bytes(weights)
    for content, words in (
        (b"", "not readable as JSON"), (b"[1]", "expected the format"),
        (b'{"model_type": "bert"}', "expected the format"),
        (b'{"format": "personsearch-model/1", "config": 3}', "expected the format"), (config, ""),
    ):  # fmt: skip
        (copy / "config.json").write_bytes(content)
        if words:
            refused(words)
    assert load_checkpoint(copy)
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    refused("SHA-256 differs")
    for broken in (b"", weights[:1000], b"\xff" * 200):
        (copy / "model.safetensors").write_bytes(broken)
        refused("not a readable safetensors file")


def test_what_is_there_is_never_replaced_and_wrong_input_writes_nothing(
    checkpoint: Path, published: Path, tmp_path: Path
) -> None:
    before = (published / "README.md").read_bytes()
    again = call("train/publish.py", checkpoint, "--out", published, "--license", "mit")
    assert_user_error(again, "exists", "choose another --out")
    assert (published / "README.md").read_bytes() == before
    out = tmp_path / "x"
    (tmp_path / "figures.json").write_text('{"recall": 1}')
    command = ("train/publish.py", checkpoint, "--out", out, "--license")
    assert_user_error(call(*command, "my own license"), "--license: expected an identifier")
    assert_user_error(call(*command, "mit", "--figures", tmp_path / "figures.json"), "there is no mAP")
    assert_user_error(call(*command, "mit", "--figures", tmp_path / "none.json"), "cannot be read")
    assert not out.exists()


def test_safetensors_are_read_wherever_weights_of_others_are(tmp_path: Path) -> None:
    save_file({"conv1.weight": torch.ones(2, 2)}, tmp_path / "w.safetensors")
    assert torch.equal(read_torch(tmp_path / "w.safetensors", "weights")["conv1.weight"], torch.ones(2, 2))
    with pytest.raises(CheckpointError, match="not found; expected weights"):
        read_torch(tmp_path / "none.safetensors", "weights")
