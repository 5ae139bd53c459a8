# Every task of the project is one target; `make` alone lists them. What a task needs, it makes sure of first.
#   make test ARGS="tests/unit -k path"      ARGS is handed to the program that the target runs

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
BIN := .venv/bin
# Tests wait for the engine more than they work: a few more at once than there are cores.
WORKERS ?= 3
# The tests start some hundreds of servers, and none of them is to be compiled anew.
unexport PYTHONDONTWRITEBYTECODE
PIP_INSTALL = $(BIN)/pip install --quiet --disable-pip-version-check

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s%s\n", $$1, $$2}' Makefile

demo: .venv/installed engine ## run one container by HTTP, from start to artifact, and clean up
	@image=$$($(BIN)/python scripts/ensure_images.py --demo); $(BIN)/python scripts/demo.py "$$image"

serve: .venv/installed engine ## start the server here (ARGS="--port 3000 --token ...")
	$(BIN)/light-run serve $(ARGS)

test: .venv/installed-dev test-engine ## run all tests, against a real engine
	# In the order they are found: the long ones first, and the short ones of tests/unit to fill up the end.
	# A worker that crashes ends it all: with a new one in its place, loadfile would wait for ever.
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0 $(ARGS)

edges: .venv/installed-dev ## run the unit tests with the oldest and with the newest that setup.cfg allows
	@scripts/ensure-test-tools
	scripts/test-edges $(BIN)/uv $(ARGS)

check: .venv/installed-dev docs ## formatting, lint, types, imports, known holes, scripts, documentation
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	# Temporary folders, subprocesses, words like passwords and random numbers are ruff's: its rules are the same, with a reason at each line.
	$(BIN)/bandit --quiet --recursive light_run --skip B105,B108,B311,B404,B603
	$(BIN)/python scripts/audit.py
	$(BIN)/pre-commit validate-config
	if command -v shellcheck >/dev/null; then shellcheck $$(grep -l '^#!.*sh$$' scripts/* .ci/run); fi

docs: .venv/installed-dev ## build the documentation, build/docs/index.html
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going docs build/docs

format: .venv/installed-dev ## format, and mend what lint can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

engines: .venv/installed-dev test-engine ## run the tests that hold on every engine against each (ARGS="podman docker-userns")
	$(BIN)/python scripts/engines.py $(ARGS)

bench: .venv/installed-dev test-engine ## measure against the bare engine
	$(BIN)/python scripts/bench.py $(ARGS)

soak: .venv/installed-dev test-engine ## kill the server at random moments (ARGS="--minutes 30")
	$(BIN)/python scripts/soak.py $(ARGS)

clean: ## remove the virtual environment, caches and build results
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage
	find light_run tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +

engine:
	@scripts/ensure-engine

test-engine:
	@scripts/ensure-engine --with-runsc
	@scripts/ensure-test-tools
	@$(BIN)/python scripts/ensure_images.py --test

# One environment; a stamp each for the package and for the tools to work on it. Made anew when setup.cfg changes.
.venv/bin/python:
	python3 -c 'import ensurepip' 2>/dev/null || scripts/apt-install python3 python3-venv
	python3 -m venv .venv

.venv/installed: setup.cfg setup.py | .venv/bin/python
	$(PIP_INSTALL) -e .
	@touch $@

.venv/installed-dev: setup.cfg setup.py | .venv/bin/python
	$(PIP_INSTALL) -e '.[dev]'
	@touch .venv/installed $@

.PHONY: help demo serve test edges engines check docs format bench soak clean engine test-engine
