"""The page docs/sdks/compatibility.md, from what tests with SDKs have noted: `python -m tests.sdks.matrix FOLDER`.

The tests note what they saw where the environment names a folder: `PHASEWATCH_COMPAT_RESULTS=FOLDER make test-long`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

import msgspec

FOLDER: Final = os.environ.pop("PHASEWATCH_COMPAT_RESULTS", None)
"""Taken out of the environment, because Phasewatch refuses to start with a setting that it does not know."""
PAGE: Final = Path(__file__).parents[2] / "docs" / "sdks" / "compatibility.md"
_HEAD: Final = """\
# Which SDKs were tried

The SDKs themselves, unchanged, drive a real collector: from npm in Chromium and in Node, from PyPI in Python. Between
the two stands something that answers 503, loses answers and resets connections, and the collector is killed and started
again meanwhile. Generated from the results of `make test-long` by `python -m tests.sdks.matrix`.

*Sent* are the events that the SDK was given or made by itself, *delivered* those that it was told or says were taken,
*arrived* those that are in the log, each of them once. What has not arrived the SDK gave up: some repeat nothing, some
not for that long, as their own pages say. What it gave up may have arrived all the same, where only the answer was
lost. What was delivered and is not in the log fails the test that makes this page.

| SDK | version | runtime | phase | sent | delivered | arrived | given up by the SDK |
| --- | --- | --- | --- | ---: | ---: | ---: | ---: |
"""


class Result(msgspec.Struct, frozen=True):
    """What became of the events of one SDK in one phase.

    `sent` were given to the SDK or made by it, `delivered` are those it says arrived, `arrived` those that are in the
    log, `lost_by_sdk` those that it gave up.
    """

    sdk: str
    version: str
    runtime: str
    phase: str
    sent: int
    delivered: int
    arrived: int
    lost_by_sdk: int

    @property
    def row(self) -> str:
        """The result as a row of the page's table."""
        return f"| {' | '.join(str(getattr(self, name)) for name in self.__struct_fields__)} |"


def note(result: Result) -> None:
    """Keep a result in the folder that the environment names, if it names one."""
    if FOLDER is None:
        return
    name = f"{result.runtime}-{result.sdk}-{result.version}-{result.phase}"
    path = Path(FOLDER) / f"{''.join(char if char.isalnum() else '-' for char in name)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.encode(result))


def page(results: list[Result]) -> str:
    """Return the page."""
    rows = [one.row for one in sorted(results, key=lambda one: (one.runtime, one.sdk, one.version, one.phase))]
    return _HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.sdks.matrix FOLDER")
    found = [msgspec.json.decode(file.read_bytes(), type=Result) for file in Path(sys.argv[1]).glob("*.json")]
    PAGE.write_text(page(found), "utf-8")
