# `make quickstart` runs the main job, `make test` the tests; both set up .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest --quiet

# Without optimisation jax compiles in a fifth of the time, without fusion emitters in half of that,
# in one piece in a tenth less, and what the tests compile runs briefly, once.
QUICK_XLA := XLA_FLAGS='--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false \
    --xla_cpu_parallel_codegen_split_count=1'
KIT_ENVIRONMENT := $(QUICK_XLA) JAX_ENABLE_COMPILATION_CACHE=false
KIT := $(KIT_ENVIRONMENT) $(PYTEST) -p harness.conformance.plugin --pyargs harness.conformance --backend

# Tests that start trials in processes of their own, and those with a framework or a clock.
RUNS := tests/executors tests/records/test_mlflow.py tests/training/test_kill.py tests/measuring/test_kill_measuring.py
OTHERS := tests/backend_torch tests/backend_jax tests/parity tests/original tests/benchmarks \
    tests/certify/libraries

# Two at a time, the longest first. torch and jax never share a process.
TESTS := test-kit-jax-1 test-kit-jax-2 test-original-jax test-jax test-parity test-torch test-run \
    test-original-torch test-core test-kit-torch

.PHONY: quickstart smoke setup check test $(TESTS) original-table fix bench bench-compare bench-warm certify docs published clean

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

test: setup
	+$(MAKE) --jobs=2 --output-sync=target --no-print-directory $(TESTS)

test-core: setup
	$(PYTEST) tests $(addprefix --ignore=,$(OTHERS) $(RUNS))

test-torch: setup
	$(PYTEST) tests/backend_torch

test-jax: setup
	$(QUICK_XLA) $(PYTEST) tests/backend_jax

test-kit-torch: setup
	$(KIT) torch

test-kit-jax-1 test-kit-jax-2: test-kit-jax-%: setup
	$(KIT) jax --share $*/2

# Against what the released code made of 99 small cases; `make original-table` prints both tables.
test-original-torch: setup
	$(PYTEST) tests/original --original-backend torch --original-table build/original-torch.json

test-original-jax: setup
	$(KIT_ENVIRONMENT) $(PYTEST) tests/original --original-backend jax --original-table build/original-jax.json

original-table: test-original-torch test-original-jax
	$(BIN)/python tests/original/reader/original_table.py build/original-torch.json build/original-jax.json

test-parity: setup
	$(PYTEST) tests/parity

test-run: setup
	$(PYTEST) $(RUNS)

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

# docs/certify.md, and whether the faults under docs/upstream still stand. The libraries have a virtual
# environment of their own, which finds torch and jax in .venv: none of them may bring another.
CERTIFY := build/certify
CERTIFIED := flow-matching==1.0.10 torchdyn==1.0.6 torchflows==1.2.1 zuko==1.6.0 \
    lightning-utilities==0.15.3 pytorch-lightning==2.6.6 torchcde==0.2.5 torchmetrics==1.9.0 \
    torchsde==0.2.6 tqdm==4.70.1 trampoline==0.1.2

# The documentation as pages, in build/docs; a link that leads nowhere fails.
docs: setup
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/sphinx-build --fail-on-warning --quiet docs build/docs

certify: setup
	$(PYTHON) -m venv $(CERTIFY)
	$(CERTIFY)/bin/python -m pip install --quiet --no-deps $(CERTIFIED)
	$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
	    > "$$($(CERTIFY)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/venv.pth"
	$(QUICK_XLA) PYTHONPATH='$(CURDIR)' $(CERTIFY)/bin/python tests/certify/libraries/library_table.py docs/certify.md
	PYTHONPATH='$(CURDIR)' $(CERTIFY)/bin/python -m pytest --quiet tests/certify/libraries

# Reports, index and README's table from the records under reports/published; what is committed stays
# as it is.
published: setup
	$(BIN)/python reports/published/make.py

clean:
	rm -rf $(VENV) build dist
