# Everything begins with `make demo` and `make test`; `make help` lists the rest.
# `make install PYTHON=/path/to/python3` chooses the Python; else the first of 3.13, 3.12, 3.11, 3.14 that has venv.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.SUFFIXES:
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
INSTALLED := .venv/.installed$(subst /,-,$(PYTHON))
CANDIDATES := $(or $(PYTHON),python3.13 python3.12 python3.11 python3.14 python3 /usr/bin/python3)
FITS := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))
PIP := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-input
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header pyproject.toml

.PHONY: help
help: ## List what can be made.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-18s%s\n", $$1, $$2 }'

.PHONY: install
install: $(INSTALLED) ## Make .venv from the lock (needs Python 3.11 to 3.14).

$(INSTALLED): requirements-dev.txt
	@found=; for python in $(CANDIDATES); do \
		if "$$python" -c '$(FITS)' >/dev/null 2>&1; then found="$$python"; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "falgate needs a Python 3.11, 3.12, 3.13 or 3.14 that has venv: install one (Debian, Ubuntu:" \
			"apt install python3 python3-venv), or name yours with make install PYTHON=/path/to/python3." >&2; \
		exit 1; \
	fi; \
	if [ -n "$(PYTHON)" ] || ! $(BIN)/python -c '$(FITS)' >/dev/null 2>&1; then \
		echo "Making .venv with $$("$$found" --version) ..."; \
		"$$found" -m venv --clear .venv || exit 1; \
	fi
	@echo "Installing what requirements-dev.txt has locked (a minute or so) ..."
	@$(PIP) --require-hashes -r requirements-dev.txt
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@ .venv/.installed

.PHONY: demo
demo: install ## Two videos from nothing: PostgreSQL, sandbox, gateway, key, quota, ledger.
	@$(BIN)/falgate demo

.PHONY: run
run: install ## The same set-up, but it stays up and prints a curl (PORT=8000).
	@$(BIN)/falgate demo --stay $(if $(PORT),--port $(PORT))

.PHONY: test
test: install ## Run the test suite (about 5 minutes on two cores).
	@$(BIN)/python -m pytest

.PHONY: clients
clients: install ## fal's JavaScript client, for the tests that need Node (and npm).
	@cd tests/clients/js && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error

.PHONY: lint
lint: install ## Format, lint, types and import contracts.
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

.PHONY: check
check: lint test ## All checks, then the tests.

.PHONY: test-slow
test-slow: install ## The long walks and races, which `make test` leaves out.
	@$(BIN)/python -m pytest -m slow

.PHONY: chaos
chaos: install ## 500 kills at every failpoint, five restores, ten deaths of PostgreSQL; the books compared.
	@$(BIN)/python -m tests.chaos.crash
	@$(BIN)/python -m pytest -n 0 -m slow tests/chaos/test_postgres.py

.PHONY: soak
soak: install ## Half an hour of two replicas, faults and restarts (MINUTES=30): does anything grow?
	@$(BIN)/python -m tests.chaos.soak $(if $(MINUTES),--minutes $(MINUTES))

.PHONY: bench
bench: install ## Measure (20 minutes); prints one table, and writes it as JSON.
	@$(BIN)/python -m tests.bench

.PHONY: clips
clips: install ## Make the sandbox's videos again.
	@$(BIN)/python -m app.sandbox.make_clips

.PHONY: lock
lock: install ## Lock the newest allowed versions of everything, with hashes.
	@$(COMPILE) --upgrade -o requirements.txt
	@$(COMPILE) --upgrade --group dev --extra embedded -o requirements-dev.txt
