# Every target installs what it needs into .venv first; nothing else has to be there but python3 and make.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test check format lock clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Clockwork needs Python 3.11 or newer; set PYTHON=/path/to/python3"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

demo: $(READY)  ## serve real models end to end, from a weights cache too small for all of them
	@$(BIN)/clockwork demo --out demo-out

test: $(READY)  ## run every test
	@$(BIN)/python -m pytest -q -n 2 --dist loadgroup

check: $(READY)  ## format, lint, types, house rules, unit and property tests
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/test_tidy.py tests/unit tests/property

format: $(READY)  ## format and fix what can be fixed by a program
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock: $(READY)  ## write requirements.lock anew from requirements.in
	@$(PYTHON) -m venv .cache/lock && .cache/lock/bin/pip install --quiet --upgrade -r requirements.in
	@(echo "# Made by 'make lock' from requirements.in."; .cache/lock/bin/pip freeze) > requirements.lock

clean:  ## remove what was built (the virtual environment and caches too)
	@rm -rf .venv .cache demo-out bench-out .mypy_cache .ruff_cache .pytest_cache .hypothesis
