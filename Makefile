# Every target does its own set-up; `make demo` and `make test` work in a fresh clone.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# The tests sync thousands of small databases; in memory, where 2 GB (here in KiB) are free, that costs nothing.
MEMORY = $(shell test -w /dev/shm && df -Pk /dev/shm | awk 'NR == 2 && $$4 >= 2097152 { print "/dev/shm" }')

.PHONY: help demo serve test lint lock bench migrations openapi nodesets clean

help:            ## list the targets
	@grep -hE '^[a-z]+: .*##|^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/ —/'

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Argonaut needs Python 3.11 or later; $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: requirements.lock pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.development: requirements-dev.lock $(VENV)/.runtime
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

demo: $(VENV)/.runtime         ## run the whole line on simulators, then go on serving (ARGS=--once stops)
	$(BIN)/argonaut demo $(ARGS)

serve: $(VENV)/.runtime        ## serve the line of deploy/line.yaml
	$(BIN)/argonaut serve $(ARGS)

test: $(VENV)/.development     ## all tests; SQLite always, PostgreSQL where one answers
	$(if $(MEMORY),PYTEST_DEBUG_TEMPROOT=$(MEMORY)) $(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

lint: $(VENV)/.development     ## formatting, lint, types, import contracts, security
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml api equipment recipes traceability
	$(BIN)/python -m tests.audit_dependencies

bench: $(VENV)/.development    ## measure against raw limits in the same run; writes var/bench.json
	$(BIN)/python -m tests.benchmarks $(ARGS)

openapi: $(VENV)/.runtime      ## write openapi.json and docs/tester-endpoint.openapi.json anew
	$(BIN)/python -m api.openapi

nodesets: $(VENV)/.runtime     ## write equipment/nodesets/argonaut_*.xml anew
	$(BIN)/python -m equipment.opcua.nodeset

lock:                          ## resolve the requirements anew (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --extra build -o requirements.lock pyproject.toml
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --extra build --extra dev -o requirements-dev.lock pyproject.toml

clean:                         ## remove the virtual environment and everything under var/
	rm -rf $(VENV) var
