# `make quickstart` runs the main job, `make test` the tests; both set up .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest --quiet

.PHONY: quickstart setup check test test-core test-torch test-jax test-run fix bench clean

quickstart: setup
	$(BIN)/harness run suites/quickstart.yaml

setup: $(VENV)/ready

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	@long=$$(git ls-files '*.py' | xargs awk 'END {} FNR == 401 {print FILENAME}'); \
	if [ -n "$$long" ]; then echo "files above 400 lines: $$long"; exit 1; fi

# torch and jax never share a process, hence one run of pytest each.
test: test-core test-torch test-jax test-run

test-core: setup
	$(PYTEST) tests/core tests/reports

test-torch: setup
	$(PYTEST) tests/backend_torch
	$(PYTEST) -p harness.conformance.plugin --pyargs harness.conformance --backend torch

test-jax: setup
	$(PYTEST) tests/backend_jax
	$(PYTEST) -p harness.conformance.plugin --pyargs harness.conformance --backend jax

test-run: setup
	$(PYTEST) tests/parity tests/run

fix: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Ratios of interleaved runs; each run is stored under .benchmarks, so two commits can be compared
# with `.venv/bin/pytest-benchmark compare`.
bench: setup
	$(PYTEST) tests/benchmarks --override-ini python_files='bench_*.py' \
	    --override-ini python_functions='bench_*' --timeout 3600 --benchmark-autosave

clean:
	rm -rf $(VENV) build dist
