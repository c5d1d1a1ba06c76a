# Each target does the set-up it needs. Starts from Debian 12 or Ubuntu 24.04 (or newer) with
# python3-venv, git and make.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
TORCH ?= torch==2.13.*
# Address of a package index to take torch from; empty: where pip looks anyway.
TORCH_INDEX ?=
ROLES := train,data,eval,serve,provenance,trace,grammar,export,dev,refs

VENV := .venv
BIN := $(VENV)/bin
# The set-up is done again when what it installs changes, and only then.
READY := $(VENV)/ready-$(shell { cat pyproject.toml Makefile; echo '$(TORCH) $(TORCH_INDEX)'; } | sha256sum | cut -c1-16)

# So is the page: its folder is made anew when something in web/ changes.
PAGE := src/diptych/service/page/.built-$(shell find web -type f -not -path '*/node_modules/*' | LC_ALL=C sort | xargs cat | sha256sum | cut -c1-16)

.PHONY: help setup page serve demo test test-all check bench captioners docs serve-docs clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(READY) $(PAGE)  ## .venv with all that a developer needs, and the page

$(READY): pyproject.toml Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'Python 3.11 or newer is needed: make PYTHON=python3.12 ...'; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo 'Python has no venv: apt-get install python3-venv'; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -qq --disable-pip-version-check --upgrade 'pip>=24'
	$(BIN)/python .ci/install_torch.py '$(TORCH)' '$(TORCH_INDEX)'
	$(BIN)/pip install -qq --disable-pip-version-check --editable '.[$(ROLES)]' '$(TORCH)'
	@rm -f $(VENV)/ready-*
	@touch $@

$(PAGE): | $(READY)
	$(BIN)/python .ci/build_page.py
	@touch $@

page: $(PAGE)  ## the page of the server, built from web/

serve: $(READY) $(PAGE)  ## the server with its page: make serve ARGS="--port 8001"
	$(BIN)/diptych serve $(ARGS)

demo: $(READY)  ## words to pictures and back, one page: make demo PROMPT="..." ARGS=--once
	$(BIN)/diptych demo $(if $(PROMPT),"$(PROMPT)") $(ARGS)

test: $(READY) $(PAGE)  ## the tests, without the long proofs
	$(BIN)/python -m pytest -q $(if $(DIPTYCH_SLOW_TENTH),,-m 'not slow')

test-all: $(READY) $(PAGE)  ## the tests with the long proofs
	$(BIN)/python -m pytest -q

check: $(READY)  ## style, types, spelling, rows
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/lint-imports --no-logo
	$(BIN)/basedpyright --warnings
	$(BIN)/codespell

bench: $(READY)  ## one benchmark: make bench NAME=...
	@test -n '$(NAME)' || { echo 'Which one? make bench NAME=...'; ls benchmarks/*.py 2>/dev/null | xargs -r -n1 basename -s .py | sed 's/^/  /'; exit 1; }
	$(BIN)/python -m benchmarks.$(NAME)

captioners: $(READY)  ## the captioners of their time, trained; goes on where it was stopped
	$(BIN)/python -m benchmarks.captioners

docs: $(READY)  ## the documentation, into site/
	$(BIN)/zensical build --clean --strict

serve-docs: $(READY)  ## the documentation, in a browser, rebuilt on each change
	$(BIN)/zensical serve

clean:  ## remove what was built; .venv stays
	rm -rf site dist build demo src/diptych/service/page web/node_modules .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests -name __pycache__ -prune -exec rm -rf {} +
