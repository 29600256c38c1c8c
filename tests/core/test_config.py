"""Configuration files: every shipped preset loads, and errors name file, line and key."""

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from personsearch.centre.settings import CentreSettings
from personsearch.core.config import load_settings
from personsearch.core.errors import ConfigError
from personsearch.runtime.settings import StreamSettings
from personsearch.train.settings import TrainSettings

CONFIGS = Path(__file__).resolve().parent.parent.parent / "configs"


def assert_refused(folder: Path, text: str, words: list[str]) -> None:
    path = folder / "cams.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_settings(path, StreamSettings)
    for word in ("cams.yaml", *words):
        assert word in str(caught.value)


BOMB = "x-0: &0 [a, a, a, a, a, a, a, a, a]\n" + "".join(
    f"x-{n}: &{n} [{', '.join([f'*{n - 1}'] * 9)}]\n" for n in range(1, 9)
)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda p: p.name)
def test_shipped_presets_load(path: Path) -> None:
    load_settings(path, {"cams.yaml": StreamSettings, "centre.yaml": CentreSettings}.get(path.name, TrainSettings))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cameras:\n  - name: a\n    url: x\n    colour: red\n", [":4:", "unknown key 'cameras.0.colour'", "max_fps"]),
        (
            "cameras:\n  - {name: a, url: x}\ntracking: {min_iou: 0.2}\nmatch: {false_alarm_rate: 0.1}\n",
            [":3:", "'tracking.min_iou', of an earlier version: ", ":4:", "give 'false_names_per_day'"],
        ),
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
        ("cameras:\n  - {name: no, url: x}\n", [":2: 'cameras.0.name': expected text, got no; write it in quotes"]),
        ("cameras:\n  - {name: 1, url: x}\n", ["expected text, got 1; write it in quotes"]),
        ("cameras:\n  - {name: 2024-01-01, url: x}\n", ["expected text, got 2024-01-01; write it in quotes"]),
    ],
)
def test_errors_name_file_line_and_key(tmp_path: Path, text: str, words: list[str]) -> None:
    assert_refused(tmp_path, text, words)


def test_overrides_change_nested_values_and_are_checked() -> None:
    settings = load_settings(CONFIGS / "edge.yaml", TrainSettings, ["optimiser.epochs=9", "out=runs/x"])
    assert (settings.optimiser.epochs, settings.out) == (9, "runs/x")
    for bad in ("optimiser.epochs", "optimiser.epochs=many", "optimiser.speed=1", "out.x=1"):
        with pytest.raises(ConfigError):
            load_settings(CONFIGS / "edge.yaml", TrainSettings, [bad])


def test_items_of_lists_are_overridden_by_their_number() -> None:
    overrides = ["data.train.0.format=prw", "data.train.0.root=X", "model.roi.widths.1=64"]
    settings = load_settings(CONFIGS / "edge.yaml", TrainSettings, overrides)
    assert (settings.data.train[0].format, settings.data.train[0].root) == ("prw", "X")
    assert settings.data.train[0].identities == 80  # the item's other values stay
    assert settings.model.roi.widths == (32, 64, 192, 256)
    for bad, words in (
        ("data.train.1.root=X", "0 to 0, got '1'"),
        ("data.train.first.root=X", "got 'first'"),
        ("data.train.-1.root=X", "got '-1'"),
        ("data.train.0.rot=X", "command line: unknown key 'data.train.0.rot'"),
        ("data.train.0.format.x=1", "'format' is a value"),
    ):
        with pytest.raises(ConfigError, match=words):
            load_settings(CONFIGS / "edge.yaml", TrainSettings, [bad])


@pytest.mark.parametrize("name", ["edge", "edge-distill", "ablation", "official", "paper"])
def test_every_presets_temperature_is_the_released_scale_of_30(name: str) -> None:
    assert load_settings(CONFIGS / f"{name}.yaml", TrainSettings).model.identity.temperature == 1 / 30


def test_a_fraction_is_a_number_and_nonsense_is_not() -> None:
    def temperature(text: str) -> float:
        override = [f"model.identity.temperature={text}"]
        return load_settings(CONFIGS / "edge.yaml", TrainSettings, override).model.identity.temperature

    assert (temperature("1/3"), temperature(" 2 / 4 "), temperature("0.1")) == (1 / 3, 0.5, 0.1)
    for bad in ("1/0", "1/x", "a", "-1/30", "0/3"):
        with pytest.raises(ConfigError, match=r"model\.identity\.temperature"):
            temperature(bad)


def test_a_camera_that_is_refused_does_not_count_as_missing_too(tmp_path: Path) -> None:
    (tmp_path / "cams.yaml").write_text("cameras:\n  - {name: a, url: x, colour: red}\n")
    with pytest.raises(ConfigError) as caught:
        load_settings(tmp_path / "cams.yaml", StreamSettings)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("secret", ["short-One", "73519"])
def test_a_secret_that_is_refused_is_not_shown(tmp_path: Path, secret: str) -> None:
    (tmp_path / "cams.yaml").write_text(
        f"cameras: [{{name: a, url: x}}]\nfleet: {{webhooks: [{{url: 'https://h/x', secret: {secret}}}]}}\n"
    )
    with pytest.raises(ConfigError, match="secret") as caught:
        load_settings(tmp_path / "cams.yaml", StreamSettings)
    assert secret not in str(caught.value)


@pytest.mark.parametrize("webhooks", ["'{}'", "['{}']", "[{{name: a, secret: 0123456789abcdef, url: ['{}']}}]"])
def test_a_webhook_that_is_refused_does_not_show_its_path(tmp_path: Path, webhooks: str) -> None:
    url = "https://hooks.example/T0/hunter22"
    (tmp_path / "cams.yaml").write_text(
        f"cameras: [{{name: a, url: x}}]\nfleet: {{webhooks: {webhooks.format(url)}}}\n"
    )
    with pytest.raises(ConfigError, match=r"https://hooks\.example/\.\.\.") as caught:
        load_settings(tmp_path / "cams.yaml", StreamSettings)
    assert "hunter22" not in str(caught.value)


def test_a_file_without_an_end_is_refused() -> None:
    with pytest.raises(ConfigError, match="larger than 16 MB"):
        load_settings("/dev/zero", StreamSettings)


def test_missing_file_and_binary_file_are_explained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load_settings(tmp_path / "none.yaml", StreamSettings)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_settings(tmp_path / "binary.yaml", StreamSettings)


def test_canvas_must_fit_the_backbones_stride() -> None:
    with pytest.raises(ConfigError, match="multiples of 32"):
        load_settings(CONFIGS / "edge.yaml", TrainSettings, ["model.height=100"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cameras: []\nbox: b\ncameras: []\n", [":3:", "'cameras' stands twice, in lines 1 and 3"]),
        ("cameras:\n  - name: a\n    url: x\n    name: b\n", [":4:", "'name' stands twice", "lines 2 and 4"]),
        ("cameras: [{name: a, url: x, 'name': b}]\n", [":1:", "'name' stands twice, in line 1"]),
        ("x-a: &a {url: x, url: y}\ncameras: [{name: a, <<: *a}]\n", [":1:", "'url' stands twice"]),
        ("cameras: [{name: a, url: x}]\nthreads: yes\n", [":2:", "threads", "not true or false"]),
        ("cameras: [{name: a, url: x}]\nstatus_every_s: .inf\n", [":2:", "finite"]),
        ("cameras: [{name: a, url: x}]\nmatch: {threshold: .nan}\n", [":2:", "match.threshold"]),
        ("cameras: [{name: a, url: x, region: [0, 0, 1, yes]}]\n", ["region", "not true or false"]),
        ("cameras: [{name: a, url: x}]\nthreads: 010\n", [":2: a number that begins with 0 is octal"]),
        ("cameras: [{name: a, url: x}]\nstatus_every_s: 1:30\n", [":2: a number with a colon has base 60"]),
        ('cameras: [{name: a, url: "x\\0y"}]\n', ["without the character NUL"]),
        ("cameras: [{name: a, url: x}]\nbox: 2020-13-45\n", [":2:", "'2020-13-45' cannot be read as timestamp"]),
        ("cameras: [{name: a, url: x}]\nthreads: !!int ''\n", [":2:", "cannot be read as int"]),
        ("cameras: [{name: a, url: x}]\nbox: a\x07b\n", [":2:", "U+0007"]),
        ("x: &x {<<: *x}\n", ["inside of what it repeats"]),
        ("cameras: &x [*x]\n", [":1:", "inside of what it repeats"]),
        (BOMB, ["make more than 100,000 values"]),
    ],
)
def test_what_yaml_would_silently_take_is_an_error_with_its_line(tmp_path: Path, text: str, words: list[str]) -> None:
    assert_refused(tmp_path, text, words)


def test_duplicate_keys_of_a_training_preset_are_errors(tmp_path: Path) -> None:
    text = (CONFIGS / "edge.yaml").read_text()
    (tmp_path / "p.yaml").write_text(f"{text}\nseed: 3\nseed: 4\n")
    with pytest.raises(ConfigError, match="'seed' stands twice"):
        load_settings(tmp_path / "p.yaml", TrainSettings)


def test_anchors_live_in_sections_of_their_own_and_merge(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "\ufeffx-usual: &usual {max_fps: 3, rotate: 90}\nx-file: &file {end: loop}\n"
        "cameras:\n  - {<<: [*usual, *file], name: a, url: x}\n"
        "  - {<<: *usual, <<: *file, name: b, url: y, rotate: 0}\n"
    )
    first, second = load_settings(tmp_path / "c.yaml", StreamSettings).cameras
    assert (first.max_fps, first.rotate, first.end) == (3, 90, "loop")
    assert (second.max_fps, second.rotate, second.end) == (3, 0, "loop")
    (tmp_path / "t.yaml").write_text(
        f"x-a: &a 7\nseed: *a\n{(CONFIGS / 'edge.yaml').read_text()}".replace("seed: 0", "")
    )
    assert load_settings(tmp_path / "t.yaml", TrainSettings, ["seed=9", "optimiser.epochs=2"]).seed == 9


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.dates(),
    st.sampled_from(["0b", "0x", "1:99", "=", "<<", "~", ".inf", "!!int ''", "!!bool x", "*a", "&a 1", "2020-13-45"]),
)  # fmt: skip
KEYS = st.one_of(st.sampled_from([*StreamSettings.model_fields, "name", "url", "x-a", "<<"]), st.text(max_size=3))
DOCUMENTS = st.recursive(SCALARS, lambda part: st.lists(part, max_size=3) | st.dictionaries(KEYS, part, max_size=4))


def flow(value: object) -> str:
    """YAML as a person might write it: nothing is quoted, and keys may stand twice."""
    if isinstance(value, list):
        return f"[{', '.join(map(flow, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{k}: {flow(v)}' for k, v in value.items())}}}"
    return str(value)


@given(st.dictionaries(KEYS, DOCUMENTS, max_size=4), st.booleans(), st.text(max_size=20))
@settings(max_examples=100, deadline=None)
def test_every_document_is_settings_or_an_explained_error(document: dict, quoted: bool, tail: str) -> None:
    """Drawn documents, as text: whatever they hold, nothing but ConfigError comes out."""
    lines = [f"{k}: {yaml.safe_dump(v, allow_unicode=True) if quoted else flow(v)}" for k, v in document.items()]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "c.yaml"
        path.write_bytes("\n".join([*lines, "cameras: [{name: a, url: x}]", tail]).encode("utf-8", "surrogatepass"))
        for model in (StreamSettings, TrainSettings):
            with suppress(ConfigError):
                load_settings(path, model)
