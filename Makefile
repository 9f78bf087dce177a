# `make check` runs everything that CI runs: format, lint, types, layers, tests.
PYTHON ?= python

.PHONY: check check-static format lint types layers test full

check: check-static test

check-static: lint types layers

format:
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .

lint:
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .

types:
	$(PYTHON) -m mypy

layers:
	lint-imports

test:
	$(PYTHON) -m pytest -q

full:
	$(PYTHON) -m pytest -q -m full
