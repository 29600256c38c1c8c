"""What every command makes of its arguments: plain numbers, and errors that show no secret."""

from __future__ import annotations

import errno
import logging

import pytest

from personsearch.core.commands import command_line, within
from personsearch.core.errors import run_main
from personsearch.core.json_text import parse_event, parse_json
from personsearch.core.redaction import redact, remember_dsn
from personsearch.core.text import whole_number


@pytest.mark.parametrize("text", ["nan", "inf", "1e400", "1_0", "٣", "", "0x10", "9" * 400])
@pytest.mark.parametrize("kind", [int, float])
def test_an_option_takes_plain_finite_numbers(kind: type, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = command_line("x")
    parser.add_argument("--count", type=kind)
    with pytest.raises(SystemExit) as ended:
        parser.parse_args([f"--count={text}"])
    assert ended.value.code == 2
    assert "expected a" in capsys.readouterr().err


def test_an_option_has_limits(capsys: pytest.CaptureFixture[str]) -> None:
    parser = command_line("x")
    parser.add_argument("--seconds", type=within(float, 0, 10))
    parser.add_argument("--steps", type=within(int, 1))
    given = parser.parse_args(["--seconds", "1e1", "--steps", "010"])
    assert (given.seconds, given.steps) == (10.0, 10)
    for bad in (["--seconds", "10.1"], ["--seconds", "-1"], ["--steps", "0"], ["--steps", "1.5"]):
        with pytest.raises(SystemExit):
            parser.parse_args(bad)
    assert "expected a number from 0 to 10, got '10.1'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "url", ["rtsp://u:hunter22@h/x", "rtsp:/u:hunter22@h", "u:hunter22@h", "rtsp://h/?token=hunter22"]
)
def test_a_wrong_argument_shows_no_password(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = command_line("x")
    parser.add_argument("--count", type=int)
    for arguments in ([url], ["--count", url], [f"--count={url}\x1b[31m"]):
        with pytest.raises(SystemExit):
            parser.parse_args(arguments)
    err = capsys.readouterr().err
    assert "hunter22" not in err
    assert "\x1b" not in err
    assert "hunter22" not in redact(f"later: {url}")


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a": 1, "a": 2}', "NaN", "[-Infinity]", "1e400", b"\xff\xfe{\0}\0", "", b"\x80", "9" * 5000],
)
def test_what_is_no_json_is_one_kind_of_error(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)


def test_events_are_read_quickly_but_without_nan() -> None:
    assert parse_event(b'{"a": 1}') == {"a": 1}
    for bad in ("[" * 100_000, "NaN", b"\xff"):
        with pytest.raises(ValueError, match=r"."):
            parse_event(bad)


def test_a_whole_number_in_a_text() -> None:
    assert [whole_number(t) for t in ("0", "17", "007")] == [0, 17, 7]
    assert not any(whole_number(t) for t in ("", "²", "٣", "-1", "1_0", "9" * 5000, "1000000001"))


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://u:hunter22/x@h/db", "postgresql://u:a@hunter22#x@h/db", "host=h password=hunter22",
        "host=h password='my hunter22' user=u",
    ],
)  # fmt: skip
def test_what_libpq_says_of_a_malformed_dsn_shows_no_password(dsn: str) -> None:
    remember_dsn(dsn)
    assert "hunter22" not in redact('invalid integer value "hunter22" for connection option "port"')


def test_a_warning_of_a_command_without_logs_shows_no_secret_and_acts_on_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    assert run_main(lambda: logging.getLogger("x").warning("rtsp://u:hunter33@h and \x1b[31mred")) == 0
    err = capsys.readouterr().err
    assert "rtsp://***@h and \\x1b[31mred" in err


@pytest.mark.parametrize(
    "fault",
    [
        OSError(errno.EMFILE, "Too many open files"), OSError(errno.ENOMEM, "Cannot allocate memory"), MemoryError(),
        FileNotFoundError(errno.ENOENT, "No usable temporary directory found"), RuntimeError("can't start new thread"),
        OSError(errno.EIO, "Input/output error", "a\x1b[31m"),
    ],
)  # fmt: skip
def test_what_a_machine_has_no_more_of_is_one_line(fault: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> int:
        raise fault

    assert run_main(fail) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "\x1b" not in err
