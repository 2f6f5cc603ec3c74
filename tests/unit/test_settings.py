from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasewatch.access import kafka_access
from phasewatch.demo_processes import as_environment
from phasewatch.errors import UsageError
from phasewatch.settings import Settings, is_loopback
from phasewatch.settings_source import declared, describe, load


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A phasewatch.toml of the developer's must not reach the tests."""
    monkeypatch.chdir(tmp_path)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "settings.toml"
    path.write_text(text)
    return path


def refused(tmp_path: Path, text: str) -> str:
    with pytest.raises(UsageError) as caught:
        load(written(tmp_path, text))
    return str(caught.value)


def test_without_a_file_everything_is_default_and_on_loopback() -> None:
    settings, origins = load()
    assert origins == {}
    assert (settings.collector.port, settings.console.port, settings.admin.port) == (8600, 8601, None)
    assert all(is_loopback(section.host) for section in (settings.collector, settings.console, settings.admin))
    assert [(key.key.get_secret_value(), key.trusted, key.demo) for key in settings.collector.keys] == [
        ("demo", False, True),
        ("demo-secret", True, True),
    ]


def test_the_later_source_wins_and_each_value_knows_where_it_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path, "[log]\npartitions = 8\nretention_days = 7\n[collector.limits]\nevents = 10\n")
    monkeypatch.setenv("PHASEWATCH_LOG__RETENTION_DAYS", "9")
    monkeypatch.setenv("PHASEWATCH_COLLECTOR__LIMITS__DEPTH", "5")
    settings, origins = load(file, {"collector": {"port": 0}})
    assert (settings.log.partitions, settings.log.retention_days) == (8, 9)
    assert (settings.collector.limits.events, settings.collector.limits.depth) == (10, 5)
    assert origins == {
        "log.partitions": f"file {file}",
        "log.retention_days": "environment",
        "collector.limits.events": f"file {file}",
        "collector.limits.depth": "environment",
        "collector.port": "command line",
    }
    shown = {row.name: row.origin for row in describe(settings, origins)}
    assert shown["log.retention_days"] == "environment"
    assert shown["console.port"] == "default"


def test_a_file_of_the_working_directory_is_taken(tmp_path: Path) -> None:
    (tmp_path / "phasewatch.toml").write_text("[log]\npartitions = 4\n")
    settings, origins = load()
    assert settings.log.partitions == 4
    assert origins == {"log.partitions": "file phasewatch.toml"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[collector]\nport = 99999\n", ["collector.port = 99999", "less than or equal to 65535"]),
        ("[log]\npartitions = 'many'\n", ["log.partitions = many", "valid integer"]),
        ("[logging]\nlevel = 'loud'\n", ["logging.level = loud", "'debug'", "'error'"]),
        ("[collector]\nprot = 1\n", ["collector.prot", "no setting", "Is it port?"]),
        ("[colector]\nport = 1\n", ["colector", "no setting", "Is it collector?"]),
        ("[collector.limits]\nevnts = 1\n", ["collector.limits.evnts", "Is it events?"]),
        ("port = 1\n", ["port", "outside any section"]),
        ("[collector\n", ["no TOML", "line 1"]),
        ("[collector]\nkeys = []\n", ["collector.keys", "nobody could write"]),
        ("[collector]\nkeys = 3\n", ["collector.keys", "should be a list"]),
    ],
)
def test_a_wrong_setting_is_named_with_its_value_and_what_is_allowed(
    tmp_path: Path, text: str, said: list[str]
) -> None:
    message = refused(tmp_path, text)
    assert [part for part in said if part not in message] == [], message


def test_all_errors_are_named_at_once(tmp_path: Path) -> None:
    message = refused(tmp_path, "[log]\npartitions = 0\n[admin]\nport = -1\n")
    assert "log.partitions" in message
    assert "admin.port" in message


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        load(tmp_path / "nowhere.toml")


@pytest.mark.parametrize("variable", ["PHASEWATCH_COLECTOR__PORT", "PHASEWATCH_PORT", "PHASEWATCH_COLLECTOR"])
def test_a_mistyped_variable_is_an_error(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(UsageError, match=variable):
        load()


def test_a_mistyped_key_in_the_environment_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHASEWATCH_COLLECTOR__PROT", "1")
    with pytest.raises(UsageError, match=r"collector\.prot \(environment\).*Is it port"):
        load()


def test_lists_in_the_environment_are_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHASEWATCH_COLLECTOR__KEYS", '[{"name": "web", "key": "k-1"}]')
    assert [key.name for key in load()[0].collector.keys] == ["web"]
    monkeypatch.setenv("PHASEWATCH_COLLECTOR__KEYS", "k-1")
    with pytest.raises(UsageError, match="JSON"):
        load()


@pytest.mark.parametrize("section", ["collector", "console", "admin"])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "shop.example", ""])
def test_the_demo_keys_are_for_this_machine_only(tmp_path: Path, section: str, host: str) -> None:
    message = refused(tmp_path, f"[{section}]\nhost = '{host}'\n")
    assert f"{section}.host is {host}" in message
    assert "demo key" in message


def test_own_keys_may_listen_anywhere(tmp_path: Path) -> None:
    text = "[collector]\nhost = '0.0.0.0'\n[[collector.keys]]\nname = 'web'\nkey = 'k-1'\n"
    assert load(written(tmp_path, text))[0].collector.host == "0.0.0.0"


def test_a_demo_key_by_another_name_is_still_one(tmp_path: Path) -> None:
    text = "[collector]\nhost = '0.0.0.0'\n[[collector.keys]]\nname = 'web'\nkey = 'demo-secret'\n"
    assert "demo key" in refused(tmp_path, text)


SECRET = "S3cr3t-that-nobody-may-see"


@pytest.mark.parametrize(
    "text",
    [
        f"[[collector.keys]]\nname = 'Not Allowed'\nkey = '{SECRET}'\n",
        f"[[collector.keys]]\nname = 'web'\nkey = '{SECRET * 20}'\n",
        f"[[collector.keys]]\nkey = '{SECRET}'\n",
        f"[collector]\nkeys = '{SECRET}'\n",
        f"[collector]\nkeys = ['{SECRET}']\n",
        f"[collector.keys]\nweb = '{SECRET}'\n",
        f"[[console.users]]\nname = 'a'\npassword_hash = '{SECRET}'\n",
        f"[[console.users]]\nname = '?'\npassword_hash = '{SECRET}'\n",
        f"[[console.users]]\npassword = '{SECRET}'\n",
        f"[console]\nusers = '{SECRET}'\n",
        f"[[console.api_tokens]]\nname = 'a'\ntoken_hash = '{SECRET}'\n",
        f"[[console.api_tokens]]\nname = 'a'\ntoken = '{SECRET}'\n",
        f"[[collector.keys]]\nname = 'a'\nkey = '{SECRET}'\n[[collector.keys]]\nname = 'b'\nkey = '{SECRET}'\n",
    ],
)
def test_no_error_shows_a_secret(tmp_path: Path, text: str) -> None:
    assert SECRET not in refused(tmp_path, text)


@given(st.text(string.ascii_letters + string.digits, min_size=12, max_size=40).map("pk-{}-7".format))
def test_no_description_shows_a_write_key(secret: str) -> None:
    """The key is given a form that no setting's name or description has by itself."""
    settings = Settings.model_validate({"collector": {"keys": [{"name": "web", "key": secret}]}})
    assert secret not in repr(describe(settings, {}))
    assert secret not in repr(settings)


def test_every_setting_is_declared_with_a_reason() -> None:
    assert [name for name, field in declared() if not field.description] == []


def test_settings_made_in_code_do_not_read_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHASEWATCH_LOG__PARTITIONS", "3")
    assert Settings().log.partitions == 32


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ('[kafka]\nsecurity = "sasl_ssl"', "need kafka.username and kafka.password"),
        ('[kafka]\nusername = "u"\npassword = "pa55"', "kafka.security is plaintext"),
        ('[kafka]\nca_file = "ca.pem"', "without TLS"),
        ('[kafka]\nsecurity = "ssl"\nkey_file = "k.pem"', "kafka.certificate_file and kafka.key_file belong together"),
        ('[redis]\nca_file = "ca.pem"', "redis.url begins with redis://"),
        (
            '[redis]\nurl = "rediss://r/0"\ncertificate_file = "c.pem"',
            "redis.certificate_file and redis.key_file",
        ),
        ('[redis]\nurl = "redis://me:pa55@r/0"', "redis.url = redis://********@r/0"),
        ('[redis]\nurl = "redis://:pa/5 5@r/0"', "redis.url = redis://********@r/0 "),
        ('[redis]\nurl = "redis://r/0?password=pa55"', "redis.url = redis://r/0?******** "),
    ],
)
def test_half_a_way_to_kafka_or_redis_is_refused(tmp_path: Path, given: str, said: str) -> None:
    text = refused(tmp_path, given)
    assert said in text
    assert "pa55" not in text


@pytest.mark.parametrize("field", ["ca_file", "certificate_file"])
def test_a_file_of_certificates_that_is_none_is_said(tmp_path: Path, field: str) -> None:
    file = written(tmp_path, "no certificate")
    given = {"brokers": "k:9093", "security": "ssl", field: file} | ({"key_file": file} if "cert" in field else {})
    with pytest.raises(UsageError, match=rf"kafka\.{field}.*settings\.toml can't be used"):
        kafka_access(Settings.model_validate({"kafka": given}))


def test_a_password_shows_in_no_representation() -> None:
    login = {"security": "sasl_plaintext", "username": "me", "password": "pa55"}
    kafka = kafka_access(Settings.model_validate({"kafka": {"brokers": "k:9092", **login}}))
    assert kafka.options["sasl_plain_password"] == "pa55"
    assert "pa55" not in f"{kafka} {kafka!r}"


def test_the_demo_hands_its_settings_on_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kafka = {"brokers": "k:9093", "security": "sasl_ssl", "username": "me", "password": "pa55", "ca_file": "own ca.pem"}
    settings = Settings.model_validate({"kafka": kafka, "spool": {"dir": tmp_path}, "store": {"data_dir": "data/demo"}})
    for name, value in as_environment(settings).items():
        monkeypatch.setenv(name, value)
    assert load()[0] == settings
