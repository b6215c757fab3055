# `make demo` and `make test` set everything up by themselves: environment, ComfyUI, browser.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
# ComfyUI trees and small checkpoints; `make clean` removes them.
export RESPODIFF_CACHE ?= $(CURDIR)/.cache
# A slow network is waited for; pip knows these, wherever it is called.
export PIP_RETRIES ?= 10
export PIP_DEFAULT_TIMEOUT ?= 60
export RESPODIFF_HOSTS ?= 0.30.0 0.18.2

# Two parts of the tests at a time, each on one core: two threads on such small tensors mostly wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
ifeq ($(RESPODIFF_HOSTS),none)
TESTS := test-alone
else
TESTS := test-in-comfyui test-alone test-acceptance test-in-page  # the longest first
endif

# How many files `make fuzz` throws at each reader of strangers' files.
RUNS ?= 1000000

.PHONY: demo test test-alone test-in-comfyui test-acceptance test-in-page lint format bench fuzz faults soak matrix browser clean

demo: .venv/ready
	$(BIN)/respodiff demo

test: .venv/ready
ifeq ($(RESPODIFF_HOSTS),none)
	@echo "RESPODIFF_HOSTS=none: the tests in a real ComfyUI and in its page are left out, as you asked."
endif
	@echo "$(words $(TESTS)) parts, two at a time, about 20 minutes: what each says comes when it has ended."
	@$(MAKE) --no-print-directory --jobs=2 --keep-going --output-sync=line $(TESTS)

test-alone: .venv/ready
	$(PYTEST) tests/unit tests/trainer

test-in-comfyui: .venv/ready
	$(PYTEST) tests/host

test-acceptance: .venv/ready
	$(PYTEST) tests/acceptance

test-in-page: .venv/ready browser
	$(PYTEST) tests/browser

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@mkdir -p .cache/types && ln -sfn "$(CURDIR)" .cache/types/respodiff
	MYPYPATH=.cache/types $(BIN)/mypy -p respodiff.respodiff_core -p respodiff.nodes -p respodiff.trainer

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/ready
	$(BIN)/python benchmarks/patch_overhead.py
	$(BIN)/python benchmarks/fair_batch.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/evaluation.py
	$(BIN)/python benchmarks/where_time_goes.py
	$(BIN)/python benchmarks/accelerator.py
	$(BIN)/python benchmarks/equal_quality.py

fuzz: .venv/ready
	$(BIN)/python tests/fuzz/run.py adapter --runs $(RUNS)
	$(BIN)/python tests/fuzz/run.py torch_file --runs $$(($(RUNS) / 10))
	$(BIN)/python tests/fuzz/run.py q16 --runs $$(($(RUNS) / 10))

faults: .venv/ready
	$(PYTEST) -s tests/endurance/test_kills.py

# The oldest and the newest libraries that pyproject.toml allows, on each Python that is on PATH; about 6 GB a cell.
# `make matrix CELLS="3.10-oldest 3.13-newest"` chooses; deleting .cache/matrix/<cell> sets one up anew.
matrix:
	PYTHONPATH=tests $(PYTHON) -m matrix.run $(CELLS)

# 200 prompts in a row on one ComfyUI, its memory after each in out/soak (some minutes).
soak: .venv/ready
	RESPODIFF_ARTEFACTS="$${RESPODIFF_ARTEFACTS:-out/soak}" $(BIN)/python -m pytest tests/endurance/test_soak.py

# The stamp is written last: an interrupted set-up is done again.
.venv/ready: tests/requirements.txt pyproject.toml
	@echo "Setting up .venv with pinned dependencies (once; some minutes, about 7 GB) ..."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r tests/requirements.txt
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@

browser:
	@[ -n "$$CHROMIUM" ] || command -v chromium chromium-browser google-chrome >/dev/null || { \
		echo "Installing Chromium for the tests in ComfyUI's page ..."; \
		as_root=; [ "$$(id -u)" = 0 ] || as_root="sudo -n"; \
		apt="$$as_root apt-get -qq -o Acquire::Retries=5 -o DPkg::Lock::Timeout=300"; \
		$$apt update && $$apt install -y chromium >/dev/null; } || { \
		echo "No Chromium found and none could be installed: install one, or set CHROMIUM=/path/to/it."; exit 1; }

clean:
	rm -rf .venv .cache out
