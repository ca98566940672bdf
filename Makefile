# make app     set up what is missing and open the app      (PORT=8600 ARGS="--model path/file.py:function --data-root DIR")
# make test    set up what is missing, check the code and run the tests of every part  (TESTS="tests/test_opq.py -x" WORKERS=0)
# make test-all  the same with every test: kills, clusters, hostile files, all architectures
# make docs    the documentation as a site, in site/docs
# make site    the gallery as web pages without a server, in site: draw a digit, fronts, reports, lessons, documentation (needs npm)
# make bench   the benchmark, beside what it is compared to; writes BENCHMARKS.md  (ARGS="--only 'resnet*' --no-equality")
#
# Everything lives in .venv. PYTHON names the interpreter that makes it (3.11 to 3.14).

PYTHON ?= python3
PORT ?= 8501
ARGS ?=
TESTS ?= tests
WORKERS ?= 2

BIN := .venv/bin
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help app test test-all docs site bench port-free
.NOTPARALLEL:

# Binds the port for a moment; says "used" when somebody has it, "wrong" when it is no port number.
PROBE = import socket; s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
PORT_STATE = $(shell $(PYTHON) -c '$(PROBE); s.bind(("127.0.0.1", int("$(PORT)")))' 2>&1 | tail -n 1)

help:
	@sed -n 's/^# make/make/p' Makefile

app: port-free .venv/.ready
	@echo "Opening the app on http://localhost:$(PORT) (Ctrl-C ends it; runs go on)"
	@exec $(BIN)/python -m streamlit run app/main.py --server.port $(PORT) -- $(ARGS)

# PYTHONPATH: since 3.14 the standard library has a package compression, too.
test: SELECTED = $(if $(filter tests,$(TESTS)),-m "not extended")
test-all: SELECTED = --durations=40
test test-all: .venv/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy compression app pages lessons
	PYTHONPATH=. $(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(SELECTED) $(TESTS)

docs: .venv/.ready-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "site/docs/index.html"

# Each part links to those that are there: the first page comes last.
site: .venv/.ready-dev
	@command -v npm > /dev/null || { echo "npm is needed, which fetches what runs networks in a browser: install it (nodejs, npm)"; exit 1; }
	@rm -rf site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@$(BIN)/python -m lessons.published site/learn
	@$(BIN)/python -m compression site --out site

bench: .venv/.ready-bench
	$(BIN)/python -m tests.bench.graphs --write BENCHMARKS.md $(ARGS)
	$(BIN)/python -m tests.bench.steps --write BENCHMARKS.md
	$(BIN)/python -m tests.bench.whole --write BENCHMARKS.md
	$(BIN)/python -m tests.bench.runs --write BENCHMARKS.md
	$(BIN)/python -m tests.bench.opq --write BENCHMARKS.md
	$(BIN)/python -m tests.bench.posttraining --write BENCHMARKS.md
	$(BIN)/python -m tests.bench.search --write BENCHMARKS.md
	$(BIN)/python -m tests.bench.sessions --write BENCHMARKS.md
	$(BIN)/python -m tests.bench.export --write BENCHMARKS.md
	$(MAKE) site
	$(BIN)/python -m tests.bench.site --write BENCHMARKS.md

port-free:
	@$(if $(findstring Address already in use,$(PORT_STATE)),$(error port $(PORT) is already in use: end the program that has it, or take another with make app PORT=8600))
	@$(if $(findstring Error,$(PORT_STATE)),$(error port $(PORT) cannot be used ($(PORT_STATE)): take another with make app PORT=8600))

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' || { echo "Python 3.11 to 3.14 is needed, $(PYTHON) is another: name one with make PYTHON=python3.12"; exit 1; }
	@echo "Making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv

.venv/.ready: requirements.txt | .venv/bin/python
	@echo "Installing what the app needs (the first time: several minutes, about 7 GB)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/.ready-dev: requirements-dev.txt requirements-extra.txt requirements-hub.txt requirements-notebook.txt requirements-ray.txt requirements-text.txt requirements-track.txt requirements-docs.txt .venv/.ready
	@echo "Installing what the tests need"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-text.txt
	@for name in chromium chromium-browser google-chrome; do command -v $$name > /dev/null && exit 0; done; \
		echo "Installing a browser for the tests"; $(BIN)/playwright install chromium || \
		echo "No browser could be installed: the browser tests will be skipped"
	@touch $@

.venv/.ready-bench: requirements-bench.txt .venv/.ready
	@echo "Installing what the benchmark compares with"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-bench.txt
	@touch $@
