"""How many of a real access log's requests are bots' by their user agents, and which ones are missed.

`python -m bench.bots FILE`: an access log in Apache's combined format, plain or zstd. Beside each other: a naive word
list, the public list of crawlers alone, and what the collector makes of it (docs/context.md). Who behaves like a bot
says what the names do not: a visitor, that is an address with a user agent, who asks for robots.txt, or for ten things
and more and never for a style sheet, a script or an image.
"""

from __future__ import annotations

import io
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import zstandard

from collector.context.bots import bot_class, listed_class
from collector.context.device import SERVER, agent_of

_LINE: Final = re.compile(r'(\S+) \S+ \S+ \[[^]]*\] "(.*?)" \d+ \S+ "(?:.*?)" "(.*?)"?$')
_PART_OF_A_PAGE: Final = re.compile(r"\.(?:css|js|png|jpe?g|gif|ico)\b")
_NAIVE: Final = re.compile("bot|crawl|spider", re.IGNORECASE)
_MANY: Final = 10
_EXAMPLES: Final = 12


class Request(NamedTuple):
    """One line of the log."""

    address: str
    target: str
    user_agent: str


class Share(NamedTuple):
    """What one way finds, in per cent: of requests, of user agents, of requests by who behaves like a bot or not."""

    requests: float
    user_agents: float
    of_bots: float
    of_people: float


def read(path: Path) -> Iterator[Request]:
    """Yield the requests of a log; an empty user agent for a missing one."""
    raw = path.read_bytes()
    if path.suffix == ".zst":
        raw = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(raw)).read()
    for line in raw.decode("latin-1").splitlines():
        found = _LINE.match(line)
        if found is not None:
            yield Request(found[1], found[2], "" if found[3] == "-" else found[3])


def ours(user_agent: str) -> bool:
    """Return whether the collector takes a user agent for a bot's, or for a program's."""
    agent = agent_of(user_agent)
    return agent.bot is not None or agent.device == SERVER


WAYS: Final[dict[str, Callable[[str], bool]]] = {
    "naive words": lambda user_agent: _NAIVE.search(user_agent) is not None,
    "the list alone": lambda user_agent: listed_class(user_agent) is not None,
    "the collector": ours,
}


class Log:
    """The requests of a log, and who among its visitors behaves like a bot."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self.requests = requests
        self.of_agent = Counter(one.user_agent for one in requests)
        visits: dict[tuple[str, str], list[str]] = {}
        for one in requests:
            visits.setdefault((one.address, one.user_agent), []).append(one.target)
        self.bots: Counter[str] = Counter()
        self.people: Counter[str] = Counter()
        for (_, user_agent), targets in visits.items():
            parts = sum(_PART_OF_A_PAGE.search(target) is not None for target in targets)
            if any("robots.txt" in target for target in targets) or (len(targets) >= _MANY and not parts):
                self.bots[user_agent] += len(targets)
            elif parts > 1:
                self.people[user_agent] += len(targets)

    def share(self, is_bot: Callable[[str], bool]) -> Share:
        """Return what one way finds."""
        found = {one for one in self.of_agent if is_bot(one)}
        return Share(
            100 * sum(self.of_agent[one] for one in found) / self.of_agent.total(),
            100 * len(found) / len(self.of_agent),
            100 * sum(self.bots[one] for one in found) / max(self.bots.total(), 1),
            100 * sum(self.people[one] for one in found) / max(self.people.total(), 1),
        )


def _print_examples(title: str, counts: Counter[str], wanted: Callable[[str], bool]) -> None:
    chosen = [(one, count) for one, count in counts.most_common() if wanted(one)]
    print(f"\n{title}: {sum(count for _, count in chosen)} requests, {len(chosen)} user agents")
    for one, count in chosen[:_EXAMPLES]:
        print(f"  {count:5} {bot_class(one) or '-':18} {one[:130] or '(none)'}")


def main(arguments: Sequence[str]) -> int:
    """Print the shares, and examples of each kind of miss."""
    if len(arguments) != 1:
        print(__doc__)
        return 2
    log = Log(list(read(Path(arguments[0]))))
    print(
        f"{len(log.requests)} requests, {len(log.of_agent)} user agents; {log.bots.total()} by who behaves like a bot"
    )
    print(f"{'':18}{'requests':>10}{'agents':>10}{'of bots':>10}{'of people':>10}")
    for name, is_bot in WAYS.items():
        print(f"{name:18}" + "".join(f"{value:9.1f}%" for value in log.share(is_bot)))
    listed = WAYS["the list alone"]
    _print_examples("found beyond the list", log.of_agent, lambda one: ours(one) and not listed(one))
    _print_examples("on the list and not a bot here", log.of_agent, lambda one: listed(one) and not ours(one))
    _print_examples("missed, and behaves like a bot", log.bots, lambda one: not ours(one))
    _print_examples("found, and behaves like people", log.people, ours)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
