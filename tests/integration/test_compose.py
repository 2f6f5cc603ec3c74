"""The compose files: valid, closed to the outside, and what they say works, shown with plain processes on loopback."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from console.passwords import hash_password
from deploy.local.services import KAFKA_LIBS, ROOT
from phasewatch.collector_process import ADMIN_PORT as COLLECTOR_ADMIN_PORT
from phasewatch.console_process import ADMIN_PORT as CONSOLE_ADMIN_PORT
from phasewatch.worker_process import ADMIN_PORT as WORKER_ADMIN_PORT
from tests.integration.compose import (
    Composition,
    MissingVariableError,
    composed,
    load,
    seconds,
    server_properties,
)
from tests.integration.embedded_process import wait_until
from tests.services import skip_or_fail

PRODUCTION = ROOT / "docker-compose.yml"
EMBEDDED = ROOT / "deploy/docker-compose.embedded.yml"
BESIDE = ROOT / "deploy/compose.toml"
FILES = [PRODUCTION, EMBEDDED]
PASSWORD = "a-password-of-the-test"
KEYS = {
    "PHASEWATCH_PUBLIC_KEY": "pk-of-the-test",
    "PHASEWATCH_TRUSTED_KEY": "sk-of-the-test",
    "PHASEWATCH_CONSOLE_PASSWORD_HASH": hash_password(PASSWORD),
}
OURS = ("collector", "worker-1", "worker-2", "console", "snapshots")
VISIT = [
    {"type": "page", "page": {"path": "/products"}},
    {"type": "page", "page": {"path": "/products/bond/B-3"}},
    *[{"type": "click", "element": {"text": "Invest"}}] * 4,
]
CHANGE_SECONDS = 60

each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


@pytest.fixture
def services(tmp_path: Path) -> dict[str, Any]:
    found: dict[str, Any] = Composition(PRODUCTION, tmp_path, KEYS).services
    return found


@each_file
def test_it_is_valid_by_the_compose_specification(file: Path) -> None:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
    done = subprocess.run(check, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@each_file
@pytest.mark.parametrize("name", KEYS)
def test_without_a_write_key_it_does_not_start(file: Path, name: str) -> None:
    with pytest.raises(MissingVariableError, match=rf"^{name}: set it in \.env$"):
        load(file, KEYS | {name: ""})


@each_file
def test_only_this_machine_can_reach_it(file: Path) -> None:
    published = [port for one in load(file, KEYS)["services"].values() for port in one.get("ports", [])]
    assert published
    assert [port for port in published if not port.startswith("127.0.0.1:")] == []
    assert len({port.split(":")[1] for port in published}) == len(published)


@each_file
def test_every_service_is_bounded_checked_and_kept(file: Path) -> None:
    document = load(file, KEYS)
    kept = {volume.split(":")[0] for one in document["services"].values() for volume in one.get("volumes", [])}
    assert {name for name in kept if not name.startswith(".")} == set(document["volumes"])
    assert all((file.parent / name).is_dir() for name in kept if name.startswith("."))
    for name, service in document["services"].items():
        assert service["logging"] == {"driver": "local"}, f"{name}: its log would grow without end"
        if name == "topics":
            assert service["restart"] == "no"
            continue
        assert service["restart"] == "unless-stopped", name
        assert seconds(service["healthcheck"]["timeout"]) < seconds(service["healthcheck"]["interval"]), name
        assert {"start_period", "start_interval", "retries"} < set(service["healthcheck"]), name


@each_file
def test_our_processes_can_write_nothing_but_their_own(file: Path) -> None:
    ours = {name: one for name, one in load(file, KEYS)["services"].items() if one["image"] == "phasewatch"}
    assert ours
    for name, service in ours.items():
        assert (service["read_only"], service["tmpfs"], service["cap_drop"]) == (True, ["/tmp"], ["ALL"]), name
        context = (file.parent / service["build"]["context"]).resolve()
        assert (context, (context / service["build"]["dockerfile"]).exists()) == (ROOT, True)


def test_all_processes_have_the_same_settings_but_for_the_worker_s_name(services: dict[str, Any]) -> None:
    found = {name: dict(services[name]["environment"]) for name in (*OURS, "topics")}
    assert [found[name].pop("PHASEWATCH_WORKER__NAME") for name in ("worker-1", "worker-2")] == ["worker-1", "worker-2"]
    assert [environment for environment in found.values() if environment != found["topics"]] == []


def test_prometheus_and_the_health_checks_know_the_ports_that_are_served(services: dict[str, Any]) -> None:
    admin = {
        "collector": COLLECTOR_ADMIN_PORT,
        "worker-1": WORKER_ADMIN_PORT,
        "worker-2": WORKER_ADMIN_PORT,
        "console": CONSOLE_ADMIN_PORT,
    }
    configuration = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text("utf-8"))
    targets = [
        target for job in configuration["scrape_configs"] for one in job["static_configs"] for target in one["targets"]
    ]
    ours = [target for target in targets if target.split(":")[0] in OURS]
    assert sorted(ours) == sorted(f"{name}:{port}" for name, port in admin.items())
    for name, port in admin.items():
        assert f"http://127.0.0.1:{port}/" in services[name]["healthcheck"]["test"][-1]


def test_grafana_finds_what_it_is_provisioned_with(tmp_path: Path) -> None:
    composition = Composition(PRODUCTION, tmp_path, KEYS)
    source = yaml.safe_load(
        composition.mounted("grafana", "/etc/grafana/provisioning/datasources/prometheus.yml").read_text("utf-8")
    )
    (prometheus,) = source["datasources"]
    assert composition.placed(prometheus["url"], "grafana") == f"http://{composition.address('prometheus', 9090)}"
    provider = composition.mounted("grafana", "/etc/grafana/provisioning/dashboards/phasewatch.yml")
    (dashboards,) = yaml.safe_load(provider.read_text("utf-8"))["providers"]
    files = sorted(composition.mounted("grafana", dashboards["options"]["path"]).glob("*.json"))
    found = [json.loads(file.read_text("utf-8")) for file in files]
    assert len({one["uid"] for one in found}) == len(found) >= 3
    for one in found:
        used = set(re.findall(r'"type": "prometheus", "uid": "([^"]*)"', json.dumps(one, sort_keys=True)))
        assert used == {prometheus["uid"]}, one["title"]


@pytest.mark.services
def test_each_variable_of_kafka_is_a_setting_that_this_kafka_knows(services: dict[str, Any]) -> None:
    if not any(KAFKA_LIBS.glob("kafka_*.jar")):
        skip_or_fail("Kafka's jars are not there; `make test` fetches them or says how")
    words = ["java", "-cp", f"{KAFKA_LIBS}/*", "kafka.server.KafkaConfig"]
    page = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout
    known = set(re.findall(r'id="brokerconfigs_([^"]+)"', page))
    given = server_properties(services["kafka"]["environment"])
    assert set(given) - known == set()
    mounts = [volume.split(":")[1] for volume in services["kafka"]["volumes"]]
    assert given["log.dirs"] in mounts, "its log would go with the container"


@pytest.mark.services
def test_each_option_of_prometheus_is_one_that_it_has(
    services: dict[str, Any], require_program: Callable[[str], Path]
) -> None:
    help_text = subprocess.run(
        [require_program("prometheus"), "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    known = set(re.findall(r"--[a-z.-]+", help_text.stdout + help_text.stderr))
    assert {option.partition("=")[0] for option in services["prometheus"]["command"]} <= known


@pytest.fixture
def production(tmp_path: Path) -> Iterator[Composition]:
    with composed(PRODUCTION, tmp_path, KEYS) as composition:
        yield composition


def post(address: str, key: str) -> int:
    """Post somebody's visit and return the status; fails where it is 200 and an event was not taken."""
    events = [{"id": f"e{number}", "user_id": "anna", **event} for number, event in enumerate(VISIT)]
    request = urllib.request.Request(
        f"http://{address}/v1/events", json.dumps(events).encode(), {"Authorization": f"Bearer {key}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert json.load(answer)["accepted"] == len(events)
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@contextmanager
def logged_in(address: str) -> Iterator[httpx.Client]:
    """Yield a client of the console into which the compose file's user has logged in."""
    with httpx.Client(base_url=f"http://{address}", headers={"accept": "text/html"}, trust_env=False) as client:
        assert client.get("/api/changes").headers["location"] == "/login", "nobody gets in without"
        form = re.search(r'name="form" value="([^"]+)"', client.get("/login").text)
        assert form is not None
        sent = {"form": form[1], "name": "admin", "password": PASSWORD}
        assert client.post("/login", data=sent).status_code == 303
        yield client


def decides(client: httpx.Client, person: str) -> bool:
    found = client.get("/api/changes").json()["changes"]
    return (person, "decision") in {(change["person"], change["to"]) for change in found}


@pytest.mark.services
@pytest.mark.timeout(600)
def test_it_comes_up_works_is_watched_and_stops(production: Composition, tmp_path: Path) -> None:
    began = time.monotonic()
    production.up(*OURS, "prometheus")
    for name in (*OURS, "prometheus"):
        production.wait_until_healthy(name)
    print(f"\nup after {time.monotonic() - began:.0f} s")  # noqa: T201 - a figure
    published = production.run("topics", "definitions", "publish", str(ROOT / "processors/definitions/fund-shop.toml"))
    assert published.returncode == 0, published.stderr

    collector = production.address("collector", 8600)
    assert post(collector, "demo") == 401
    assert post(collector, KEYS["PHASEWATCH_PUBLIC_KEY"]) == 200
    with logged_in(production.address("console", 8601)) as client:
        wait_until(lambda: decides(client, "u:anna"), "she decides", CHANGE_SECONDS)
    for name in OURS:
        production.wait_until_healthy(name)

    beside = tmp_path / "my-compose.toml"
    text = BESIDE.read_text("utf-8")
    for change_me, name in (("pk-change-me", "PHASEWATCH_PUBLIC_KEY"), ("sk-change-me", "PHASEWATCH_TRUSTED_KEY")):
        text = text.replace(change_me, KEYS[name])
    beside.write_text(text, encoding="utf-8")
    demo = production.run_beside(beside, "demo", "--people", "20", "--seconds", "3")
    assert demo.returncode == 0, demo.stderr
    assert "is running already: it is used" in demo.stdout
    status = production.run_beside(beside, "status", "--json")
    assert status.returncode == 0, status.stderr
    assert sum(json.loads(status.stdout)["stages"].values()) >= 1

    def targets() -> dict[str, str]:
        found = json.loads(production.get("prometheus", 9090, "/api/v1/targets"))["data"]["activeTargets"]
        return {one["scrapeUrl"]: one["health"] for one in found}

    wait_until(lambda: set(targets().values()) == {"up"}, f"Prometheus reaches all of {targets()}", 60)
    assert len(targets()) >= 3
    rules = json.loads(production.get("prometheus", 9090, "/api/v1/rules"))["data"]["groups"]
    assert [rule["name"] for group in rules for rule in group["rules"] if rule["health"] == "err"] == []
    production.stop()
    for name in OURS:
        # Kafka makes the topic of its groups when the first one is there; until then its client says that none is.
        lines = [json.loads(line) for line in production.log(name).splitlines()]
        found = [line for line in lines if line["level"] == "error" and not line["logger"].startswith("aiokafka")]
        assert found == [], name
        assert production.written(name) == set()


@pytest.mark.services
def test_redis_runs_with_the_settings_that_are_given(production: Composition) -> None:
    production.up("redis")
    production.wait_until_healthy("redis")
    information = production.ask_redis("INFO")
    assert "aof_enabled:1" in information
    assert "maxmemory_policy:noeviction" in information
    assert "maxmemory:2147483648" in information


def test_the_embedded_one_comes_up_works_and_stops(tmp_path: Path) -> None:
    with composed(EMBEDDED, tmp_path, KEYS) as embedded:
        embedded.up("phasewatch")
        embedded.wait_until_healthy("phasewatch")
        assert post(embedded.address("phasewatch", 8600), "demo") == 401
        assert post(embedded.address("phasewatch", 8600), KEYS["PHASEWATCH_PUBLIC_KEY"]) == 200
        with logged_in(embedded.address("phasewatch", 8601)) as client:
            wait_until(lambda: decides(client, "u:anna"), "she decides", CHANGE_SECONDS)
        embedded.stop()
