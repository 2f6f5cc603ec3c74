# The one way to run, test and check Phasewatch; continuous integration calls the same targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

BIN := .venv/bin
PYTHON_DIRS := collector processors console phasewatch deploy tests bench
QUICK_TESTS := $(wildcard tests/unit tests/property tests/contract)
LOCK := $(BIN)/uv pip compile --quiet --no-emit-index-url --no-header --generate-hashes

# An environment of its own: what looks for known holes must not change what is looked at.
AUDIT := .venv/.audit/bin
PIP_AUDIT := pip-audit==2.10.1

# What the tests need beside Python: words of bootstrap.sh.
PROGRAMS := chromium kafka redis prometheus javac kcat nginx wrk sdks

# What the stamps in .venv stand for: a target installs again only when one of these files has changed.
PINNED := requirements-build.txt pyproject.toml deploy/local/bootstrap.sh

.PHONY: help demo services services-stop test test-long chaos chaos-mutations check bench docs lock audit
help: ## show this list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /  make \1 - /'

demo: .venv/.runtime ## a small fund shop with simulated visitors; ARGS="--seconds N" ends by itself
	@$(BIN)/phasewatch demo $(ARGS)

services: .venv/.runtime ## a real Kafka and Redis on loopback, without containers; ARGS="--kafka-port N --redis-port N"
	@deploy/local/bootstrap.sh kafka redis
	@$(BIN)/python -m deploy.local.developer start $(ARGS)

services-stop: .venv/.runtime ## end these; their data stays in data/services
	@$(BIN)/python -m deploy.local.developer stop

test: .venv/.dev ## the whole suite; nothing is skipped for a missing program
	@deploy/local/bootstrap.sh $(PROGRAMS)
	REQUIRE_SERVICES=1 $(BIN)/pytest -m "not long" $(ARGS)

test-long: .venv/.dev ## the same with the long runs
	@deploy/local/bootstrap.sh $(PROGRAMS)
	REQUIRE_SERVICES=1 $(BIN)/pytest $(ARGS)

chaos: .venv/.dev ## a deployment under load while its parts die; ARGS="--faults 300 --seed N", or --schedule FILE to replay
	@deploy/local/bootstrap.sh kafka redis
	@$(BIN)/python -m tests.chaos.run $(ARGS)

chaos-mutations: .venv/.dev ## does chaos find what is broken on purpose? a table; ARGS="'fence off'" one of them
	@deploy/local/bootstrap.sh kafka redis
	@$(BIN)/python -m tests.chaos.mutations $(ARGS)

check: .venv/.dev ## lint, types, import rules, unit, property and contract tests: under a minute
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --explicit-package-bases $(PYTHON_DIRS)
	$(BIN)/lint-imports
	$(BIN)/pytest -m "not long and not services" $(QUICK_TESTS)

bench: .venv/.dev ## the benchmarks as a table; ARGS="NAME --json" one of them as JSON
	@$(BIN)/python -m bench.run $(ARGS)

docs: .venv/.dev ## write the generated pages of docs/ anew from the code
	$(BIN)/python -m phasewatch.reference
	$(BIN)/python -m deploy.grafana.generate

lock: .venv/.dev ## pin the newest versions that pyproject.toml allows
	$(BIN)/python -m pip install --quiet uv
	$(LOCK) --upgrade --extra dev pyproject.toml -o requirements-dev.txt
	$(LOCK) --upgrade -c requirements-dev.txt pyproject.toml -o requirements.txt
	$(LOCK) --upgrade -c requirements-dev.txt requirements-build.in -o requirements-build.txt

audit: .venv/.dev ## look for known holes in what requirements*.txt pins; asks the advisory database of the package index
	@$(AUDIT)/python -c 'import pip_audit' 2>/dev/null || \
		{ $(BIN)/python -m venv $(dir $(AUDIT)) && $(AUDIT)/python -m pip install --quiet '$(PIP_AUDIT)'; }
	$(AUDIT)/pip-audit --strict --disable-pip --no-deps $(foreach file,$(wildcard requirements*.txt),-r $(file))

.venv/.runtime: requirements.txt $(PINNED)
	@deploy/local/bootstrap.sh requirements.txt
	@touch $@

.venv/.dev: requirements-dev.txt $(PINNED)
	@deploy/local/bootstrap.sh requirements-dev.txt
	@touch $@ .venv/.runtime
