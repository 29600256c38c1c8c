"""Who gets in, and what no request may do: the real application, without a stream behind it."""

import json
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import assert_user_error, call

pytest.importorskip("starlette", reason="needs personsearch[page]")

from pydantic import ValidationError
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from personsearch.core.errors import ConfigError, UserError
from personsearch.runtime.page import access
from personsearch.runtime.page.access import Attempts, Sessions, Users, load_users, remove_user, set_password
from personsearch.runtime.page.certificate import make_certificate
from personsearch.runtime.page.guard import host_name
from personsearch.runtime.page.parts import Options
from personsearch.runtime.page.server import application, prepare
from personsearch.runtime.page_settings import PageSettings
from personsearch.runtime.settings import default_bundle

HOME = "http://127.0.0.1:8480"
ORIGIN = {"origin": HOME}
PASSWORD = "long enough for anybody"


@pytest.fixture
def options(tmp_path: Path) -> Options:
    (tmp_path / "cams.yaml").write_text("cameras: [{name: door, url: 'synthetic://street'}]\n")
    return Options(
        control=f"ipc://{tmp_path}/control", events=f"ipc://{tmp_path}/events", replay=f"ipc://{tmp_path}/replay",
        cams=str(tmp_path / "cams.yaml"), gallery=str(tmp_path / "people.gallery"), bundle=str(default_bundle()),
        engine="auto", gallery_key="", audit="", journal="", history="", recordings="",
        settings=PageSettings(users=str(tmp_path / "page.users"), hosts=("box.lan",)),
        secret=b"s" * 32, console_key="the key of the log",
    )  # fmt: skip


@pytest.fixture
def client(options: Options) -> Iterator[TestClient]:
    with TestClient(application(options), base_url=HOME) as client:
        yield client


def login(client: TestClient, name: str = "", password: str = "", key: str = "", **headers: str) -> int:
    body = {"name": name, "password": password, "key": key}
    return client.post("/api/login", json=body, headers={**ORIGIN, **headers}).status_code


def test_without_a_session_everything_but_the_shell_is_refused(client: TestClient) -> None:
    description = client.get("/api/openapi.json").json()
    open_to_all = {"/api/login", "/api/me", "/api/openapi.json"}
    tried = 0
    for path, methods in description["paths"].items():
        for method in methods:
            if path not in open_to_all:
                asked = path.replace("{", "").replace("}", "")
                answer = client.request(method, asked, headers=ORIGIN, json={})
                assert answer.status_code == 401, (method, path)
                tried += 1
    assert tried > 20
    assert client.get("/").status_code == 200
    assert client.get("/api/me").json() == {"name": None, "role": None, "first": True}
    assert client.get("/../access.py").status_code == 404


def test_the_description_names_every_call_and_its_schemas(client: TestClient) -> None:
    description = client.get("/api/openapi.json").json()
    references = [part.split('"')[0] for part in json.dumps(description).split('"#/components/schemas/')[1:]]
    assert references
    assert set(references) <= set(description["components"]["schemas"])
    served = {route.path for route in client.app.app.routes if getattr(route, "path", "").startswith("/api/")}  # type: ignore[attr-defined]
    assert {path.replace(":path}", "}") for path in served} == set(description["paths"])


def test_the_page_asks_for_nothing_that_is_not_described(client: TestClient) -> None:
    """Every address in its scripts, with `${...}` for what is filled in."""
    described = [re.sub(r"\{[^}]+\}", "{}", path) for path in client.get("/api/openapi.json").json()["paths"]]
    asked = set()
    for file in (Path(access.__file__).parent / "static").glob("*.js"):
        text = re.sub(r"\$\{(?:[^{}`]|`[^`]*`|\{[^{}]*\})*\}", "{}", file.read_text())
        asked |= set(re.findall(r"/api/[A-Za-z0-9_{}/.-]*", text))
    assert len(asked) > 20
    for path in asked:
        fitting = re.compile(re.escape(path.rstrip("/.")).replace(r"\{\}", ".+") + "$")
        assert any(fitting.match(known) for known in described), path


def test_the_key_of_the_log_lets_in_until_somebody_has_a_password(client: TestClient, options: Options) -> None:
    assert login(client, key="another") == 401
    assert login(client, key=options.console_key) == 200
    assert client.get("/api/me").json()["role"] == "operator"
    set_password(options.settings.users, "ada", PASSWORD, "operator")
    assert client.get("/api/me").json() == {"name": None, "role": None, "first": False}
    assert login(client, key=options.console_key) == 401
    assert login(client, "ada", PASSWORD) == 200
    assert client.get("/api/me").json()["name"] == "ada"


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(client: TestClient, options: Options) -> None:
    answer = client.post("/api/login", json={"key": options.console_key}, headers=ORIGIN)
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "secure" not in cookie  # over plain HTTP no browser would send it back
    assert answer.headers["cache-control"] == "no-store"


def test_strict_headers_come_with_every_answer(client: TestClient) -> None:
    for path in ("/", "/app.js", "/api/me", "/nowhere"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"


def test_a_scan_of_everything_finds_nothing_to_complain_about(client: TestClient, options: Options) -> None:
    """The passive rules of ZAP's baseline scan, on every call that is described and every file."""
    login(client, key=options.console_key)
    described = client.get("/api/openapi.json").json()["paths"]
    static = [f"/{file.name}" for file in (Path(access.__file__).parent / "static").iterdir()]
    slow = ("/api/state", "/api/events", "still.jpg")  # they ask a stream, which is not there
    asked = [p.replace("{", "").replace("}", "") for p in described if not p.endswith(slow)]
    for path in (
        "/",
        *static,
        *asked,
        "/nowhere",
        "/api/nowhere",
        "/..%2faccess.py",
        "/api/people/%2e%2e",
        "/?<script>",
    ):
        for method in ("GET", "HEAD", "PUT", "TRACE", "OPTIONS"):
            answer = client.request(method, path, headers=ORIGIN)
            headers, kind = answer.headers, answer.headers.get("content-type", "")
            assert method in ("GET", "HEAD") or answer.status_code in (404, 405), (method, path)
            assert answer.status_code < 500 or path == "/api/live", (method, path, answer.text)
            assert "default-src 'none'" in headers["content-security-policy"], path
            assert "frame-ancestors 'none'" in headers["content-security-policy"], path
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["cross-origin-opener-policy"] == "same-origin"
            assert headers["cross-origin-resource-policy"] == "same-origin"
            assert headers["permissions-policy"]
            assert not {"server", "x-powered-by", "access-control-allow-origin"} & set(headers), path
            assert not path.startswith("/api/") or headers["cache-control"] == "no-store", path
            assert not kind.startswith("text/") or "charset=utf-8" in kind, (path, kind)
            assert "Traceback" not in answer.text
            assert 'File "/' not in answer.text
            assert "set-cookie" not in headers, path


def test_nothing_comes_from_elsewhere() -> None:
    static = Path(access.__file__).parent / "static"
    for file in static.iterdir():
        text = file.read_text()
        outside = text.replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in outside, file
        assert "https://" not in outside, file
        assert "innerHTML" not in text, file
    page = (static / "index.html").read_text()
    assert "<script>" not in page
    assert "style=" not in page


@pytest.mark.parametrize(
    "origin", [None, "http://evil.example", "http://127.0.0.1:9", "https://127.0.0.1:8480", "null"]
)
def test_another_origin_changes_nothing(client: TestClient, options: Options, origin: str | None) -> None:
    assert login(client, key=options.console_key) == 200
    headers = {} if origin is None else {"origin": origin}
    assert client.post("/api/logout", headers=headers).status_code == 403
    assert client.delete("/api/people/Ada", headers=headers).status_code == 403
    assert client.get("/api/me").json()["name"] is not None
    with pytest.raises(WebSocketDisconnect) as refused, client.websocket_connect("/api/live", headers=headers):
        pass
    assert refused.value.code == 1008


def test_only_known_hosts_are_answered(client: TestClient) -> None:
    assert client.get("/", headers={"host": "evil.example"}).status_code == 421  # DNS rebinding
    assert client.get("/", headers={"host": "box.lan:8480"}).status_code == 200
    assert client.get("/", headers={"host": "BOX.LAN"}).status_code == 200
    assert host_name("[::1]:8480") == "::1"
    assert host_name("") == ""


def test_a_viewer_looks_and_changes_nothing(client: TestClient, options: Options) -> None:
    set_password(options.settings.users, "guest", PASSWORD, "viewer")
    assert login(client, "guest", PASSWORD) == 200
    assert client.get("/api/settings").status_code == 200
    assert client.get("/api/people").json() == {"people": [], "undo": None}
    for method, path in (("DELETE", "/api/people/Ada"), ("PATCH", "/api/settings"), ("POST", "/api/pictures")):
        answer = client.request(method, path, headers=ORIGIN, json={})
        assert answer.status_code == 403
        assert "operator" in answer.json()["error"]
    set_password(options.settings.users, "guest", PASSWORD, "operator")  # takes effect, and ends the session
    assert client.get("/api/settings").status_code == 401


def test_a_session_ends_with_logout_password_and_time(client: TestClient, options: Options) -> None:
    set_password(options.settings.users, "ada", PASSWORD, "operator")
    login(client, "ada", PASSWORD)
    stolen = dict(client.cookies)
    assert client.post("/api/logout", headers=ORIGIN).status_code == 200
    client.cookies.update(stolen)
    assert client.get("/api/settings").status_code == 401
    users = Users(options.settings.users)
    sessions = Sessions(users, b"x", "", set())
    now = time.time()
    cookie = sessions.open("ada", now)
    assert sessions.read(cookie, now) is not None
    assert sessions.read(cookie, now + access.SESSION_S + 1) is None
    assert Sessions(users, b"another", "", set()).read(cookie, now) is None
    set_password(options.settings.users, "ada", PASSWORD + "!", "operator")
    assert sessions.read(cookie, now) is None


@pytest.mark.parametrize("cookie", ["", ".", "a.b", "W10.W10", "é.é", "x" * 5000, "bnVsbA.bnVsbA"])
def test_what_is_no_cookie_of_ours_is_nobody(options: Options, cookie: str) -> None:
    assert prepare(options).sessions.read(cookie, time.time()) is None


def test_guessing_is_slowed_down(client: TestClient, options: Options) -> None:
    set_password(options.settings.users, "ada", PASSWORD, "operator")
    answers = [login(client, "ada", "wrong password") for _ in range(access.ATTEMPTS + 1)]
    assert answers == [401] * access.ATTEMPTS + [429]
    assert login(client, "ada", PASSWORD) == 429  # the right one too, or it would be told by the answer
    attempts = Attempts()
    for number in range(access.ALL_ATTEMPTS):
        attempts.failed(f"10.0.0.{number}", 0.0)
    assert attempts.wait_s("10.1.1.1", 1.0) > 0  # from many addresses
    assert attempts.wait_s("10.1.1.1", access.ATTEMPTS_S + 1) == 0


def test_too_much_and_nonsense_is_refused(client: TestClient, options: Options) -> None:
    login(client, key=options.console_key)
    assert client.post("/api/pictures", content=b"", headers=ORIGIN).status_code == 400
    headers = {**ORIGIN, "content-length": str(1 << 40)}
    assert client.post("/api/pictures", content=b"x", headers=headers).status_code == 413

    def endless() -> Iterator[bytes]:
        for _ in range(25):
            yield b"x" * (1 << 20)

    assert client.post("/api/pictures", content=endless(), headers=ORIGIN).status_code == 413
    for body in (b"", b"{", b"[]", b'{"version": 3}', b"[" * 100_000, b'{"name": "' + b"x" * 300_000 + b'"}'):
        kind = {**ORIGIN, "content-type": "application/json"}
        assert client.patch("/api/settings", content=body, headers=kind).status_code in (400, 413), body[:20]
    assert client.patch("/api/settings", content=b"{}", headers=ORIGIN).status_code == 415
    assert client.get("/api/events/x").status_code == 404


def test_passwords_are_kept_as_argon2_for_the_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "page.users"
    set_password(path, "ada", PASSWORD, "operator")
    assert PASSWORD not in path.read_text()
    assert load_users(path)["ada"].hash.startswith("$argon2id$")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for name, password in (("ada", "short"), ("a b", PASSWORD), ("", PASSWORD), ("ada", "x" * 2000)):
        with pytest.raises(UserError):
            set_password(path, name, password, "operator")
    with pytest.raises(UserError, match="no user 'eve'"):
        remove_user(path, "eve")
    remove_user(path, "ada")
    assert load_users(path) == {}


def test_a_damaged_file_of_users_lets_nobody_in(tmp_path: Path, options: Options) -> None:
    Path(options.settings.users).write_text('{"users": {"ada": {"role": "root", "hash": ""}}}')
    with pytest.raises(ConfigError, match=r"page\.users"):
        prepare(options)


def test_the_command_sets_lists_and_removes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    users = tmp_path / "page.users"
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{PASSWORD}\n"))
    done = call("runtime/page_password.py", "ada", "--users", users)
    assert done.returncode == 0, done.stderr
    assert PASSWORD not in done.stdout
    assert "ada\toperator" in call("runtime/page_password.py", "--list", "--users", users).stdout
    monkeypatch.setattr("sys.stdin", io.StringIO("short\n"))
    assert_user_error(call("runtime/page_password.py", "bo", "--users", users), "at least 10")
    assert_user_error(call("runtime/page_password.py", "--users", users), "name")
    assert call("runtime/page_password.py", "ada", "--remove", "--users", users).returncode == 0
    assert_user_error(call("runtime/page_password.py", "ada", "--remove", "--users", users), "no user 'ada'")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"address": "192.168.1.5"}, "unencrypted"),
        ({"address": "0.0.0.0", "insecure": True}, "hosts"),
        ({"certificate": "page.crt"}, "belong together"),
        ({"self_signed": True}, "name them"),
    ],
)
def test_an_unsafe_page_is_refused_by_the_settings(given: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        PageSettings.model_validate(given)


def test_a_certificate_is_made_for_the_hosts(tmp_path: Path) -> None:
    import ssl

    make_certificate(tmp_path / "page.crt", tmp_path / "page.key", ["box.lan", "192.168.1.5", "::1"])
    assert stat.S_IMODE((tmp_path / "page.key").stat().st_mode) == 0o600
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "page.crt", tmp_path / "page.key")
    with pytest.raises(UserError, match="cannot be written"):
        make_certificate(tmp_path / "page.crt" / "x", tmp_path / "page.key" / "x", [])
