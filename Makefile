# Start with `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# Two processes on two cores and never more than four: each holds torch, Dagster and MLflow.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: demo up test test-all check bench docs screenshots clean

demo: $(VENV)/installed ## the whole loop on the sample prices
	$(BIN)/stock-assets demo

up: $(VENV)/installed ## database, Dagster and MLflow in the foreground
	$(BIN)/stock-assets up

test: $(VENV)/installed-dev ## the default suite, on the real components
	$(PYTEST) -m "not long"

test-all: $(VENV)/installed-dev ## the default suite and the long tests
	$(PYTEST)

# Definitions are checked on an empty Dagster instance: no database has to run.
check: export DAGSTER_HOME = $(CURDIR)/$(VENV)/dagster
check: $(VENV)/installed-dev ## lint, format, types, the import rule and Dagster's definitions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	mkdir -p $(DAGSTER_HOME)
	echo 'telemetry: {enabled: false}' > $(DAGSTER_HOME)/dagster.yaml
	$(BIN)/dg check toml
	$(BIN)/dg check defs
	$(BIN)/dg list defs --json > /dev/null

bench: $(VENV)/installed-dev ## measurements, as JSON
	$(BIN)/python -m benchmarks

docs: $(VENV)/installed-dev ## update the generated tables of docs/
	$(BIN)/python docs/generate.py

screenshots: $(VENV)/installed-dev ## screenshots for docs/dashboard.md, with Debian's Chromium
	$(BIN)/python docs/screenshots.py

clean: ## remove the environment and all caches, keep the data in .stock_assets
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) --editable '.[dev]'
	touch $@
