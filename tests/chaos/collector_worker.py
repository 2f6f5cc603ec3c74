"""One accepting process of a collector with a mutation in it: as `python -m phasewatch.collector_worker`."""

from __future__ import annotations

import os
import runpy

from tests.chaos import mutants

if __name__ == "__main__":
    mutants.MUTANTS[os.environ["CHAOS_MUTATION"]]()
    runpy.run_module("phasewatch.collector_worker", run_name="__main__")
