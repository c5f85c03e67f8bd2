# Two commands on a fresh machine: `make quickstart` runs the main job, `make test` passes the tests.
# Both create .venv and install with the pinned versions first, once; again when pyproject or the pins change.

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
AUDIT := $(VENV)/audit

# The first interpreter that runs and is new enough; `make PYTHON=/path/to/python3.12 test` names another.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$python && break; done)

.PHONY: quickstart test test-all test-gpu lint docs format audit install
.DEFAULT_GOAL := quickstart

quickstart: install
	$(BIN)/mtl-search search search_spaces/quickstart.yaml
	$(BIN)/mtl-search export quickstart

# A process for each core, and a Ray of its own for each that needs one.
test: lint docs
	$(BIN)/python -m pytest -m "not slow" --numprocesses logical --maxprocesses 4 --dist loadfile

# The slow ones one after the other: each has the machine to itself, with a cluster of its own.
test-all: test
	$(BIN)/python -m pytest -m slow

# On a machine with an NVIDIA GPU, or several.
test-gpu: install
	$(BIN)/python -m pytest -m gpu

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# The pages of docs/ as a site in build/docs. A broken link or a page outside the menu is an error.
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

format: install
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# Known vulnerabilities of every pinned version; asks a database on the internet, so no part of the tests; one not looked up fails.
audit: $(AUDIT)/bin/pip-audit
	$(AUDIT)/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict --progress-spinner off

$(AUDIT)/bin/pip-audit: | $(BIN)/python
	$(BIN)/python -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install --quiet 'pip-audit>=2.9,<3'

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,docs]'
	@touch $@

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "no Python 3.11, 3.12 or 3.13 found: make PYTHON=/path/to/python ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
