# The two commands: `make campaign` and `make test`. Both install what is missing first.

PYTHON ?= python3
LAB    ?= lab/virtual.yaml
PLAN   ?= testplans/six_gpu
ARGS   ?=

SHELL := /bin/sh
BIN   := .venv/bin
# The environment belongs to this place (scripts in it hold absolute paths), to this pyproject.toml and to this lock.
LOCK  := requirements/dev.lock
PLACE := $(shell pwd | sha256sum | cut -c1-8)
KEY   := $(shell cat pyproject.toml $(LOCK) | sha256sum | cut -c1-16)
STAMP := .venv/.installed-$(PLACE)-$(KEY)

.DEFAULT_GOAL := help
.PHONY: help setup campaign test unit lint coverage docs bench clean venv lock

help: ## this list
	@echo "make <target>; variables: LAB=$(LAB) PLAN=$(PLAN) ARGS=\"pytest arguments\" PYTHON=$(PYTHON)"
	@sed -n 's/^\([a-z]*\):.*## /  \1	/p' Makefile

campaign: setup ## bring up LAB, run the campaign PLAN, print verdict and report
	@$(BIN)/hil campaign run $(PLAN) --lab $(LAB) $(ARGS) || { code=$$?; \
	    case $$code in 1) word=FAIL ;; 2) word="configuration error" ;; 3) word=INCONCLUSIVE ;; *) word=ended ;; esac; \
	    echo "$$word: the exit code of hil is $$code; make makes it 2, so CI calls hil campaign run" >&2; exit $$code; }

test: venv ## everything: set-up, linters, unit tests, integration tests (root; 3: not all of it could run here)
	@$(BIN)/python -m tools.run_all_tests

unit: venv ## the fast tests: no root, no Docker, seconds
	@$(BIN)/python -m pytest tests/unit tests/benchmarks -n auto $(ARGS)

lint: venv ## ruff and mypy
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

coverage: venv ## the unit tests, with the share of lines and branches of hil/ that they run
	@$(BIN)/python -m pytest tests/unit tests/benchmarks -q -n auto --cov=hil --cov-branch --cov-report=term:skip-covered \
	    --cov-report=html:reports/out/coverage --cov-report=json:reports/out/coverage.json $(ARGS)

docs: venv ## the documentation as a site, in reports/out/docs; a dead link is an error
	@$(BIN)/python -c 'import material, mkdocs, mkdocstrings' 2>/dev/null || \
	    $(BIN)/python -m pip install -qq --disable-pip-version-check --no-input --no-build-isolation --editable '.[docs]'
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "reports/out/docs/index.html"

bench: setup ## measure what the README promises; writes reports/out/bench.json
	@$(BIN)/python -m tests.benchmarks $(ARGS)

setup: venv ## host packages, container engine, images, payload (idempotent)
	@$(BIN)/hil setup

clean: venv ## remove what killed runs left on this host (`hil clean`)
	@$(BIN)/hil clean

lock: ## the newest versions of all Python packages into requirements/dev.lock, with hashes (UV_DEFAULT_INDEX: another index)
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && $(PYTHON) -m venv "$$scratch" && \
	    "$$scratch/bin/pip" install -qq --disable-pip-version-check uv && \
	    "$$scratch/bin/uv" pip compile pyproject.toml --extra dev --universal --python-version 3.11 --upgrade \
	        --generate-hashes --no-header --no-annotate --quiet --output-file $(LOCK)
	@echo "$(LOCK): $$(grep -c '^[a-zA-Z]' $(LOCK)) packages"

venv: $(STAMP)

ifndef ALONE
$(STAMP): # two at once in one checkout would delete each other's; the second finds it done
	@$(if $(shell command -v flock),flock -o Makefile) $(MAKE) -s ALONE=1 $@
else
$(STAMP):
	@echo "== virtual environment in .venv"
	@command -v $(PYTHON) >/dev/null || { \
	    echo "there is no $(PYTHON); install Python 3.11 or later, or say PYTHON=/path/to/python3" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "$(PYTHON) is older than 3.11; say PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
	    if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	        echo "installing python3-venv"; export DEBIAN_FRONTEND=noninteractive; \
	        apt-get install -y -q --no-install-recommends --no-remove python3-venv >/dev/null 2>&1 || { \
	            apt-get update -q >/dev/null && \
	            apt-get install -y -q --no-install-recommends --no-remove python3-venv >/dev/null; }; \
	    else \
	        echo "Python's venv module is missing: install python3-venv (as root)" >&2; exit 2; \
	    fi; }
	@ls .venv/.installed-$(PLACE)-* >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@rm -f .venv/.installed-*
	@echo "installing Python packages (a minute)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-input --progress-bar off \
	    --require-hashes -r $(LOCK) && \
	    $(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable . || { \
	    echo "pip could not install the Python packages; see above" >&2; exit 2; }
	@touch $@
endif
