# `make demo` and `make test` set everything up by themselves: environment, ComfyUI, browser.
# A pipe fails where any of its commands does.
SHELL := bash
.SHELLFLAGS := -o pipefail -c
ifneq ($(words $(CURDIR)),1)
$(error The path of this folder has a blank in it, "$(CURDIR)", which make cannot carry: move it to a path without)
endif
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
# ComfyUI trees and small checkpoints; `make clean` removes them.
export RESPODIFF_CACHE ?= $(CURDIR)/.cache
# A slow network is waited for; pip knows these, wherever it is called.
export PIP_RETRIES ?= 10
export PIP_DEFAULT_TIMEOUT ?= 60
export RESPODIFF_HOSTS ?= 0.30.0 0.18.2

# Parts run beside each other, the longest first, each on one thread: two threads on such small tensors mostly wait for
# each other. More than two need more memory than 24 GB.
JOBS ?= 2
PYTEST := OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python -m pytest
ifeq ($(RESPODIFF_HOSTS),none)
PARTS := trainer unit
else
PARTS := trainer comfyui page unit
endif
TESTS := $(PARTS:%=test-%)
LOGS := out/test-logs

MATRIX_HOSTS ?= 0.24.0

# How many files `make fuzz` throws at each reader of strangers' files.
RUNS ?= 1000000

# A part of the tests: its lines as they come, with its name before each, and all of them in a log.
define run_part
@mkdir -p $(LOGS)
@$(PYTEST) -q -p progress $(1) 2>&1 | tee $(LOGS)/$(@:test-%=%).log | sed -u "s/^/$$(printf '%-9s' $(@:test-%=%))/"
endef

.PHONY: demo test test-unit test-trainer test-comfyui test-page lint format bench fuzz faults soak matrix matrix-libraries matrix-comfyui browser clean

demo: .venv/ready
	$(BIN)/respodiff demo

# The temporary folder is the tests' own: whatever they or their libraries leave goes with it, unless they failed.
test: .venv/ready $(if $(filter page,$(PARTS)),browser)
ifeq ($(RESPODIFF_HOSTS),none)
	@echo "RESPODIFF_HOSTS=none: the tests in a real ComfyUI and in its page are left out, as you asked."
endif
	@echo "Tests in $(words $(PARTS)) parts ($(PARTS)), $(JOBS) at a time."
	@rm -rf $(LOGS); TMPDIR=$$(mktemp -d); export TMPDIR; status=0; \
	$(MAKE) --no-print-directory --jobs=$(JOBS) --keep-going $(TESTS) || status=$$?; echo; \
	for part in $(PARTS); do printf '%-8s %s\n' $$part "$$(tail -n 1 $(LOGS)/$$part.log)"; \
		grep -E '^(FAILED|ERROR) ' $(LOGS)/$$part.log | sed 's/^/         /'; done; \
	if [ $$status = 0 ]; then rm -rf "$$TMPDIR"; else echo "What the tests worked with: $$TMPDIR"; fi; \
	echo "Logs: $(LOGS)"; exit $$status

test-unit: .venv/ready
	$(call run_part,tests/unit)

test-trainer: .venv/ready
	$(call run_part,tests/trainer tests/acceptance)

test-comfyui: .venv/ready
	$(call run_part,tests/host)

test-page: .venv/ready browser
	$(call run_part,tests/browser)

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@mkdir -p .cache/types && ln -sfn "$(CURDIR)" .cache/types/respodiff
	MYPYPATH=.cache/types $(BIN)/mypy -p respodiff.respodiff_core -p respodiff.nodes -p respodiff.trainer
	MYPYPATH=.cache/types:benchmarks:tools:tests $(BIN)/mypy --explicit-package-bases benchmarks tools

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/ready
	$(BIN)/python benchmarks/patch_overhead.py
	$(BIN)/python benchmarks/contrast.py
	$(BIN)/python benchmarks/fair_batch.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/evaluation.py
	$(BIN)/python benchmarks/where_time_goes.py
	$(BIN)/python benchmarks/accelerator.py
	$(BIN)/python benchmarks/threads.py
	$(BIN)/python benchmarks/equal_quality.py
	$(BIN)/python benchmarks/training_in_comfyui.py
	$(BIN)/python benchmarks/warm_start.py

fuzz: .venv/ready
	$(BIN)/python tests/fuzz/run.py adapter --runs $(RUNS)
	$(BIN)/python tests/fuzz/run.py torch_file --runs $$(($(RUNS) / 10))
	PYTHONPATH=tests $(BIN)/python tests/fuzz/damaged_bases.py --runs $$(($(RUNS) / 100))
	$(BIN)/python tests/fuzz/run.py q16 --runs $$(($(RUNS) / 10))

faults: .venv/ready
	$(PYTEST) -s tests/endurance/test_kills.py tests/endurance/test_interrupts.py

# The oldest and the newest libraries that pyproject.toml allows, on each Python that is on PATH; about 6 GB a cell.
# `make matrix CELLS="3.10-oldest 3.13-newest"` chooses, and fails where one of their Pythons is missing.
# Then the tests in ComfyUI on versions between those of make test.
matrix: matrix-libraries matrix-comfyui

matrix-libraries: .venv/ready
	$(BIN)/nox -f tests/matrix/noxfile.py $(if $(CELLS),--error-on-missing-interpreters -s $(CELLS))

matrix-comfyui:
	$(MAKE) --no-print-directory test-comfyui RESPODIFF_HOSTS="$(MATRIX_HOSTS)"

# 200 prompts in a row on one ComfyUI, its memory after each in out/soak, and trainings in the graph (half an hour).
soak: .venv/ready
	RESPODIFF_ARTEFACTS="$${RESPODIFF_ARTEFACTS:-out/soak}" $(BIN)/python -m pytest -s \
		tests/endurance/test_soak.py tests/endurance/test_trainings.py

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
