# Two commands matter to a newcomer: `make demo` and `make test`. Prerequisites on Debian 12: git, make, python3 (3.11
# or later) and python3-venv. Everything else is installed by the targets themselves, from hash-locked requirements.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet
# Processes that share the tests. Those of the whole wait most of their time, for a time-out, a meter or a broker, so two
# processes a core of the smallest machine keep its cores busy.
WORKERS ?= 4
# The suite and the demo start hundreds of processes. Each would compile the house anew (0.6 s of processor time instead
# of 0.3), and each of those that share the tests all of them (11 s instead of 5).
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test check bench soak fuzz format docs lock clean prerequisites system-packages soak-packages

help:  ## what there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

prerequisites:
	@command -v $(PYTHON) >/dev/null || { echo "missing: python3 (apt-get install python3)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "python 3.11 or later needed, found $$($(PYTHON) --version)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "missing: python3-venv (apt-get install python3-venv)"; exit 1; }
	@command -v git >/dev/null || { echo "missing: git (apt-get install git)"; exit 1; }

# Editable, so that a checkout is what runs. What the packager says is shown only when it fails.
define install_house
	@$(PIP) install --no-deps --no-build-isolation -e . >$(VENV)/install.log 2>&1 || { cat $(VENV)/install.log; exit 1; }
endef

$(VENV)/.sim: requirements/sim.txt setup.cfg pyproject.toml | prerequisites
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the locked requirements into $(VENV)"
	@$(PIP) install --require-hashes -r requirements/sim.txt
	$(install_house)
	@touch $@

$(VENV)/.dev: requirements/dev.txt setup.cfg pyproject.toml | prerequisites
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the locked requirements into $(VENV)"
	@$(PIP) install --require-hashes -r requirements/dev.txt
	$(install_house)
	@touch $@ $(VENV)/.sim

demo: $(VENV)/.sim  ## the whole chain on simulated meters, about a minute; ends with a summary
	@$(BIN)/meterwire demo

system-packages:
	@deploy/test-packages

soak-packages:
	@deploy/test-packages soak

test: $(VENV)/.dev system-packages  ## the whole suite; installs Debian packages where it may
	$(BIN)/pytest -q tests -n $(WORKERS) --dist loadfile --no-loadscope-reorder

check: $(VENV)/.dev  ## format, lint, types, layers, docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m tests.house

bench: $(VENV)/.dev  ## the benchmarks, each printing its figure as one JSON line
	$(BIN)/python -m bench

soak: $(VENV)/.dev soak-packages  ## long campaigns; MINUTES=40 by default, resumable
	$(BIN)/python -m tests.soak --minutes $${MINUTES:-40}

fuzz: $(VENV)/.dev  ## every decoder against damaged bytes, along its coverage; MINUTES=40 by default, resumable
	$(BIN)/python -m tests.fuzz --minutes $${MINUTES:-40}

format: $(VENV)/.dev  ## put every file in the house's form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.dev  ## bring the examples and tables in the documents up to date with what is printed
	$(BIN)/python -m tests.examples --write

lock: $(VENV)/.dev  ## lock the requirements anew (needs uv)
	@for name in runtime central parquet sim dev; do (cd requirements && uv pip compile --quiet --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header --upgrade $$name.in -o $$name.txt); done

clean:  ## remove what was made
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
