# One line each; CI runs nothing else. PYTHON=python3.12 make setup picks another interpreter.
.DEFAULT_GOAL := help
.PHONY: help setup check compiled fix test-fast test test-all campaign fuzz rows demo bench docs clean
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
PACKAGES := contract cloud gateway firmware_sim roundsman
TYPED := $(PACKAGES) tests $(if $(wildcard benchmarks/*.py),benchmarks)
# Most of a system test is waiting, so more workers than cores.
WORKERS ?= 6
# What is compiled is kept: of 14 s to collect the tests 9 were compiling, in each worker at each run.
unexport PYTHONDONTWRITEBYTECODE
PYTEST := $(BIN)/pytest -n $(WORKERS) --dist worksteal

help:      ## what can be done
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' Makefile | expand -t 16
setup: .venv/.dev  ## everything that development and tests need
	@bash tests/kit/system_packages.sh
check: .venv/.dev  ## style, types, imports, architecture
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy $(addprefix -p ,$(TYPED)) && $(BIN)/pytest -q tests/architecture
fix: .venv/.dev  ## what a tool can put right
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format .
test-fast: .venv/.dev  ## the cheap half, while you work
	$(PYTEST) $(wildcard tests/unit tests/golden tests/conformance tests/simulation)
test: setup check compiled  ## all that a change must pass
	$(PYTEST) -m "not campaign"
test-all: setup check compiled  ## the long campaigns too
	$(PYTEST)
fuzz: .venv/.dev  ## decoders of bytes from outside under atheris; SECONDS=60 NAME="mcuboot ..."
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[fuzz]'
	$(BIN)/python -m tests.fuzz --seconds $(if $(filter environment% command%,$(origin SECONDS)),$(SECONDS),60) $(NAME)
campaign: .venv/.dev  ## seeded stories of dying programs, judged by what devices lived; N=200 SEED=0
	$(BIN)/python -m tests.campaign $(or $(N),200) --seed $(or $(SEED),0) --workers $(or $(CAMPAIGN_WORKERS),2)
rows: .venv/.dev  ## each row of docs/features.md with its tests
	@$(BIN)/python -m tests.kit.rows
demo: .venv/.demo  ## broker, cloud, gateways, devices and a firmware job; KEEP=1 leaves it running
	@$(BIN)/roundsman demo $(if $(KEEP),--keep)
bench: .venv/.dev  ## the budgets, each beside its reference
	$(BIN)/python -m benchmarks
docs: .venv/.dev  ## write the generated reference pages
	$(BIN)/python -m tests.kit.generated_docs
clean:     ## forget what was built and installed
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist demo-data

compiled: .venv/.dev
	@$(BIN)/python -m compileall -q $(PACKAGES) tests/kit tests/campaign

.venv/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed; say which: make PYTHON=python3.12 ..." >&2; exit 1; }
	@bash tests/kit/make_venv.sh $(PYTHON)
	@touch $@
# A stamp is older than pyproject.toml exactly when something has to be installed again.
.venv/.demo: pyproject.toml | .venv/.python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[cloud,gateway,sim]'
	@touch $@
.venv/.dev: pyproject.toml | .venv/.python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ .venv/.demo
