"""No secret of a camera's URL leaves, however the URL is written."""

import json
import logging
import string
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from conftest import REPOSITORY, assert_user_error, call, run
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "faults"))
import yaml
from harness import some_gallery

from personsearch.core import redaction
from personsearch.core.config import load_settings
from personsearch.core.errors import ConfigError
from personsearch.core.redaction import redact, remember, remember_url
from personsearch.core.video_files import SourceError
from personsearch.runtime.camera_settings import CameraSettings
from personsearch.runtime.cameras.sources import open_source
from personsearch.runtime.cameras.urls import advice, kind_of, with_secrets, without_secrets
from personsearch.runtime.decisions.gallery_file import save_gallery
from personsearch.runtime.delivery.events import EventFactory
from personsearch.runtime.operations.logs import JsonFormatter, TextFormatter
from personsearch.runtime.settings import StreamSettings

PRINTABLE = "".join(sorted(set(string.printable) - set("\r\n\t\x0b\x0c")))
PASSWORDS = st.text(PRINTABLE, min_size=8, max_size=24).filter(lambda p: len(p.strip()) >= 8 and not p.isdigit())
FORMS = (
    "rtsp://admin:{}@127.0.0.1:9/s", "RTSP://admin:{}@[::1]:9/s?x=1", "http://{}@127.0.0.1:9/s", "rtps://admin:{}@h/s",
    "rtsp:/admin:{}@h/s", "rtsp:admin:{}@h/s", "admin:{}@127.0.0.1/s", "rtsp//admin:{}@h/s", "rtsp://admin:{}@",
    " rtsp://admin:{}@127.0.0.1:9/path@2x.sdp",
)  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_known", ())


@settings(max_examples=300, deadline=None)
@given(PASSWORDS, st.sampled_from(FORMS))
@example("Tiger/7788", FORMS[0])
@example("Tiger#7788", FORMS[0])
@example("Tiger?7788", FORMS[0])
@example("Tiger@7788", FORMS[0])
@example("Tiger 7788", FORMS[0])
@example("://se@cret/", FORMS[3])
@example("/0000000", FORMS[2])
@example("0000000:", FORMS[6])
@example("/0000000", FORMS[6])
def test_a_password_of_any_characters_is_never_shown(password: str, form: str) -> None:
    if form.startswith("http") and ":" in password:
        return  # the part before it is a user
    own = " ".join(texts_about("Tiger7788", form))  # a password may be a word of the message itself: "schema_version"
    visible = {part for part in (password, password.strip()) if part not in form and part not in own}
    url = form.format(password)
    redaction._known = ()
    shown = [without_secrets(url), advice(url)[0]]  # by the URL's form alone
    assert not [part for part in visible for text in shown if part in text]
    texts = texts_about(password, form)
    written = {*visible, *(json.dumps(v)[1:-1] for v in visible), *(quote(v, safe="") for v in visible)}
    assert not [part for part in written for text in texts if part in text]


def texts_about(password: str, form: str) -> list[str]:
    """Logs, an event and an error that name a camera's URL and its password."""
    redaction._known = ()
    url = form.format(password)
    remember_url(url)
    record = logging.LogRecord("x", logging.ERROR, "", 0, "%s", (f"cannot open {password} of {url!r}",), None)
    texts = [
        redact(f"it is {password} of {url}"), TextFormatter().format(record), JsonFormatter().format(record),
        json.dumps(EventFactory("b").camera_state("c", "offline", "", f"{password} {url!r}", 0.0)),
    ]  # fmt: skip
    if kind_of(url) in ("file", "unknown"):
        with pytest.raises(SourceError) as error:
            open_source({"url": url})
        texts.append(str(error.value))
    return texts


@settings(max_examples=100, deadline=None)
@given(PASSWORDS)
def test_secrets_from_outside_are_known_by_their_value(tmp_path_factory: pytest.TempPathFactory, password: str) -> None:
    redaction._known = ()
    file = tmp_path_factory.mktemp("secret") / "door"
    file.write_text(password)
    with_secrets(f"rtsp://admin:${{file:{file}}}@127.0.0.1:9/s")
    assert password.strip() not in redact(f"the camera said: '{password.strip()}'")


@settings(max_examples=100, deadline=None)
@given(PASSWORDS, st.sampled_from(["url", "name", "rotate", "colour"]), st.sampled_from(FORMS[:8]))
def test_errors_of_a_configuration_hold_no_password(
    tmp_path_factory: pytest.TempPathFactory, password: str, key: str, form: str
) -> None:
    path = tmp_path_factory.mktemp("cams") / "cams.yaml"

    def errors(password: str) -> Iterator[str]:
        redaction._known = ()
        url = form.format(password)
        camera = {"name": "a", "url": url, key: url if key != "url" else [url]}
        for content in ({"cameras": [camera]}, {"cameras": [camera, url]}, {"cameras": {url: camera}, url: 1}):
            path.write_text(yaml.safe_dump(content, allow_unicode=True))
            with pytest.raises(ConfigError) as error:
                load_settings(path, StreamSettings)
            yield str(error.value)

    own = " ".join(errors("Tiger7788"))  # a password may be a word of the message itself, such as "tracking"
    assume(password.strip() not in own)
    assert not [text for text in errors(password) if password.strip() in text]


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_every_text_is_some_kind_of_url_and_can_be_shown(url: str) -> None:
    assert kind_of(url) in ("network", "webcam", "synthetic", "file", "unknown")
    assert isinstance(without_secrets(url), str)
    assert isinstance(advice(url)[1], bool)


@pytest.mark.parametrize(
    "url",
    ["rtsp://admin:a%2Fb@h:554/x", "rtsp://h/x?a=b", "http://[::1]:80/", "udp://@239.0.0.1:1234", "srt://:9000?x=y",
     "rtsp://user:p'~!$&()*+,;=w@cam.lan/1"],
)  # fmt: skip
def test_good_urls_are_not_doubted(url: str) -> None:
    assert advice(url) == ("", False)


def test_words_of_every_day_are_left_alone() -> None:
    remember("abc")  # too short to be told from a word
    remember_url("rtsp://user@host/x")
    remember_url("rtsp://host:554/h264?resolution=1920x1080")
    assert redact("the user of host:554 has abc at 1920x1080") == "the user of host:554 has abc at 1920x1080"


def test_a_whole_url_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = CameraSettings(name="a", url="${env:WHOLE_URL}")
    monkeypatch.setenv("WHOLE_URL", "rtsp://admin:Tiger7788@127.0.0.1:9/s")
    assert camera.live
    assert "Tiger7788" not in redact("Tiger7788")


def test_a_malformed_url_is_told_to_be_percent_encoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain, by the real program as well, and from the environment; also when only the file is checked."""
    save_gallery(some_gallery(), tmp_path / "people.gallery")
    monkeypatch.setenv("DOOR_PASSWORD", "Tiger/7788")
    for url in ("rtsp://admin:Tiger/7788@127.0.0.1:9/s", "rtsp://admin:${env:DOOR_PASSWORD}@127.0.0.1:9/s"):
        cams = tmp_path / "cams.yaml"
        endpoint = {"endpoint": "tcp://127.0.0.1:*"}
        cams.write_text(yaml.safe_dump({"cameras": [{"name": "a", "url": url}], "publish": endpoint}))
        for start, more in ((run, []), (call, []), (call, ["--validate"]))["env:" in url :]:
            redaction._known = ()
            result = start("runtime/stream.py", "--cams", cams, "--gallery", tmp_path / "people.gallery", *more)
            assert_user_error(result, "percent-encode", "127.0.0.1:9")
            assert "Tiger" not in result.stderr + result.stdout
            assert "7788" not in result.stderr + result.stdout


def test_a_bugs_traceback_holds_no_secret() -> None:
    code = (
        "from personsearch.core.errors import run_main\nfrom personsearch.core.redaction import remember\n"
        "remember('Tiger' + '7788')\n"
        "def main():\n    raise RuntimeError('it is ' + 'Tiger' + '7788')\n"
        "raise SystemExit(run_main(main))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "RuntimeError: it is ***" in result.stderr
