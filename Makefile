# Two commands matter: `make demo` and `make test`. Each makes .venv when missing and installs with pip alone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SEED ?= 0
BENCHES := capture codec conditions dbc federated inference link ota replay rollouts spool uplink

# Compiled once and kept: a run starts hundreds of processes, and each would compile all of it again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint bench soak models clean

demo: $(VENV)/.demo
	$(BIN)/outrider demo --report report $(DEMO)

# What tests write lies in memory, where there are 2 GiB for it: they sync some tens of thousands of files, and what a
# power cut leaves they learn of a disk in memory anyway. A short path: sockets are among it.
test: $(VENV)/.dev $(VENV)/azure
	@room=$$(df -Pk /dev/shm 2>/dev/null | awk 'END {print $$4}'); \
	test "$${room:-0}" -gt 2097152 && test -w /dev/shm && within=/dev/shm || within=$${TMPDIR:-/tmp}; \
	folder=$$(mktemp -d "$$within/or.XXXX") && trap 'rm -rf "$$folder"' EXIT && trap 'exit 130' INT TERM && \
	TMPDIR=$$folder OUTRIDER_AZURE=$(VENV)/azure $(BIN)/pytest -n 2 --dist worksteal -m "not soak" \
	  --basetemp "$$folder/t" $(TESTS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev
	@ended=0; for name in $(BENCHES); do $(BIN)/outrider bench $$name || ended=1; done; exit $$ended

soak: $(VENV)/.dev $(VENV)/azure
	OUTRIDER_AZURE=$(VENV)/azure $(BIN)/pytest -m "soak or hypothesis" --hypothesis-profile=soak --timeout=7200 -p no:randomly $(TESTS)

models: $(VENV)/.dev
	$(BIN)/python -m inference.build

clean:
	rm -rf $(VENV) report dist

# --- the environment ---------------------------------------------------------------------------------

$(VENV)/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "This needs Python 3.11 or newer. On Debian: apt-get install python3 python3-venv"; exit 3; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is $$($(PYTHON) -V 2>&1); 3.11 or newer is needed. Name another one: make PYTHON=python3.12 ..."; exit 3; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "The venv module is missing or incomplete. On Debian: apt-get install python3-venv"; exit 3; }

$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --editable '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.demo

# Azure's SDK pins an older MQTT client: beside the environment, not in it. The links' contract holds on both.
$(VENV)/azure: | $(VENV)/.dev
	$(BIN)/pip install --quiet --target $@ 'azure-iot-device>=2.14'
