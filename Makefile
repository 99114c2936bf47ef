# `make quickstart` runs the main job, `make test` the tests; both set up .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest --quiet

# The conformance kit in two halves at once, $(call kit,BACKEND). jax without optimisation compiles
# in a fifth of the time, and what it compiles runs briefly.
KIT = XLA_FLAGS=--xla_backend_optimization_level=0 $(PYTEST) -p harness.conformance.plugin \
    --pyargs harness.conformance --backend
kit = $(KIT) $(1) --share 1/2 & first=$$!; $(KIT) $(1) --share 2/2; second=$$?; \
    wait $$first && exit $$second

.PHONY: quickstart smoke setup check test test-core test-torch test-jax test-run fix bench bench-compare bench-warm \
    clean

quickstart: setup
	$(BIN)/harness run suites/quickstart.yaml

# Every row of the paper at toy size, from scratch; with a folder of data files in
# HARNESS_DATA_DIR on real data, else on what needs no files.
smoke: setup
	rm -rf build/smoke
	$(BIN)/harness run suites/paper-smoke.yaml --root build/smoke

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
	$(call kit,torch)

test-jax: setup
	$(PYTEST) tests/backend_jax
	$(call kit,jax)

test-run: setup
	$(PYTEST) tests/parity tests/run

fix: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Each run is stored under .benchmarks with its commit; SELECT narrows it, as in
# make bench SELECT='-k "W1 and direct"'. torchdyn comes without what it asks for: Jupyter, and
# torchvision, whose build on the package index fails beside a processor-only torch.
bench: setup
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,bench]'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps torchdyn
	$(PYTEST) tests/benchmarks/bench_training_step.py --override-ini python_files='bench_*.py' \
	    --override-ini python_functions='bench_*' --timeout 3600 --benchmark-quiet \
	    --benchmark-autosave $(SELECT)

# make bench-compare A=COMMIT B=COMMIT
bench-compare: setup
	$(BIN)/python tests/benchmarks/compare.py $(A) $(B)

bench-warm: setup
	$(BIN)/python tests/benchmarks/bench_warm_training.py

clean:
	rm -rf $(VENV) build dist
