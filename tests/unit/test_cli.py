from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import structlog
import typer
from typer.testing import CliRunner

from collector.sdk import program
from console.passwords import hash_token, is_password
from phasewatch import logs
from phasewatch.cli import Frame, app
from phasewatch.errors import FaultError, ServiceAwayError, StopError, UsageError
from phasewatch.settings_source import load

COMMANDS = {
    "up": ["--data-dir", "--port", "--console-port", "--admin-port", "--settings", "--definitions", "--seconds"],
    "collector": ["--workers", "--port", "--admin-port", "--settings"],
    "console": ["--port", "--admin-port", "--settings"],
    "console-password": ["--generate"],
    "console-token": ["NAME"],
    "topics": ["--check", "--json", "--settings"],
    "demo": ["--settings", "--seconds", "--people"],
    "person": ["--json", "--data-dir", "--settings"],
    "import": ["--more-follows", "--data-dir", "--settings"],
    "status": ["--json", "--data-dir", "--settings"],
    "snapshot": ["--keep", "--every", "--json", "--data-dir", "--settings"],
    "restore": ["--force", "--json", "--data-dir", "--settings"],
    "doctor": ["--json", "--data-dir", "--settings"],
    "balance": ["--days", "--json", "--data-dir", "--settings"],
    "replay": ["--verify", "--from", "--partitions", "--max-cpu", "--json", "--data-dir", "--settings"],
    "settings": ["--json", "--settings"],
    "snippet": ["--key", "--settings"],
    "definitions check": ["--json"],
    "definitions publish": ["--data-dir", "--settings"],
}
"""The contract's commands and their options."""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.chdir(tmp_path)
    return CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_of_the_contract_has_its_options(run: CliRunner, command: str) -> None:
    result = run.invoke(app, [*command.split(), "--help"])
    assert result.exit_code == 0
    assert [option for option in COMMANDS[command] if option not in result.output] == []


def test_the_snippet_is_a_tag_that_browsers_check(run: CliRunner) -> None:
    Path("phasewatch.toml").write_text(
        '[[collector.keys]]\nname = "server"\nkey = "deep"\ntrusted = true\n'
        '[[collector.keys]]\nname = "web"\nkey = "pk"\n',
        encoding="utf-8",
    )
    result = run.invoke(app, ["snippet", "https://collect.shop.example/"])
    assert result.stdout == (
        f'<script src="https://collect.shop.example{program().path}" integrity="{program().integrity}" '
        'crossorigin="anonymous" data-key="pk"></script>\n'
    )
    refused = run.invoke(app, ["snippet", "https://collect.shop.example", "--key", "server"])
    assert refused.exit_code == 2
    assert "public ones: web" in refused.stderr
    assert "deep" not in refused.output


def test_the_snippet_knows_the_file_of_keys(run: CliRunner) -> None:
    Path("phasewatch.toml").write_text('[collector]\nkeys_file = "keys.toml"\n', encoding="utf-8")
    Path("keys.toml").write_text('[[keys]]\nname = "web"\nkey = "pk"\n', encoding="utf-8")
    assert 'data-key="pk"' in run.invoke(app, ["snippet", "https://collect.shop.example"]).stdout
    Path("keys.toml").write_text('[[keys]]\nname = "web"\nkey = ["deep"]\n', encoding="utf-8")
    refused = run.invoke(app, ["snippet", "https://collect.shop.example"])
    assert refused.exit_code == 2
    assert "keys.toml (collector.keys_file): keys.0.key is wrong" in refused.stderr
    assert "deep" not in refused.output


def test_settings_as_json_is_what_programs_read(run: CliRunner) -> None:
    result = run.invoke(app, ["settings", "--json"])
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert rows["collector.port"] == {
        "name": "collector.port",
        "value": 8600,
        "origin": "default",
        "meaning": "The public port; 0 takes any free one.",
    }
    assert rows["collector.keys"]["value"][0]["key"] == logs.MASK


def test_settings_are_shown_with_origin_and_meaning(run: CliRunner, tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text("[log]\npartitions = 4\n")
    result = run.invoke(app, ["settings", "--settings", str(file)])
    assert result.exit_code == 0
    assert f"log.partitions = 4  (file {file})" in result.stdout
    assert "Partitions of topic `events`." in result.stdout


def test_a_wrong_setting_stops_with_one_paragraph(run: CliRunner, tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text("[log]\npartitions = 0\n")
    result = run.invoke(app, ["settings", "--settings", str(file)])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("phasewatch: log.partitions = 0 ")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("arguments", [["no-such-command"], ["settings", "--no-such-option"], ["person"]])
def test_wrong_use_is_exit_code_2(run: CliRunner, arguments: list[str]) -> None:
    assert run.invoke(app, arguments).exit_code == 2


@pytest.mark.parametrize(("error", "code"), [(FaultError, 1), (UsageError, 2), (ServiceAwayError, 3)])
def test_a_reason_to_stop_is_said_and_has_its_exit_code(run: CliRunner, error: type[StopError], code: int) -> None:
    stopping = typer.Typer(cls=Frame)

    @stopping.command()
    def first() -> None:
        raise error("the reason")  # noqa: EM101, TRY003 - the text is what is tested

    @stopping.command()
    def second() -> None: ...

    result = run.invoke(stopping, ["first"])
    assert (result.exit_code, result.stderr) == (code, "phasewatch: the reason\n")


def test_looking_at_settings_loads_no_server() -> None:
    """The command has to answer at once, and a broken part must not hide what is configured."""
    script = (
        "import sys; from typer.testing import CliRunner; from phasewatch.cli import app;"
        "CliRunner().invoke(app, ['settings']);"
        "print([name for name in ('uvicorn', 'faust', 'nicegui', 'aiokafka') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_logs_are_json_lines_and_hide_secrets() -> None:
    out = io.StringIO()
    logs.configure("info", stream=out)
    structlog.get_logger("collector").info("request", write_key="k-1", headers={"Authorization": "Bearer k-1"}, n=3)
    structlog.get_logger("collector").debug("not shown")
    logging.getLogger("library").warning("from a library")
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [(line["event"], line["level"]) for line in lines] == [("request", "info"), ("from a library", "warning")]
    assert lines[0]["n"] == 3
    assert "k-1" not in out.getvalue()


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_a_traceback_shows_no_local_variables(stream: type[io.StringIO], logged_errors: list[str]) -> None:
    out = stream()
    logs.configure("info", stream=out)
    write_key = "k-" + "1" * 9
    try:
        [write_key][len(write_key)]
    except IndexError:
        structlog.get_logger().exception("failed")
    assert "IndexError" in out.getvalue()
    assert write_key not in out.getvalue()
    assert len(logged_errors) == 1


def test_logs_are_readable_at_a_terminal() -> None:
    out = Terminal()
    logs.configure("info", stream=out)
    structlog.get_logger().info("listening", port=8600)
    assert not out.getvalue().startswith("{")
    assert "listening" in out.getvalue()


def test_a_password_is_printed_as_the_settings_want_it(run: CliRunner, tmp_path: Path) -> None:
    result = run.invoke(app, ["console-password", "anna"], input="a long password of hers\n")
    assert result.exit_code == 0, result.output
    assert "a long password" not in result.output
    made_up = run.invoke(app, ["console-password", "bert", "--generate"])
    password = made_up.output.splitlines()[0].rpartition(": ")[2]
    token = run.invoke(app, ["console-token", "report"])
    (tmp_path / "phasewatch.toml").write_text(result.output + made_up.output + token.output)
    console = load()[0].console
    found = {user.name: user.password_hash.get_secret_value() for user in console.users}
    assert is_password("a long password of hers", found["anna"])
    assert is_password(password, found["bert"])
    (program,) = console.api_tokens
    assert program.token_hash.get_secret_value() == hash_token(token.output.splitlines()[0].rpartition(": ")[2])
    shown = run.invoke(app, ["settings", "--json"]).output
    assert [one for one in (*found.values(), program.token_hash.get_secret_value()) if one in shown] == []


@pytest.mark.parametrize(
    ("arguments", "typed", "said"),
    [
        (["console-password", "anna"], "short\n", "12 to 1,024 characters"),
        (["console-password", "anna"], "", "12 to 1,024 characters"),
        (["console-password", "no name at all", "--generate"], "", "name"),
        (["console-token", "'"], "", "name"),
    ],
)
def test_what_can_be_no_password_or_name_is_said(run: CliRunner, arguments: list[str], typed: str, said: str) -> None:
    result = run.invoke(app, arguments, input=typed)
    assert result.exit_code == 2
    assert said in result.output
