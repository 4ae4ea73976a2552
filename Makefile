# Every target installs what it needs into .venv first; nothing else has to be there but python3 and make.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test check format lock clean fast slow bench-capacity swarm

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
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile

check: $(READY)  ## format, lint, types, house rules, unit and property tests
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile tests/test_tidy.py tests/unit tests/property

bench-capacity: fast  ## search for the rate that two cores hold, compiled, with emulated GPUs
	@$(BIN)/python benchmarks/capacity.py; status=$$?; find src -name '*.so' -delete; exit $$status

swarm: $(READY)  ## simulate many seeds under faults (SEEDS=1000 JOBS=1)
	@$(BIN)/clockwork simulate --swarm $(or $(SEEDS),1000) --jobs $(or $(JOBS),1)

# The modules that run for every request. Compiled, they shadow their sources: run it again, or
# `make slow`, after each change. Modules that define records stay out: compiled, a record would lose
# its options (frozen, eq, gc), and with them its hash.
HOT := $(addprefix clockwork/parts/,timeline.py slowness.py estimator.py batching.py demand.py timers.py latency.py \
		clock_offset.py pace.py throttle.py wake_lead.py) \
	$(addprefix clockwork/controller/,cluster.py action_rows.py core.py ledger.py notebook.py reception.py \
		underway.py) \
	$(addprefix clockwork/controller/policies/,admission.py ageing.py dispatch.py \
		hopeless.py infer4.py parking.py placement.py waiting.py) \
	$(addprefix clockwork/worker/,checks.py core.py executor.py farewells.py gpu.py outbox.py store.py \
		tasks.py) \
	$(addprefix clockwork/client/,core.py model_table.py open_loops.py statistics.py streams.py \
		trace_replay.py) \
	$(addprefix clockwork/live/,client_port.py devices.py driver.py worker_console.py worker_link.py) \
	$(addprefix clockwork/sim/,client_shell.py clocks.py controller_shell.py devices.py host.py loop.py \
		network.py worker_shell.py) \
	clockwork/engines/emulated.py clockwork/telemetry/rows.py

fast: $(READY) slow  ## compile the hot modules (needs a C compiler; about a minute)
	@cd src && ../$(BIN)/mypyc --strict $(HOT) > /dev/null && rm -rf build
	@echo "compiled; 'make slow' goes back to plain Python"

slow:  ## remove what `make fast` compiled
	@find src -name '*.so' -delete

format: $(READY)  ## format and fix what can be fixed by a program
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock: $(READY)  ## write requirements.lock anew from requirements.in
	@$(PYTHON) -m venv .cache/lock && .cache/lock/bin/pip install --quiet --upgrade -r requirements.in
	@(echo "# Made by 'make lock' from requirements.in."; .cache/lock/bin/pip freeze) > requirements.lock

clean:  ## remove what was built (the virtual environment and caches too)
	@rm -rf .venv .cache demo-out bench-out .mypy_cache .ruff_cache .pytest_cache .hypothesis
