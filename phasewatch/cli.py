"""The command `phasewatch`: what can be typed, what it answers, and how it fails.

Each command imports its own part when it is called, so that `phasewatch settings` does not load a web server.
Exit codes: 0 done, 1 found a difference or a fault, 2 wrong use, 3 a service is away.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from phasewatch import logs
from phasewatch.errors import StopError
from phasewatch.settings import Settings
from phasewatch.settings_source import Given, load

__all__ = ["app"]


class Frame(TyperGroup):
    """Turns a reason to stop into one readable paragraph and its exit code; anything else is a bug and shows itself."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - Typer's own copy of click has no public name for it
        """Run a command."""
        try:
            return super().invoke(ctx)
        except StopError as error:
            typer.secho(f"phasewatch: {error}", err=True, fg=typer.colors.RED if sys.stderr.isatty() else None)
            raise typer.Exit(error.exit_code) from error


app = typer.Typer(
    cls=Frame,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its tracebacks show local variables, and a write key may be one
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Tells which fund customers enter the decision, holding or post-redemption phase, and why.",
    epilog="Exit codes: 0 done, 1 a difference or a fault was found, 2 wrong use, 3 a service is away.",
)
definitions_app = typer.Typer(
    no_args_is_help=True, help="What interactions mean, and the numbers of the rules: one versioned TOML document."
)
app.add_typer(definitions_app, name="definitions")

suppress_app = typer.Typer(
    no_args_is_help=True, help="Who is not recorded: users, devices, addresses; takes effect within seconds."
)
app.add_typer(suppress_app, name="suppress")

SettingsFile = Annotated[
    Path | None,
    typer.Option(
        "--settings",
        metavar="FILE",
        help="Settings file; without it ./phasewatch.toml if there is one. Environment variables "
        "PHASEWATCH_<SECTION>__<KEY> win over the file, options over both.",
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", metavar="DIR", help="Where the log and the states are kept. Default: data (store.data_dir)."
    ),
]
Seconds = Annotated[
    float | None, typer.Option("--seconds", metavar="N", min=0, help="End by itself after N seconds; else on Ctrl-C.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table, for other programs.")]
PortOption = Annotated[
    int | None,
    typer.Option("--port", metavar="PORT", min=0, max=65535, help="Collector's. Default: 8600 (collector.port)."),
]
ConsolePort = Annotated[
    int | None,
    typer.Option(
        "--console-port",
        metavar="PORT",
        min=0,
        max=65535,
        help="The query API's and the live page's. Default: 8601 (console.port).",
    ),
]
AdminPort = Annotated[
    int | None,
    typer.Option(
        "--admin-port",
        metavar="PORT",
        min=0,
        max=65535,
        help="For metrics and readiness. Default: 8630 (admin.port).",
    ),
]


def _settings(
    file: Path | None,
    *,
    data_dir: Path | None = None,
    port: int | None = None,
    console_port: int | None = None,
    admin_port: int | None = None,
    worker_name: str | None = None,
) -> Settings:
    """Return the settings with the command line's options on top, and configure logging by them."""
    options: dict[tuple[str, str], object] = {
        ("store", "data_dir"): data_dir,
        ("collector", "port"): port,
        ("console", "port"): console_port,
        ("admin", "port"): admin_port,
        ("worker", "name"): worker_name,
    }
    overrides: Given = {}
    for (section, key), value in options.items():
        if value is not None:
            overrides.setdefault(section, {})[key] = value
    settings, _ = load(file, overrides)
    os.umask(os.umask(0o077) | 0o007)  # what is written is about people: spool, states, snapshots
    logs.configure(settings.logging.level)
    return settings


@app.command()
def up(
    *,
    settings_file: SettingsFile = None,
    data_dir: DataDir = None,
    port: PortOption = None,
    console_port: ConsolePort = None,
    admin_port: AdminPort = None,
    definitions: Annotated[
        Path | None,
        typer.Option(
            "--definitions",
            metavar="FILE",
            help="Definitions that a new log starts with; without it the fund shop's. An existing log keeps its own: "
            "use `phasewatch definitions publish`.",
        ),
    ] = None,
    seconds: Seconds = None,
) -> None:
    """Run collector, worker and console in one process over SQLite; no servers are needed.

    Without settings it listens on this machine only and accepts the public write key `demo` and the trusted one
    `demo-secret`. Stop it with Ctrl-C; what it has acknowledged is on disk.
    """
    settings = _settings(settings_file, data_dir=data_dir, port=port, console_port=console_port, admin_port=admin_port)
    from phasewatch.embedded import run_up  # noqa: PLC0415 - see the module's docstring

    raise typer.Exit(run_up(settings, definitions=definitions, seconds=seconds))


@app.command()
def demo(
    *,
    settings_file: SettingsFile = None,
    data_dir: Annotated[
        Path, typer.Option("--data-dir", metavar="DIR", help="Where the demo's log and states are kept.")
    ] = Path("data/demo"),
    port: PortOption = None,
    console_port: ConsolePort = None,
    admin_port: AdminPort = None,
    people: Annotated[int, typer.Option("--people", metavar="N", min=1, max=100_000, help="Simulated visitors.")] = 500,
    seconds: Seconds = None,
) -> None:
    """Run everything with a small fund shop and simulated visitors, and print who enters which phase, and why.

    The visitors first live 30 past days, then go on in real time. Open the shop at the address it prints and click
    through it yourself: you appear on the live page like everybody else.
    """
    settings = _settings(settings_file, data_dir=data_dir, port=port, console_port=console_port, admin_port=admin_port)
    from phasewatch.demo import run_demo  # noqa: PLC0415 - see the module's docstring

    raise typer.Exit(run_demo(settings, seconds=seconds, people=people))


@app.command()
def collector(
    *,
    workers: Annotated[
        int,
        typer.Option("--workers", metavar="N", min=1, max=256, help="Processes that share the port; one per core."),
    ] = 1,
    settings_file: SettingsFile = None,
    port: PortOption = None,
    admin_port: Annotated[
        int | None,
        typer.Option(
            "--admin-port",
            metavar="PORT",
            min=0,
            max=65535,
            help="For metrics and readiness of all processes together. Default: 8610 (admin.port).",
        ),
    ] = None,
) -> None:
    """Take events in over Kafka: the production process, started as often as needed behind a load balancer.

    What it answers with 200 is acknowledged by all of Kafka's in-sync copies, or, while Kafka is away, fsynced in the
    spool, which needs a disk that outlives the container (spool.dir). A process that dies is started again.
    Stop it with SIGTERM: requests under way are answered first, for a few seconds at most.
    """
    settings = _settings(settings_file, port=port, admin_port=admin_port)
    from phasewatch.collector_process import run_collector  # noqa: PLC0415 - see the module's docstring

    raise typer.Exit(run_collector(settings, workers=workers))


@app.command()
def worker(
    *,
    settings_file: SettingsFile = None,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="Name among the workers, kept over restarts (worker.name)."),
    ] = None,
    admin_port: Annotated[
        int | None,
        typer.Option(
            "--admin-port", metavar="PORT", min=0, max=65535, help="For metrics and readiness. Default: 8620."
        ),
    ] = None,
) -> None:
    """Fold topic `events` over Kafka and Redis and publish stage changes; start it as often as there are cores.

    Workers share the partitions among them. One that dies loses nothing: another goes on from where the states in
    Redis stand. Stop it with SIGTERM: it finishes its batch, and others take over within a second.
    """
    settings = _settings(settings_file, worker_name=name, admin_port=admin_port)
    from phasewatch.worker_process import run_worker  # noqa: PLC0415 - see the module's docstring

    raise typer.Exit(run_worker(settings))


@app.command()
def console(
    *,
    settings_file: SettingsFile = None,
    port: Annotated[
        int | None, typer.Option("--port", metavar="PORT", min=0, max=65535, help="Default: 8601 (console.port).")
    ] = None,
    admin_port: Annotated[
        int | None,
        typer.Option(
            "--admin-port", metavar="PORT", min=0, max=65535, help="For metrics and readiness. Default: 8640."
        ),
    ] = None,
) -> None:
    """Serve the query API and the live page over Kafka and Redis; start it as often as needed.

    On loopback nobody is asked who he is; elsewhere people log in (console.users), by TLS.
    """
    settings = _settings(settings_file, console_port=port, admin_port=admin_port)
    from phasewatch.console_process import run_console  # noqa: PLC0415 - see the module's docstring

    raise typer.Exit(run_console(settings))


@app.command("console-password")
def console_password(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who is to log in with it.")],
    *,
    generate: Annotated[
        bool, typer.Option("--generate", help="Make a password up and print it, too, instead of asking for one.")
    ] = False,
) -> None:
    """Ask for a password and print the user of it for the settings; the password itself is kept nowhere.

    Read from standard input where that is no terminal.
    """
    from phasewatch.commands.console_access import run_console_password  # noqa: PLC0415 - see the module's docstring

    raise typer.Exit(run_console_password(name, generate=generate))


@app.command("console-token")
def console_token(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Which program is to use it.")],
) -> None:
    """Make a token with which a program asks the console's API, and print what the settings need of it."""
    from phasewatch.commands.console_access import run_console_token  # noqa: PLC0415 - see the module's docstring

    raise typer.Exit(run_console_token(name))


@app.command()
def topics(
    *,
    check: Annotated[bool, typer.Option("--check", help="Only compare; exit code 1 where something differs.")] = False,
    definitions: Annotated[
        Path | None,
        typer.Option(
            "--definitions",
            metavar="FILE",
            help="Definitions that a new log begins with; without it the fund shop's. An existing log keeps its own: "
            "use `phasewatch definitions publish`.",
        ),
    ] = None,
    as_json: AsJson = False,
    settings_file: SettingsFile = None,
) -> None:
    """Create Kafka's topics with the settings that the guarantees need, and show what differs in those there are.

    Of an existing topic it corrects what deletes nothing and can be taken back: a retention or a largest message that
    is too small, min.insync.replicas that is too small, unclean leader election. The number and copies of partitions,
    the kind of time stamps, compaction and compression are only shown: changing them is yours to decide.
    """
    settings = _settings(settings_file)
    from phasewatch.commands.topics import run_topics  # noqa: PLC0415 - see the module's docstring

    raise typer.Exit(run_topics(settings, check=check, as_json=as_json, definitions=definitions))


@app.command()
def person(
    person_id: Annotated[str, typer.Argument(metavar="ID", help="u:USER_ID, a:ANONYMOUS_ID, or a bare user id.")],
    *,
    as_json: AsJson = False,
    settings_file: SettingsFile = None,
    data_dir: DataDir = None,
) -> None:
    """Show everything known about one person: stage, score with its evidence, money, preference, what is due."""
    settings = _settings(settings_file, data_dir=data_dir)
    from phasewatch.commands.person import run_person  # noqa: PLC0415 - see the module's docstring

    raise typer.Exit(run_person(settings, person_id, as_json=as_json))


@app.command("import")
def import_(
    file: Annotated[
        Path,
        typer.Argument(
            exists=True,
            dir_okay=False,
            metavar="FILE",
            help="NDJSON: one native event a line, each with `ts`, in the order of `ts`.",
        ),
    ],
    *,
    more_follows: Annotated[
        bool, typer.Option("--more-follows", help="Another file continues this one: time does not yet become now.")
    ] = False,
    settings_file: SettingsFile = None,
    data_dir: DataDir = None,
) -> None:
    r"""Bring history into the log, as if it had been collected when it happened.

    A line is trusted unless it says `"trusted": false`. Stopped half-way, the same command goes on where it was; it
    works beside a running process. Nothing that follows from imported history is marked actionable.
    """
    settings = _settings(settings_file, data_dir=data_dir)
    from phasewatch.commands.importing import run_import  # noqa: PLC0415 - see the module's docstring

    raise typer.Exit(run_import(settings, file, more_follows=more_follows))


@app.command()
def status(*, as_json: AsJson = False, settings_file: SettingsFile = None, data_dir: DataDir = None) -> None:
    """Show what runs, how far behind it is, how many people are in each stage, and what is due next."""
    settings = _settings(settings_file, data_dir=data_dir)
    from phasewatch.commands.status import run_status  # noqa: PLC0415 - see the module's docstring

    raise typer.Exit(run_status(settings, as_json=as_json))


@app.command()
def snapshot(
    folder: Annotated[Path, typer.Argument(file_okay=False, metavar="FOLDER", help="Where the snapshots are kept.")],
    *,
    keep: Annotated[int, typer.Option("--keep", metavar="N", min=1, help="Newest snapshots that stay there.")] = 4,
    every: Annotated[
        float | None,
        typer.Option(
            "--every", metavar="MINUTES", min=0.01, help="Go on, with one every so many minutes; else only one."
        ),
    ] = None,
    as_json: AsJson = False,
    settings_file: SettingsFile = None,
    data_dir: DataDir = None,
) -> None:
    """Copy the states into a folder, while everything runs, against the total loss of Redis.

    Each partition is copied as it is at one position of its log; `phasewatch restore` and the log from there give the
    states of now. Keep the folder on another machine than Redis, and the log (log.retention_days) longer than the
    oldest snapshot you may need.
    """
    settings = _settings(settings_file, data_dir=data_dir)
    from phasewatch.commands.snapshot import run_snapshot  # noqa: PLC0415 - see the module's docstring

    raise typer.Exit(run_snapshot(settings, folder, keep=keep, every_minutes=every, as_json=as_json))


@app.command()
def restore(
    path: Annotated[
        Path,
        typer.Argument(
            exists=True, file_okay=False, metavar="PATH", help="A snapshot, or a folder of them: then its newest."
        ),
    ],
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Throw away the states that there are. Workers may go on running.")
    ] = False,
    as_json: AsJson = False,
    settings_file: SettingsFile = None,
    data_dir: DataDir = None,
) -> None:
    """Put a snapshot's states into the store; workers fold the log from there, to the states of now.

    Before anything is changed the whole snapshot is checked, and that it fits the log. What was published since the
    snapshot is published again, with the same bytes under the same ids. docs/recovery.md goes through it.
    """
    settings = _settings(settings_file, data_dir=data_dir)
    from phasewatch.commands.restore import run_restore  # noqa: PLC0415 - see the module's docstring

    raise typer.Exit(run_restore(settings, path, force=force, as_json=as_json))


@app.command()
def doctor(*, as_json: AsJson = False, settings_file: SettingsFile = None, data_dir: DataDir = None) -> None:
    """Look for what is wrong, and say what it means and what to do; nothing is changed.

    One line a check: ok, fault, away (it does not answer) or unknown. Exit code 0: nothing is wrong; 1: a fault was
    found; 3: something does not answer, and what could be said without it was said.
    """
    settings = _settings(settings_file, data_dir=data_dir)
    from phasewatch.commands.doctor import run_doctor  # noqa: PLC0415 - see the module's docstring

    raise typer.Exit(run_doctor(settings, settings_file, as_json=as_json))


@app.command("accept-loss")
def accept_loss(
    partition: Annotated[int, typer.Argument(metavar="PARTITION", min=0, help="As /readyz and doctor name it.")],
    *,
    confirmed: Annotated[bool, typer.Option("--yes", help="Do it; else it is only said what would be lost.")] = False,
    settings_file: SettingsFile = None,
) -> None:
    """Let a partition go on whose next records Kafka has deleted before they were folded.

    Only for that: workers were away longer than log.retention_days, or somebody deleted records. Workers may go on
    running; the partition is folded again within 15 seconds. docs/kafka.md says what is lost.
    """
    settings = _settings(settings_file)
    from phasewatch.commands.accept_loss import run_accept_loss  # noqa: PLC0415 - see the module's docstring

    raise typer.Exit(run_accept_loss(settings, partition, confirmed=confirmed))


@app.command()
def replay(
    *,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare the states with what the log makes of them; nothing is changed.")
    ] = False,
    snapshot: Annotated[
        Path | None,
        typer.Option(
            "--from",
            exists=True,
            file_okay=False,
            metavar="SNAPSHOT",
            help="Begin with a snapshot's states instead of the log's begin: for a log that no longer has its begin.",
        ),
    ] = None,
    partitions: Annotated[
        str | None, typer.Option("--partitions", metavar="N,N", help="Only these, such as 1,5. Default: all.")
    ] = None,
    max_cpu: Annotated[
        int,
        typer.Option("--max-cpu", metavar="PERCENT", min=1, max=100, help="So much of one core at most, on average."),
    ] = 50,
    as_json: AsJson = False,
    settings_file: SettingsFile = None,
    data_dir: DataDir = None,
) -> None:
    """Fold the log anew beside a running deployment, and compare: each person, and what was derived, byte by byte.

    Exit code 0: equal; 1: something differs, and it says what; 2: the log no longer has its begin, so name a snapshot;
    3: something does not answer. It needs room in TMPDIR for the states of one partition.
    """
    settings = _settings(settings_file, data_dir=data_dir)
    from phasewatch.commands.replay import run_replay  # noqa: PLC0415 - see the module's docstring

    raise typer.Exit(
        run_replay(
            settings, verifying=verify, partitions=partitions, snapshot=snapshot, max_cpu=max_cpu, as_json=as_json
        )
    )


@app.command()
def balance(
    *,
    days: Annotated[
        int,
        typer.Option(
            "--days",
            metavar="N",
            min=1,
            help="Count the log's last N whole days (UTC) and today; above 3, or on a log that is younger, all of it.",
        ),
    ] = 1,
    as_json: AsJson = False,
    settings_file: SettingsFile = None,
    data_dir: DataDir = None,
) -> None:
    """Count the log's events again, and compare with what the workers say became of each, by source.

    Works beside running workers and changes nothing; it reads some 100,000 events a second. Exit code 1: events are
    missing, or were read twice. What browsers numbered and never delivered is estimated.
    """
    settings = _settings(settings_file, data_dir=data_dir)
    from phasewatch.commands.balance import run_balance  # noqa: PLC0415 - see the module's docstring

    raise typer.Exit(run_balance(settings, days=days, as_json=as_json))


@app.command("settings")
def settings_(*, as_json: AsJson = False, settings_file: SettingsFile = None) -> None:
    """Show every setting with its value, where the value comes from, and what it means; secrets are masked."""
    from phasewatch.commands.settings import run_settings  # noqa: PLC0415 - see the module's docstring

    settings, origins = load(settings_file)
    raise typer.Exit(run_settings(settings, origins, as_json=as_json))


@app.command()
def snippet(
    address: Annotated[str, typer.Argument(metavar="URL", help="The collector's, as visitors' browsers reach it.")],
    *,
    key: Annotated[
        str | None, typer.Option("--key", metavar="NAME", help="Name of a public write key; else the first one.")
    ] = None,
    settings_file: SettingsFile = None,
) -> None:
    """Print the tag that puts this version of autocapture.js on a page, with its `integrity`."""
    settings = _settings(settings_file)
    from phasewatch.commands.snippet import run_snippet  # noqa: PLC0415 - see the module's docstring

    raise typer.Exit(run_snippet(settings, address, key))


DefinitionsFile = Annotated[
    Path, typer.Argument(exists=True, dir_okay=False, metavar="FILE", help="The definitions document, TOML.")
]


@definitions_app.command()
def check(file: DefinitionsFile, *, as_json: AsJson = False) -> None:
    """Check a definitions document; every error is named with its line and what is allowed there."""
    from phasewatch.commands.definitions import run_check  # noqa: PLC0415 - see the module's docstring

    raise typer.Exit(run_check(file, as_json=as_json))


@definitions_app.command()
def publish(file: DefinitionsFile, *, settings_file: SettingsFile = None, data_dir: DataDir = None) -> None:
    """Publish a definitions document; it takes effect at one place in each partition, also while everything runs."""
    settings = _settings(settings_file, data_dir=data_dir)
    from phasewatch.commands.definitions import run_publish  # noqa: PLC0415 - see the module's docstring

    raise typer.Exit(run_publish(settings, file))


SuppressKind = Annotated[str, typer.Argument(metavar="KIND", help="user, device or address.")]
SuppressValues = Annotated[
    list[str], typer.Argument(metavar="VALUE...", help="User ids, anonymous ids, or IP addresses and networks.")
]


@suppress_app.command("add")
def suppress_add(kind: SuppressKind, values: SuppressValues, *, settings_file: SettingsFile = None) -> None:
    """Record nothing more of these; what is in the log already stays."""
    from phasewatch.commands.suppress import change  # noqa: PLC0415 - see the module's docstring

    change(_settings(settings_file), kind, values, add=True)


@suppress_app.command("remove")
def suppress_remove(kind: SuppressKind, values: SuppressValues, *, settings_file: SettingsFile = None) -> None:
    """Record these again."""
    from phasewatch.commands.suppress import change  # noqa: PLC0415 - see the module's docstring

    change(_settings(settings_file), kind, values, add=False)


@suppress_app.command("list")
def suppress_list(*, as_json: AsJson = False, settings_file: SettingsFile = None) -> None:
    """Show who is not recorded."""
    from phasewatch.commands.suppress import show  # noqa: PLC0415 - see the module's docstring

    show(_settings(settings_file), as_json=as_json)
