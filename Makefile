# All a fresh machine needs is make and Python 3.10 or newer; everything else goes into .venv.
PYTHON ?= python3
ARGS ?=

INSTALLED := .venv/.installed
RUN := .venv/bin/python -m
PIP := $(RUN) pip install -qq --disable-pip-version-check --constraint constraints.txt

.PHONY: help demo bench truth catalogue pictures docs test lint format types clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(INSTALLED)  ## train a small network and show what is found in it
	@$(RUN) lightning_neurohealth demo

truth: $(INSTALLED)  ## judge the rules by trainings whose truth is known
	@$(RUN) benchmarks.truth $(ARGS)

bench: $(INSTALLED)  ## time watched trainings beside bare ones
	@$(RUN) benchmarks.overhead $(ARGS)

catalogue: $(INSTALLED)  ## write docs/catalogue.md, the page of every measure and rule
	@$(RUN) lightning_neurohealth catalogue > docs/catalogue.md

pictures: $(INSTALLED)  ## draw the README's pictures anew; needs Chromium
	@$(RUN) docs.pictures

docs: $(INSTALLED)  ## build the documentation in site/; a broken link is an error
	@NO_MKDOCS_2_WARNING=true $(RUN) mkdocs --quiet build
	@echo "Open site/index.html"

test: $(INSTALLED)  ## run the tests; pytest's options go in ARGS, as in: make test ARGS="-k on_rate"
	@$(RUN) pytest -n auto --maxprocesses 4 $(ARGS)

lint: $(INSTALLED)  ## check style and formatting
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .

format: $(INSTALLED)  ## fix style and formatting
	@$(RUN) ruff check --fix .
	@$(RUN) ruff format .

types: $(INSTALLED)  ## check the types
	@$(RUN) mypy

clean:  ## remove .venv, caches and what runs left behind
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist site *.egg-info lightning_logs neurohealth_demo
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# PyTorch goes first: it is the large one, and what follows must not choose another.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed, $(PYTHON) is " + sys.version.split()[0] if sys.version_info < (3, 10) else 0)'
	@echo "Setting up .venv; the first time takes a few minutes, most of them for PyTorch."
	@$(PYTHON) -m venv .venv
	@$(PIP) torch
	@echo "PyTorch is installed; now the other packages."
	@$(PIP) --editable '.[dev]'
	@touch $@
