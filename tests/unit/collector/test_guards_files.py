"""The suppression list and the file of keys: what they say, and what a broken one does."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from typer.testing import CliRunner

from collector.guards.files import BrokenFileError
from collector.guards.key_file import read_keys
from collector.guards.suppression import Entry, read_list
from collector.http import CollectorApp, make_app
from collector.settings import CollectorSettings, WriteKey
from collector.sinks.sqlite import SqliteSink
from phasewatch.cli import app as cli
from tests.asgi_client import Client

NOW = 1_795_288_859_000


class Running(Client):
    """A client of a collector whose files are looked at as they are in a server."""

    folder: Path

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text, encoding="utf-8")


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    (tmp_path / "keys.toml").write_text('[[keys]]\nname = "web"\nkey = "old"\n', encoding="utf-8")
    (tmp_path / "list").write_text("# nobody yet\n", encoding="utf-8")
    settings = CollectorSettings(
        keys=(WriteKey(name="ledger", key=SecretStr("sk"), trusted=True),),
        keys_file=tmp_path / "keys.toml",
        suppressed_file=tmp_path / "list",
        linger_ms=0,
    )
    registry, path = CollectorRegistry(), tmp_path / "log.db"
    sink = SqliteSink.open(path, partitions=4, log_id="test", clock=lambda: NOW)
    app = make_app(settings, sink, lambda: NOW, registry=registry)
    client = Running(app, path, registry, {"authorization": "Bearer old"})
    client.folder = tmp_path
    yield client
    await app.close()
    await sink.close()


async def looked(app: CollectorApp) -> None:
    for file in app.files:
        await file.look()


def page(name: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "type": "page", "anonymous_id": "a-1", **more}


async def test_a_key_is_rotated_without_a_refusal(running: Running) -> None:
    old, new = {"authorization": "Bearer old"}, {"authorization": "Bearer new"}
    assert (await running.post([page("1")], headers=new)).status == 401
    running.write("keys.toml", '[[keys]]\nname = "web"\nkey = "old"\n[[keys]]\nname = "web"\nkey = "new"\n')
    await looked(running.app)
    assert [(await running.post([page("2")], headers=one)).status for one in (old, new)] == [200, 200]
    running.write("keys.toml", '[[keys]]\nname = "web"\nkey = "new"\n')
    await looked(running.app)
    assert [(await running.post([page("3")], headers=one)).status for one in (old, new)] == [401, 200]
    assert (await running.post([page("4")], headers={"authorization": "Bearer sk"})).status == 200
    assert {event.source for event in running.events()} == {"web", "ledger"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[keys]\n", "no TOML"),
        ('[[keys]]\nname = "web"\n', "keys.0.key"),
        ('[[keys]]\nname = "web"\nkey = "secret-1"\ncolour = "red"\n', "keys.0.colour"),
        ('[[keys]]\nname = "WEB secret-1"\nkey = "secret-1"\n', "keys.0.name"),
        ('[[keys]]\nname = "web"\nkey = "sk"\n', "same key"),
        ('[[keys]]\nname = "ledger"\nkey = "secret-1"\n', "same name ledger"),
        ('[[keys]]\nname = "web"\nkey = "demo-secret"\n', "demo key"),
        ('key = "secret-1"\n', "key is wrong"),
    ],
)
async def test_a_broken_key_file_keeps_the_old_keys_and_says_so(
    running: Running, logged_errors: list[str], text: str, said: str
) -> None:
    running.write("keys.toml", text)
    await looked(running.app)
    assert (await running.post([page("1")])).status == 200
    note = running.app.note()
    assert note is not None
    assert said in note
    assert "secret-1" not in note
    assert running.metric("file_broken", file="keys") == 1
    assert len(logged_errors) == 1
    await looked(running.app)
    assert len(logged_errors) == 1, "said once"
    running.write("keys.toml", '[[keys]]\nname = "web"\nkey = "old"\n')
    await looked(running.app)
    assert running.app.note() is None
    assert running.metric("file_broken", file="keys") == 0


async def test_a_file_that_is_gone_is_broken(running: Running, logged_errors: list[str]) -> None:
    (running.folder / "keys.toml").unlink()
    await looked(running.app)
    assert (await running.post([page("1")])).status == 200
    assert "cannot be read" in (running.app.note() or "")
    assert logged_errors


def test_a_file_of_keys_needs_one_where_the_settings_have_none() -> None:
    with pytest.raises(BrokenFileError, match="holds no key"):
        read_keys("", ())


async def test_who_is_suppressed_leaves_nothing(running: Running) -> None:
    running.write("list", "user 42\ndevice d-7\n\n# and all of an office\naddress 203.0.113.0/24\n")
    await looked(running.app)
    sent = [
        page("1"),
        page("2", user_id="42", properties={"name": "secret"}),
        page("3", anonymous_id="d-7"),
        page("4", user_id="7", anonymous_id="d-7"),
        {"id": "5", "type": "nonsense", "user_id": 42, "properties": {"name": "secret"}},
        {"id": "6", "type": "nonsense", "user_id": "7", "properties": {"name": "kept"}},
    ]
    answer = (await running.post(sent)).json
    assert (answer["accepted"], answer["rejected"]) == (1, 5)
    found = [(one["index"], one["reason"]) for one in answer["errors"]]
    assert found == [(at, "suppressed") for at in (1, 2, 3, 4)] + [(5, "unknown_type")]
    assert [event.id for event in running.events()] == ["1"]
    assert [one["index"] for one in running.rejected()] == [5]
    assert running.metric("events_rejected_total", source="web", reason="suppressed") == 4
    assert running.metric("events_received_total", source="web") == 6
    stored = (running.folder / "log.db").read_bytes()
    assert b"secret" not in stored


async def test_a_broken_list_keeps_the_old_one(running: Running, logged_errors: list[str]) -> None:
    running.write("list", "user 42\n")
    await looked(running.app)
    running.write("list", "user 43\naddress nowhere secret-1\n")
    await looked(running.app)
    assert (await running.post([page("1", user_id="42")])).json["rejected"] == 1
    assert (await running.post([page("2", user_id="43")])).json["accepted"] == 1
    assert "line 2" in (running.app.note() or "")
    assert "secret-1" not in (running.app.note() or "")
    assert logged_errors


async def test_every_dialect_hears_success(running: Running) -> None:
    running.write("list", "user 42\n")
    await looked(running.app)
    body = {"api_key": "old", "batch": [{"event": "x", "distinct_id": "42", "uuid": "1", "properties": {}}]}
    answer = await running.send("POST", "/batch/", json.dumps(body).encode(), headers={})
    assert (answer.status, answer.json) == (200, {"status": "Ok"})
    assert running.events() == []
    assert running.rejected() == []


def test_suppressed_entries_are_read() -> None:
    text = "user 42\nuser a b\r\n  device d\n#x\n\naddress 2001:DB8::1\n"
    assert list(read_list(text)) == [
        Entry("user", "42"),
        Entry("user", "a b"),
        Entry("device", "d"),
        Entry("address", "2001:db8::1/128"),
    ]


def test_the_command_changes_the_list(tmp_path: Path) -> None:
    path, settings = tmp_path / "list", tmp_path / "phasewatch.toml"
    settings.write_text(f'[collector]\nsuppressed_file = "{path}"\n', encoding="utf-8")

    def run(*arguments: str) -> tuple[int, str]:
        found = CliRunner().invoke(cli, ["suppress", *arguments, "--settings", str(settings)])
        return found.exit_code, found.output

    assert run("add", "user", "42", "43")[0] == 0
    path.write_text("# asked by mail\n" + path.read_text("utf-8"), encoding="utf-8")
    assert run("add", "user", "43")[1].startswith("0 of 1")
    assert run("add", "address", "203.0.113.0/24")[0] == 0
    assert run("add", "address", "nowhere")[0] == 2
    assert run("add", "person", "42")[0] == 2
    assert run("remove", "user", "42")[0] == 0
    assert path.read_text("utf-8") == "# asked by mail\nuser 43\naddress 203.0.113.0/24\n"
    assert json.loads(run("list", "--json")[1])[0] == {"kind": "user", "value": "43"}
    path.write_text("person 42\n", encoding="utf-8")
    assert run("add", "user", "42")[0] == 2
    assert path.read_text("utf-8") == "person 42\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone gives files away")
def test_a_list_that_root_changes_keeps_its_owner(tmp_path: Path) -> None:
    folder, settings = tmp_path / "lists", tmp_path / "phasewatch.toml"
    folder.mkdir()
    os.chown(folder, 12345, 12346)
    settings.write_text(f'[collector]\nsuppressed_file = "{folder}/list"\n', encoding="utf-8")
    for user in ("42", "43"):  # a new list is its folder's owner's
        assert CliRunner().invoke(cli, ["suppress", "add", "user", user, "--settings", str(settings)]).exit_code == 0
        owners = {path.name: (path.stat().st_uid, path.stat().st_gid) for path in folder.iterdir()}
        assert owners == {"list": (12345, 12346), "list.lock": (12345, 12346)}
        os.chown(folder, 0, 0)


async def test_a_second_write_within_the_same_tick_is_seen(running: Running) -> None:
    for number in range(20):
        running.write("list", f"user {number:02}\n")
        await looked(running.app)
        assert (await running.post([page("1", user_id=f"{number:02}")])).json["rejected"] == 1
