# make demo     animate eight photographs on this machine's CPU, into out/demo
# make test     run all tests: the fast ones, then the slow ones
# make check    lint, format, types (what `make test` does not look at)
# make install  the virtual environment that all of these use

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
VENV := .venv
# Tests with a Ray of their own mostly wait for it; more at a time take about 2 GB each.
TEST_PROCESSES ?= 2
PYTHON := $(VENV)/bin/python
PIP := $(PYTHON) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
BASE_PYTHON ?= python3.11

.PHONY: demo test check install clean

demo: $(VENV)/demo.installed
	$(PYTHON) -m pipelines run --config conf/demo.yaml

test: $(VENV)/dev.installed
	$(PYTHON) -m pytest --numprocesses $(TEST_PROCESSES) -m "not slow"
	$(PYTHON) -m pytest --numprocesses $(TEST_PROCESSES) -m slow

check: $(VENV)/dev.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

install: $(VENV)/dev.installed

# torch comes first and by its exact version: whatever asks for it later is satisfied and fetches no other build.
$(VENV)/torch.installed: constraints.txt
	command -v $(BASE_PYTHON) > /dev/null || { echo "stillreel needs Python 3.11 ($(BASE_PYTHON) is not on the PATH); set BASE_PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Installing into $(VENV): some minutes, 2 to 7 GB; pip says nothing meanwhile"
	$(BASE_PYTHON) -m venv $(VENV)
	$(PIP) "$$(grep -E '^torch==' constraints.txt)"
	touch $@

$(VENV)/demo.installed: $(VENV)/torch.installed pyproject.toml
	$(PIP) --editable '.[demo]'
	touch $@

$(VENV)/dev.installed: $(VENV)/torch.installed pyproject.toml
	$(PIP) --editable '.[dev]'
	touch $@ $(VENV)/demo.installed

clean:
	rm -rf $(VENV) out build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
