"""The console's door behind a real server: who gets in, for how long, and what a browser is told."""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
import subprocess
import tomllib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from prometheus_client import CollectorRegistry

from console import sessions
from console.app import end_streams, make_console_app
from console.door import OPEN_PATHS
from console.login import TRIES, USER_REFILL_SECONDS
from deploy.local.services import ROOT
from phasewatch.console_door import door_fault, serve_console
from phasewatch.errors import UsageError
from phasewatch.serving import Servers
from phasewatch.settings import Console
from tests.integration.embedded_process import free_ports, phasewatch
from tests.unit.console.door import NAME, PASSWORD, TOKEN, TOKENS, USERS, Clock, form_token, log_in
from tests.unit.console.shop import Shop

PATIENCE_SECONDS = 15
AS_PROXY = {"users": USERS, "proxies": ["127.0.0.0/8"], "hosts": ["stats.example"]}
FORWARDED = {"host": "stats.example", "x-forwarded-proto": "https", "x-forwarded-for": "203.0.113.9"}


class House:
    """Consoles over one shop, each with its door; all clients are closed in the end."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.clock = Clock()
        self.registry = CollectorRegistry()
        self.servers = Servers()
        self.apps: list[Any] = []
        self.clients: list[httpx.AsyncClient] = []
        self.address = ""

    async def open(self, *, verify: Any = None, **settings: Any) -> httpx.AsyncClient:
        """Serve a console with these settings and return a client of it that follows no redirect."""
        console = Console.model_validate({"port": 0} | settings)
        self.registry = CollectorRegistry()
        app = make_console_app(
            query=self.shop.query,
            changes=self.shop.log,
            clock=self.shop.clock,
            settings=console,
            seconds=self.clock,
            registry=self.registry,
        )
        self.apps.append(app)
        self.address = await serve_console(self.servers, app, console)
        return self.client(verify=verify)

    def client(self, *, verify: Any = None, **headers: str) -> httpx.AsyncClient:
        """Return another client, with cookies of its own."""
        client = httpx.AsyncClient(
            base_url=self.address, timeout=PATIENCE_SECONDS, verify=verify or True, trust_env=False, headers=headers
        )
        self.clients.append(client)
        return client

    def count(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"phasewatch_console_{name}", labels) or 0

    async def close(self) -> None:
        for client in self.clients:
            await client.aclose()
        for app in self.apps:
            end_streams(app)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.servers.stop()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    shop = Shop(tmp_path)
    await shop.open()
    house = House(shop)
    yield house
    await house.close()
    shop.close()


@pytest.fixture
async def client(house: House) -> httpx.AsyncClient:
    """Of a console with users."""
    return await house.open(users=USERS, api_tokens=TOKENS)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 - what another task does sets no event here
            await asyncio.sleep(0.01)


def paths(house: House) -> set[str]:
    """Return a path of each route that is documented."""
    return {path.replace("{id}", "u:1") for path in house.apps[-1].openapi()["paths"]}


async def test_on_loopback_without_users_nobody_is_asked(house: House) -> None:
    client = await house.open()
    assert (await client.get("/")).status_code == 200
    assert "leave" not in (await client.get("/")).text
    assert (await client.get("/api/stages")).status_code == 200
    assert (await client.get("/login")).status_code == 404
    assert (await client.post("/login", data={"name": NAME})).status_code == 404


async def test_a_name_that_somebody_made_mean_this_machine_is_refused_everywhere(house: House) -> None:
    client = await house.open()
    for path in ("/", "/api/stages", "/api/changes/stream", "/page/main.js", "/openapi.json", "/nowhere"):
        answer = await client.get(path, headers={"host": "evil.example:8601"})
        assert (answer.status_code, answer.json()["code"]) == (421, "unknown_host"), path
    assert house.count("refused_total", code="unknown_host") == 6


async def test_without_users_nothing_is_answered_through_a_proxy(house: House) -> None:
    client = await house.open()
    for header in ("x-forwarded-for", "forwarded", "via", "x-real-ip", "cf-connecting-ip"):
        answer = await client.get("/api/stages", headers={header: "203.0.113.9"})
        assert (answer.status_code, answer.json()["code"]) == (403, "through_proxy"), header
    host, port = house.address.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /api/stages HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")  # as nginx asks unless told otherwise
    assert b" 403 " in await reader.readline()
    writer.close()
    await writer.wait_closed()


async def test_with_users_nothing_but_the_way_in_is_open(house: House, client: httpx.AsyncClient) -> None:
    assert len(paths(house)) >= 6
    for path in (*paths(house), "/", "/openapi.json", "/page/main.js", "/page/login.html", "/logout", "/nowhere"):
        answer = await client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (401, "login_needed"), path
        assert answer.headers["www-authenticate"].startswith("Bearer")
        seen = await client.get(path, headers={"accept": "text/html,*/*"})
        assert (seen.status_code, seen.headers["location"]) == (303, "/login"), path
    for path in OPEN_PATHS:
        assert (await client.get(path)).status_code == 200
    assert (await client.post("/logout")).status_code == 401


async def test_a_login_opens_everything_until_the_logout(house: House, client: httpx.AsyncClient) -> None:
    answer = await log_in(client)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = next(one for one in answer.headers.get_list("set-cookie") if one.startswith("phasewatch="))
    value, *attributes = cookie.split("; ")
    assert set(attributes) == {"HttpOnly", "Path=/", "SameSite=lax"}, "it goes with the browser"
    assert len(value) >= len("phasewatch=") + 43
    page = await client.get("/")
    assert page.headers["cache-control"] == "no-store"
    for path in ("/api/stages", "/openapi.json", "/page/main.js"):
        assert (await client.get(path)).status_code == 200
    assert (await client.get("/page/login.html")).status_code == 404
    assert (await client.get("/login")).headers["location"] == "/"
    form = re.search(r'name="form" value="([^"]+)"', page.text)
    assert form is not None
    other = house.client()
    other.cookies.update(client.cookies)
    left = await client.post("/logout", data={"form": form[1]})
    assert (left.status_code, left.headers["location"]) == (303, "/login")
    assert "phasewatch" not in client.cookies
    assert (await other.get("/api/stages")).status_code == 401, "a copy of the cookie is worth nothing any more"
    assert house.count("logins_total", result="ok") == 1


async def test_each_login_has_an_id_of_its_own_and_ends_the_one_before(house: House, client: httpx.AsyncClient) -> None:
    await log_in(client)
    first = client.cookies["phasewatch"]
    token = await form_token(house.client())
    client.cookies.set("phasewatch-form", token)
    answer = await client.post("/login", data={"form": token, "name": NAME, "password": PASSWORD})
    assert answer.status_code == 303
    second = answer.cookies["phasewatch"]
    assert first != second
    assert (await house.client(cookie=f"phasewatch={first}").get("/api/stages")).status_code == 401
    assert (await house.client(cookie=f"phasewatch={second}").get("/api/stages")).status_code == 200


@pytest.mark.parametrize(
    ("name", "password"),
    [(NAME, "wrong"), (NAME, ""), ("", ""), ("nobody", PASSWORD), ("bert", PASSWORD), (NAME.upper(), PASSWORD)],
)
async def test_who_is_wrong_is_not_told_what_was_wrong(
    house: House, client: httpx.AsyncClient, name: str, password: str
) -> None:
    answer = await log_in(client, name, password)
    assert (answer.status_code, "Name or password is wrong." in answer.text) == (403, True)
    assert "phasewatch" not in client.cookies
    assert (await client.get("/api/stages")).status_code == 401
    assert house.count("logins_total", result="wrong") == 1


async def test_a_wrong_try_is_logged_without_what_was_typed(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    structlog.configure(
        processors=[structlog.processors.JSONRenderer()],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    with caplog.at_level(logging.INFO):
        await log_in(client, NAME, "her-secret-typed-wrong")
        await log_in(client, "her-password-typed-as-name", "x")
        await log_in(client)
    lines = [record.getMessage() for record in caplog.records if record.name == "console.login"]
    assert ["wrong" in line for line in lines] == [True, True, False]
    assert ['"user": "anna"' in line for line in lines] == [True, False, True]
    text = "\n".join(record.getMessage() for record in caplog.records)
    for secret in ("her-secret", "her-password", PASSWORD, client.cookies["phasewatch"]):
        assert secret not in text


async def test_tries_of_an_address_are_counted_and_come_back(house: House, client: httpx.AsyncClient) -> None:
    for number in range(TRIES):
        assert (await log_in(client, f"nobody-{number}", "wrong")).status_code == 403
    refused = await log_in(client)
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) == 60
    assert "Too many attempts" in refused.text
    assert house.count("logins_total", result="throttled") == 1
    house.clock.now += 60
    assert (await log_in(client)).status_code == 303


async def test_tries_of_a_name_are_counted_wherever_they_come_from(house: House) -> None:
    """A name that nobody has is answered the same, so that nobody learns who is a user."""
    await house.open(**AS_PROXY)
    for name in (NAME, "nobody"):
        for number in range(TRIES):
            away = house.client(**FORWARDED | {"x-forwarded-for": f"203.0.113.{number}"})
            assert await _tried(away, name, "wrong") == 403
        away = house.client(**FORWARDED | {"x-forwarded-for": "198.51.100.1"})
        assert await _tried(away, name, PASSWORD) == 429
    assert await _tried(away, "bert", "B" * 20) == 303, "others are not held up"
    house.clock.now += USER_REFILL_SECONDS
    assert await _tried(away, NAME, PASSWORD) == 303


async def _tried(client: httpx.AsyncClient, name: str, password: str) -> int:
    """Log in behind a TLS proxy: httpx itself speaks http, and would keep a Secure cookie to itself."""
    page = await client.get("/login")
    form = re.search(r'name="form" value="([^"]+)"', page.text)
    assert form is not None
    cookie = {"cookie": f"__Host-phasewatch-form={form[1]}"}
    sent = {"form": form[1], "name": name, "password": password}
    return (await client.post("/login", data=sent, headers=cookie)).status_code


async def test_many_tries_at_once_are_no_way_around(house: House, client: httpx.AsyncClient) -> None:
    token = await form_token(client)
    sent = {"form": token, "name": NAME, "password": "wrong"}
    answers = await asyncio.gather(*(client.post("/login", data=sent) for _ in range(3 * TRIES)))
    assert sorted(answer.status_code for answer in answers) == [403] * TRIES + [429] * 2 * TRIES
    assert house.count("logins_total", result="wrong") == TRIES


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ],
)
async def test_a_form_of_another_site_logs_nobody_in_or_out(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    answer = await log_in(client, **headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "cross_site")
    assert (await log_in(client)).status_code == 303
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    assert (await client.post("/logout", headers=sent)).status_code == 403
    assert (await client.get("/api/stages")).status_code == 200


async def test_a_form_without_its_token_does_nothing(house: House, client: httpx.AsyncClient) -> None:
    right = {"name": NAME, "password": PASSWORD}
    assert (await client.post("/login", data=right)).status_code == 403
    token = await form_token(client)
    for form in ("", "x", token[:-1], "\N{SNOWMAN}"):
        assert (await client.post("/login", data=right | {"form": form})).status_code == 403
    assert (await house.client().post("/login", data=right | {"form": token})).status_code == 403, "another browser's"
    assert (await log_in(client)).status_code == 303
    assert (await client.post("/logout", data={"form": token})).status_code == 403
    assert (await client.get("/api/stages")).status_code == 200


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"a" * 10_000, b"&".join(b"a=%d" % n for n in range(50)), b"form"])
async def test_a_form_that_is_none_does_nothing(client: httpx.AsyncClient, body: bytes) -> None:
    await form_token(client)
    assert (await client.post("/login", content=body)).status_code == 403


async def test_a_session_ends_when_it_is_idle_and_in_any_case(house: House) -> None:
    client = await house.open(users=USERS, session_idle_minutes=10, session_hours=1)
    await log_in(client)
    house.clock.now += 599
    assert (await client.get("/api/stages")).status_code == 200
    house.clock.now += 600
    assert (await client.get("/api/stages")).status_code == 401
    await log_in(client)
    for _ in range(7):
        house.clock.now += 500
        assert (await client.get("/api/stages")).status_code == 200
    house.clock.now += 100
    assert (await client.get("/api/stages")).status_code == 401


@pytest.mark.parametrize("end", ["logout", "time"])
async def test_a_stream_ends_with_its_session(
    house: House, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr(sessions, "LOOK_SECONDS", 0.01)
    await log_in(client)
    async with client.stream("GET", "/api/changes/stream") as stream:
        lines = stream.aiter_lines()
        assert await anext(lines) == "retry: 1000"
        await house.shop.decide("u:1")
        async for line in lines:
            if line == "event: change":
                break
        if end == "logout":
            form = re.search(r'name="form" value="([^"]+)"', (await client.get("/")).text)
            assert form is not None
            await client.post("/logout", data={"form": form[1]})
        else:
            house.clock.now += 30 * 60
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert [line async for line in lines if line.startswith("event")] == []
    assert (await client.get("/api/changes/stream")).status_code == 401


async def test_a_program_shows_its_token(client: httpx.AsyncClient) -> None:
    right = {"authorization": f"Bearer {TOKEN}"}
    for path in ("/api/stages", "/api/changes", "/openapi.json"):
        assert (await client.get(path, headers=right)).status_code == 200
        for wrong in (f"Bearer {TOKEN}x", "Bearer x", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKENS[0]['token_hash']}"):
            assert (await client.get(path, headers={"authorization": wrong})).status_code == 401
    assert (await client.get("/", headers=right)).status_code == 401, "a program needs no page"
    async with client.stream("GET", "/api/changes/stream", headers=right) as stream:
        assert await anext(stream.aiter_lines()) == "retry: 1000"


async def test_every_answer_has_the_headers_that_protect_it(client: httpx.AsyncClient) -> None:
    answers = [
        await client.get("/login"),
        await client.get("/"),
        await client.get("/api/stages"),
        await client.get("/api/stages", headers={"host": "evil.example"}),
        await log_in(client),
        await client.get("/"),
        await client.get("/nowhere"),
        await client.get("/api/changes?limit=0"),
    ]
    assert [answer.status_code for answer in answers] == [200, 401, 401, 421, 303, 200, 404, 400]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        for rule in ("default-src 'none'", "script-src 'self'", "form-action 'self'", "frame-ancestors 'none'"):
            assert rule in policy
        assert "unsafe" not in policy
        found = {name: answer.headers[name] for name in EXPECTED}
        assert found == EXPECTED
        assert "strict-transport-security" not in answer.headers, "nothing here speaks TLS"
        assert "server" not in answer.headers


EXPECTED = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
    "permissions-policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    "cache-control": "no-store",
}


async def test_behind_a_tls_proxy_the_cookie_is_for_tls_alone(house: House) -> None:
    await house.open(**AS_PROXY)
    away = house.client(**FORWARDED)
    page = await away.get("/login")
    assert "strict-transport-security" in page.headers
    form = re.search(r'name="form" value="([^"]+)"', page.text)
    assert form is not None
    sent = {"form": form[1], "name": NAME, "password": PASSWORD}
    headers = {"cookie": f"__Host-phasewatch-form={form[1]}", "origin": "https://stats.example"}
    answer = await away.post("/login", data=sent, headers=headers)
    assert answer.status_code == 303
    (cookie,) = (one for one in answer.headers.get_list("set-cookie") if one.startswith("__Host-phasewatch="))
    assert set(cookie.split("; ")[1:]) == {"HttpOnly", "Path=/", "SameSite=lax", "Secure"}
    session = {"cookie": cookie.partition(";")[0]}
    assert (await away.get("/api/stages", headers=session)).status_code == 200
    plain = await away.get("/api/stages", headers=session | {"x-forwarded-proto": "http"})
    assert (plain.status_code, plain.json()["code"]) == (403, "without_tls")


@pytest.fixture
def certificate(tmp_path: Path, require_program: Callable[[str], Path]) -> tuple[Path, Path]:
    """A certificate for this machine, and its key."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = [str(require_program("openssl")), "req", *kind, *names, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return certificate, key


@pytest.mark.services
async def test_with_its_own_certificate_it_speaks_tls_alone(house: House, certificate: tuple[Path, Path]) -> None:
    trusted, old = (ssl.create_default_context(cafile=str(certificate[0])) for _ in range(2))
    client = await house.open(verify=trusted, users=USERS, tls_certificate=certificate[0], tls_key=certificate[1])
    assert house.address.startswith("https://")
    answer = await log_in(client)
    assert answer.status_code == 303
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    (cookie,) = (one for one in answer.headers.get_list("set-cookie") if one.startswith("__Host-phasewatch="))
    assert set(cookie.split("; ")[1:]) == {"HttpOnly", "Path=/", "SameSite=lax", "Secure"}
    assert (await client.get("/api/stages")).status_code == 200
    plain = house.client()
    plain.base_url = httpx.URL(house.address.replace("https", "http"))
    with pytest.raises(httpx.TransportError):
        await plain.get("/login")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(httpx.ConnectError):
        await house.client(verify=old).get("/login")


async def test_a_certificate_that_cannot_be_used_is_said(house: House, tmp_path: Path) -> None:
    for text in (None, "no certificate"):
        if text is not None:
            (tmp_path / "c.pem").write_text(text)
        with pytest.raises(UsageError, match=r"TLS needs a certificate.*c\.pem"):
            await house.open(users=USERS, tls_certificate=tmp_path / "c.pem", tls_key=tmp_path / "k.pem")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "console.users"),
        ({"users": USERS}, "console.tls_certificate"),
        ({"users": USERS, "hosts": ["stats.example"]}, "console.proxies"),
    ],
)
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "stats.example", ""])
def test_off_loopback_it_needs_users_and_tls(host: str, settings: dict[str, Any], said: str) -> None:
    fault = door_fault(Console.model_validate({"host": host} | settings))
    assert fault is not None
    assert said in fault
    assert "docs/console.md" in fault


@pytest.mark.parametrize(
    "settings",
    [
        {"host": "127.0.0.1"},
        {"host": "localhost"},
        {"host": "::1", "users": USERS},
        {"host": "0.0.0.0", "users": USERS, "proxies": ["10.0.0.2"]},
        {"host": "0.0.0.0", "users": USERS, "tls_certificate": "c.pem", "tls_key": "k.pem"},
        {"host": "0.0.0.0", "users": USERS, "allow_plain_http": True},
    ],
)
def test_with_what_it_needs_it_may_listen_anywhere(settings: dict[str, Any]) -> None:
    assert door_fault(Console.model_validate(settings)) is None


def test_nothing_starts_that_would_be_open_to_others(tmp_path: Path) -> None:
    (tmp_path / "phasewatch.toml").write_text(
        "[console]\nhost = '0.0.0.0'\n[[collector.keys]]\nname = 'a'\nkey = 'k'\n"
    )
    done = phasewatch("up", "--port", "0", "--console-port", "0", "--admin-port", "0", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("phasewatch: console.host is 0.0.0.0, where others reach it")
    assert done.stderr.count("\n") == 1


def from_the_page(language: str) -> list[str]:
    """Return the blocks of docs/console.md in a language."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs/console.md").read_text("utf-8"), re.DOTALL)


class Nginx:
    """An nginx with one server of docs/console.md, on this machine."""

    def __init__(self, program: Path, directory: Path, server: str) -> None:
        names = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = "".join(f"{name}_temp_path {directory};" for name in names)
        file = directory / "nginx.conf"
        head = f"daemon off; pid {directory}/pid; error_log {directory}/error.log; events {{}}"
        file.write_text(f"{head} http {{ access_log off; {temporary} {server} }}", encoding="utf-8")
        self._process = subprocess.Popen([program, "-p", str(directory), "-c", str(file)], stderr=subprocess.DEVNULL)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE_SECONDS)


@pytest.mark.services
async def test_the_page_s_nginx_and_settings_work_together(
    house: House, certificate: tuple[Path, Path], tmp_path: Path, require_program: Callable[[str], Path]
) -> None:
    settings = tomllib.loads(next(one for one in from_the_page("toml") if "proxies" in one))["console"]
    assert settings.keys() == {"host", "hosts", "proxies", "users"}
    settings |= {"host": "127.0.0.1", "proxies": ["127.0.0.1"], "users": USERS}
    await house.open(**settings)
    console = house.address.removeprefix("http://")
    (public,) = free_ports(1)
    (server,) = from_the_page("nginx")
    for written, here in (
        ("443", f"127.0.0.1:{public}"),
        ("/etc/nginx/stats.example.pem", str(certificate[0])),
        ("/etc/nginx/stats.example.key", str(certificate[1])),
        ("10.0.0.5:8601", console),
    ):
        assert written in server
        server = server.replace(written, here)
    nginx = Nginx(require_program("nginx"), tmp_path, server)
    try:
        house.address = f"https://127.0.0.1:{public}"
        trusted = ssl.create_default_context(cafile=str(certificate[0]))
        browser = house.client(verify=trusted, host="stats.example", origin="https://stats.example")
        await until_it_answers(browser)
        answer = await log_in(browser)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert "__Host-phasewatch" in browser.cookies
        async with browser.stream("GET", "/api/changes/stream") as stream:
            lines = stream.aiter_lines()
            assert await anext(lines) == "retry: 1000"
            await house.shop.decide("u:1")
            async with asyncio.timeout(PATIENCE_SECONDS):
                assert [line async for line in first_event(lines)]
        assert (await house.client(verify=trusted, host="evil.example").get("/login")).status_code == 421
        faked = house.client(verify=trusted, host="stats.example", x_forwarded_for="127.0.0.1")
        assert (await faked.get("/api/stages")).status_code == 401
    finally:
        nginx.close()


async def first_event(lines: AsyncIterator[str]) -> AsyncIterator[str]:
    async for line in lines:
        if line == "event: change":
            yield line
            return


async def until_it_answers(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                await client.get("/login")
            except httpx.TransportError:
                await asyncio.sleep(0.02)
            else:
                return


@pytest.mark.services
async def test_an_nginx_before_a_console_without_users_lets_nobody_in(
    house: House, tmp_path: Path, require_program: Callable[[str], Path]
) -> None:
    """The shortest that can be written: it sends the upstream's name as Host, and no header of its own."""
    await house.open()
    (public,) = free_ports(1)
    server = f"server {{ listen 127.0.0.1:{public}; location / {{ proxy_pass {house.address}; }} }}"
    nginx = Nginx(require_program("nginx"), tmp_path, server)
    try:
        house.address = f"http://127.0.0.1:{public}"
        browser = house.client()
        await until_it_answers(browser)
        answer = await browser.get("/")
        assert (answer.status_code, answer.json()["code"]) == (403, "through_proxy")
    finally:
        nginx.close()
