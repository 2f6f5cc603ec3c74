"""No secret and nothing personal comes out of a whole run, faults and all, at log level debug."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import signal
import subprocess
from base64 import b64encode
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest

from tests.integration.collector_process import CollectorProcess, bare_environment
from tests.integration.embedded_process import COMMAND, EmbeddedProcess, wait_until
from tests.integration.production import Deployment
from tests.kafka_topics import read_topic
from tests.secured import PASSWORDS, PREFIX, REDIS_PASSWORD, Secured

pytestmark = pytest.mark.services

PARTITIONS = 4
PUBLIC_KEY, TRUSTED_KEY = "pk-Public-4711", "sk-Trusted-0815"
WRONG = {"kafka": "wr0ng-Kafka-Pa55", "redis": "wr0ng-Redis-Pa55", "key": "sk-Wr0ng-Key"}
SECRETS: Final = {
    "public key": PUBLIC_KEY,
    "trusted key": TRUSTED_KEY,
    "Redis's password": REDIS_PASSWORD,
    "wrong": "wr0ng",
    "wrong key": WRONG["key"],
    **{f"Kafka's password of {role}": password for role, password in PASSWORDS.items()},
}
EMAIL, PHONE, TOKEN, CARD = "zhang.wei.4711@example.com", "13812340987", "eyT0kenT0kenT0ken", "6222021234567890128"
PERSONAL: Final = {"e-mail": "zhang.wei.4711", "mobile number": PHONE, "token": TOKEN, "card": CARD}
KEYS = [{"name": "web", "key": PUBLIC_KEY}, {"name": "ledger", "key": TRUSTED_KEY, "trusted": True}]

COMMANDS: Final[list[tuple[tuple[str, ...], dict[str, str]]]] = [
    (("settings", "--json"), {}),
    (("doctor",), {}),
    (("snapshot", "snapshots"), {}),
    (("status",), {"PHASEWATCH_KAFKA__PASSWORD": WRONG["kafka"]}),
    (("person", "1"), {"PHASEWATCH_REDIS__PASSWORD": WRONG["redis"]}),
    (("settings",), {"PHASEWATCH_REDIS__URL": f"redis://user:{WRONG['redis']}@127.0.0.1/0"}),
]
"""What is run at the end, and with which settings that are wrong."""

Said = dict[str, str]
"""What came out, by the place where it did."""


def ask(url: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> str:
    """Return status, headers and body of an answer, whatever it is; nothing where none comes."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        connection.request("GET" if body is None else "POST", path, body, dict(headers or {}))
        answer = connection.getresponse()
        return f"{answer.status} {answer.getheaders()} {answer.read().decode('utf-8', 'replace')}"
    except (OSError, http.client.HTTPException) as error:
        return repr(error)
    finally:
        connection.close()


def abuse(url: str) -> Said:
    """Send what is personal or secret in every place of a request; return the answers to what is malformed."""
    page = {"url": f"https://shop.example/a?email={EMAIL}&mobile={PHONE}&token={TOKEN}", "title": f"Hi {EMAIL}"}
    event = {"type": "submit", "anonymous_id": "device-1", "page": page, "properties": {"note": f"{PHONE} {CARD}"}}
    good = json.dumps([{"id": "s-1", **event}]).encode()
    bad = json.dumps([{"id": f"s-{EMAIL}", **event, "ts": f"{EMAIL} {PHONE}", "password": TOKEN, "ts2": CARD}]).encode()
    agent = {"User-Agent": f"app {EMAIL} {PHONE}", "Referer": page["url"], "Cookie": f"session={TOKEN}"}
    basic = b64encode(f"{WRONG['key']}:".encode()).decode()
    requests: list[tuple[str, str, bytes | None, dict[str, str]]] = [
        ("accepted", "/v1/events", good, {"Authorization": f"Bearer {PUBLIC_KEY}"}),
        ("key in the query", f"/v1/events?key={PUBLIC_KEY}&mail={EMAIL}", good, {}),
        ("wrong key in the query", f"/v1/events?key={WRONG['key']}&token={TOKEN}", good, {}),
        ("rejected", "/v1/events", bad, {"Authorization": f"Bearer {PUBLIC_KEY}"}),
        ("wrong key", "/v1/events", good, {"Authorization": f"Bearer {WRONG['key']}"}),
        ("wrong scheme", "/v1/events", good, {"Authorization": f"Digest {WRONG['key']}"}),
        ("basic", "/v1/batch", good, {"Authorization": f"Basic {basic}"}),
        ("cut short", "/v1/events", good[:-30], {"Authorization": f"Bearer {PUBLIC_KEY}"}),
        ("no JSON", "/v1/events", f"{EMAIL} {PHONE}".encode(), {"Authorization": f"Bearer {PUBLIC_KEY}"}),
        ("no route", f"/{EMAIL}/{PHONE}?token={TOKEN}", None, {}),
        ("no method", f"/v1/events?token={TOKEN}", None, {"Authorization": f"Bearer {TRUSTED_KEY}"}),
        ("bad coding", "/v1/events", good, {"Content-Encoding": "gzip", "Authorization": f"Bearer {PUBLIC_KEY}"}),
        ("other coding", "/v1/events", good, {"Content-Encoding": EMAIL, "Authorization": f"Bearer {PUBLIC_KEY}"}),
        ("capture", "/batch/", json.dumps({"api_key": WRONG["key"], "batch": [event]}).encode(), {}),
        ("packed", f"/sa?project={TOKEN}&data_list={TOKEN}", b"data_list=" + good, {}),
        ("long head", "/v1/events", good, {"X-Long": f"{EMAIL} " * 4000}),
    ]
    return {f"answer to: {name}": ask(url, path, body, agent | own) for name, path, body, own in requests}


class Run:
    """A collector, a worker and a console, over Kafka and Redis; what they say is kept by place."""

    def __init__(self, secured: Secured, directory: Path) -> None:
        self.secured, self.directory, self.said = secured, directory, Said()
        self.open_to_others: list[str] = []
        redis = secured.redis
        self.deployment = Deployment(directory, secured.kafka.ways["secured"], redis.secured_url, partitions=PARTITIONS)
        self.take_role("operator")
        self.environment.update({"PHASEWATCH_COLLECTOR__KEYS": json.dumps(KEYS), "PHASEWATCH_LOGGING__LEVEL": "debug"})
        # PLAIN sends the password itself, which is what a log of requests would show.
        collector = self.environment | secured.environment("collector") | {"PHASEWATCH_KAFKA__SASL_MECHANISM": "PLAIN"}
        self.collector = CollectorProcess(directory, collector, workers=1)

    @property
    def environment(self) -> dict[str, str]:
        return self.deployment.environment

    def take_role(self, role: str) -> None:
        self.environment.update(self.secured.environment(role))

    def live(self) -> None:
        """Start everything, abuse it, and let things fail."""
        self.deployment.create_topics()
        self.take_role("worker")
        self.worker = self.deployment.worker("one")
        self.take_role("console")
        self.console = self.deployment.console()
        self.console.launch()
        self.collector.start()
        self.worker.wait_ready()
        self.console.wait_ready()
        self.said |= abuse(self.collector.url)
        ask(self.console.url, f"/api/persons/{EMAIL}?token={TOKEN}", None, {"Authorization": f"Bearer {TOKEN}"})
        self.said["answers of the console"] = ask(self.console.url, "/api/changes?after=x")
        self.look("while all is well")
        self.lose_kafka()
        self.lose_redis()
        self.take_role("operator")
        with ThreadPoolExecutor(4) as pool:
            for place, text in pool.map(self.command, *zip(*COMMANDS, strict=True)):
                self.said[place] = text

    def lose_kafka(self) -> None:
        """Let Kafka stand still, so that what is accepted is spooled."""
        self.secured.kafka.pause()
        try:
            self.said |= {f"{name}, no Kafka": said for name, said in abuse(self.collector.url).items()}
            self.look("without Kafka")
        finally:
            self.secured.kafka.resume()

    def lose_redis(self) -> None:
        """Let Redis change the password under the worker."""
        redis = self.secured.redis
        redis.ask(f"ACL SETUSER {PREFIX} resetpass >other")
        try:
            redis.ask("CLIENT KILL TYPE normal")
            wait_until(lambda: "redis.password" in str(self.worker.ready()), "the worker notices")
            self.look("without Redis")
        finally:
            redis.ask(f"ACL SETUSER {PREFIX} resetpass >{REDIS_PASSWORD}")

    def look(self, when: str) -> None:
        """Keep what the admin ports show, and the command lines."""
        for name, url in (("collector", self.collector.admin_url), ("worker", f"http://127.0.0.1:{self.worker.port}")):
            for path in ("/metrics", "/readyz"):
                self.said[f"{name}'s {path} {when}"] = ask(url, path)
        started = (self.collector, self.worker, self.console)
        for pid in (*(one.process.pid for one in started), *self.collector.children()):
            self.said[f"command line of {pid}"] = Path(f"/proc/{pid}/cmdline").read_text("utf-8")

    def command(self, words: tuple[str, ...], changed: Mapping[str, str]) -> tuple[str, str]:
        """Run a command, with settings that are wrong; return what it was and what it said."""
        done = subprocess.run(
            [*COMMAND, *words],
            cwd=self.directory,
            env=bare_environment() | self.environment | dict(changed),
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        return f"phasewatch {' '.join(words)} {sorted(changed)}", done.stdout + done.stderr

    def end(self) -> None:
        """Stop everything; what was written is kept, too."""
        with contextlib.suppress(subprocess.TimeoutExpired, AssertionError):
            self.collector.process.send_signal(signal.SIGTERM)
            self.collector.process.wait(30)
        self.collector.close()
        self.deployment.close()
        for path in self.directory.rglob("*"):
            if path.is_file() and path.suffix != ".log":
                self.open_to_others += [str(path)] if path.stat().st_mode & 0o007 else []
            if path.is_file() and "spool" not in path.parts:
                self.said[str(path.relative_to(self.directory))] = path.read_bytes().decode("utf-8", "replace")

    async def read_rejected(self) -> None:
        """Keep topic `rejected`."""
        for record in await read_topic(self.secured.kafka.address, f"{PREFIX}.rejected", 0):
            self.said[f"rejected {record.offset}"] = f"{record.key} {record.value} {record.headers}"


@pytest.fixture(scope="module")
def over_kafka(secured: Secured, tmp_path_factory: pytest.TempPathFactory) -> Said:
    run = Run(secured, tmp_path_factory.mktemp("secrets"))
    try:
        run.live()
    finally:
        run.end()
    assert run.open_to_others == []
    asyncio.run(run.read_rejected())
    return run.said


def leaks(said: Said, planted: Mapping[str, str]) -> list[str]:
    """Return each place where something planted came out, with what stands around it."""
    found = []
    for place, text in said.items():
        for name, value in planted.items():
            at = text.find(value)
            if at >= 0:
                found.append(f"{name} in {place}: …{text[max(0, at - 200) : at + 100]}…")
    return found


def test_the_run_was_a_whole_one(over_kafka: Said) -> None:
    assert "200 " in over_kafka["answer to: accepted"]
    assert "401 " in over_kafka["answer to: wrong key"]
    assert any(place.startswith("rejected ") for place in over_kafka)
    assert any(place.startswith("snapshots/") for place in over_kafka)
    assert all("Authenticated as" in over_kafka[log] for log in ("collector-1.log", "one-1.log", "console-1.log"))
    assert "********" in over_kafka["phasewatch settings --json []"]


def test_no_secret_comes_out(over_kafka: Said) -> None:
    assert leaks(over_kafka, SECRETS) == []


def test_nothing_personal_comes_out(over_kafka: Said) -> None:
    told = {place: said for place, said in over_kafka.items() if not place.startswith("answer to: ")}  # who asked knows
    assert leaks(told, PERSONAL) == []


def test_nothing_comes_out_of_the_embedded_form(tmp_path: Path) -> None:
    process = EmbeddedProcess(tmp_path)
    process.environment = {"PHASEWATCH_COLLECTOR__KEYS": json.dumps(KEYS), "PHASEWATCH_LOGGING__LEVEL": "debug"}
    try:
        process.start()
        said = abuse(process.collector)
        for path in ("/metrics", "/readyz", "/debug", "/debug/requests"):
            said[path] = ask(process.admin, path)
    finally:
        process.close()
    said |= {path.name: path.read_text("utf-8") for path in tmp_path.glob("*.log")}
    assert "200 " in said["answer to: accepted"]
    assert "not known here" in said["/debug/requests"]
    assert leaks(said, {name: value for name, value in SECRETS.items() if "key" in name}) == []
