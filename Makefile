# Every target makes .venv by itself: a clone with Python 3.11+ and make is all it takes.
#   make demo      the whole pipeline on the shipped experts, ending with its table
#   make test      all tests
#   make oldest    all tests, with the lowest versions that pyproject.toml allows
#   make check     formatting, lint, types
#   make bench     what the figures in benchmarks/README.md were measured with
#   make experts   train the shipped experts again and replace them
#   make clean     remove caches, builds and the demo's workspace

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO := workspace-demo
OLDEST := .venv-oldest

.PHONY: help install demo test oldest check bench experts clean
.DEFAULT_GOAL := help

help:
	@sed -n '2,8s/^#   //p' Makefile

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { \
	  echo "$(PYTHON) is not installed. skilldistill needs Python 3.11 or newer: make PYTHON=/path/to/python3 ..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "skilldistill needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.11 ..."; exit 1; }
	@echo "installing into $(VENV) (a minute or two the first time) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP)
	@rm -rf $(DEMO)
	$(BIN)/skilldistill --workspace $(DEMO) run --preset quick --yes

# One thread per worker: two workers' threads would wait for one another.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

# Matplotlib's oldest warns with newer pyparsings, and a warning fails a test.
oldest:
	$(PYTHON) -m venv $(OLDEST)
	sed '1,/^\[project\]/d' pyproject.toml | grep -o '"[a-z][a-z0-9-]*>=[0-9.]*"' \
	  | sed 's/"//g; s/>=/==/' > $(OLDEST)/lowest.txt
	echo 'pyparsing<3.3' >> $(OLDEST)/lowest.txt
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check -c $(OLDEST)/lowest.txt -e '.[dev]'
	OMP_NUM_THREADS=1 $(OLDEST)/bin/python -m pytest -n auto

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(STAMP)
	@missed=; for script in duel experts distill finetune ablation; do \
	  echo "== benchmarks/$$script.py"; \
	  $(BIN)/python benchmarks/$$script.py || missed="$$missed $$script"; done; \
	  [ -z "$$missed" ] || { echo "missed a bar:$$missed"; exit 1; }

experts: $(STAMP)
	$(BIN)/python benchmarks/make_experts.py

clean:
	rm -rf $(DEMO) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find skilldistill tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
