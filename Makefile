# Every target makes its own set-up: a fresh clone needs git, Python >= 3.10 and make, nothing else.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo test lint bench pictures clean

$(STAMP): pyproject.toml $(wildcard diag/agent/heap/*.[ch])
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "diagtop needs Python 3.10 or newer; call make PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/diagtop --demo

test: $(STAMP)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	$(BIN)/python -m tests.benchmarks.table

pictures: $(STAMP)
	$(BIN)/python -m tests.tools.pictures

clean:
	rm -rf $(VENV) build dist *.egg-info diag/agent/heap/*.so
