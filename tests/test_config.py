"""Configuration files: every shipped preset loads, and errors name file, line and key."""

from pathlib import Path

import pytest

from personsearch.core.config import load_settings
from personsearch.core.errors import ConfigError
from personsearch.runtime.settings import StreamSettings
from personsearch.train.settings import TrainSettings

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda p: p.name)
def test_shipped_presets_load(path: Path) -> None:
    load_settings(path, StreamSettings if path.name == "cams.yaml" else TrainSettings)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cameras:\n  - name: a\n    url: x\n    colour: red\n", [":4:", "unknown key 'cameras.0.colour'", "max_fps"]),
        ("cameras:\n  - name: a\n    url: x\nthreads: many\n", [":4:", "threads", "integer", "many"]),
        ("cameras: []\n", [":1:", "cameras"]),
        ("cameras:\n  - {name: a, url: x}\n  - {name: a, url: y}\n", ["'a' stands twice"]),
        ("box: b\n", ["'cameras' is required"]),
        ("cameras: [\n", ["not valid YAML"]),
        ("- 1\n", ["expected `key: value`"]),
        ("cameras:\n  - {name: a/b, url: x}\n", ["name"]),
        (
            "cameras:\n  - {name: a, url: x}\npublish:\n  endpoint: tcp://0.0.0.0:5556\n",
            ["insecure", "personsearch-keys"],
        ),
        ("cameras:\n  - {name: a, url: x, region: [0.5, 0, 0.6, 1]}\n", [":2:", "region", "inside"]),
        ("cameras: ['rtsp://user:secret@host/x']\n", [":1:", "cameras.0", "***@host"]),
        ("", ["'cameras' is required"]),
    ],
)
def test_errors_name_file_line_and_key(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "cams.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_settings(path, StreamSettings)
    message = str(caught.value)
    assert "cams.yaml" in message
    for word in words:
        assert word in message


def test_overrides_change_nested_values_and_are_checked() -> None:
    settings = load_settings(CONFIGS / "edge.yaml", TrainSettings, ["optimiser.epochs=9", "out=runs/x"])
    assert (settings.optimiser.epochs, settings.out) == (9, "runs/x")
    for bad in ("optimiser.epochs", "optimiser.epochs=many", "optimiser.speed=1", "out.x=1"):
        with pytest.raises(ConfigError):
            load_settings(CONFIGS / "edge.yaml", TrainSettings, [bad])


def test_missing_file_and_binary_file_are_explained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load_settings(tmp_path / "none.yaml", StreamSettings)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_settings(tmp_path / "binary.yaml", StreamSettings)


def test_canvas_must_fit_the_backbones_stride() -> None:
    with pytest.raises(ConfigError, match="multiples of 32"):
        load_settings(CONFIGS / "edge.yaml", TrainSettings, ["model.height=100"])
