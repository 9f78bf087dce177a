# `make check` runs everything that CI runs: format, lint, types, layers, tests; and it builds the docs if it can.
PYTHON ?= python

.PHONY: check check-static format lint types layers test full docs docs-if-possible

check: check-static test docs-if-possible

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

# The site, in site/; needs `pip install -e '.[docs]'`, and no network.
docs:
	$(PYTHON) docs/build_site.py

docs-if-possible:
	@if $(PYTHON) -c 'import griffe2md, zensical' 2>/dev/null; then $(MAKE) docs; \
	else echo "The site is not built: pip install -e '.[docs]' brings its generator. Its pages were tested."; fi

full:
	$(PYTHON) -m pytest -q -m full
