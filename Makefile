# All commands of the project. PYTHON selects the interpreter that creates .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TESTS := $(BIN)/pytest -q -n auto --dist worksteal
# Tests of real servers and clients fail on a machine that stands still for seconds. CI runs what has failed again, alone, and
# ends with the first test that fails again.
AGAIN := $(BIN)/pytest -q --last-failed --last-failed-no-failures=none --exitfirst

.PHONY: serve test postgresql postgresql-all soak cuts fuzz endurance lint check bench clean

serve: $(VENV)/.installed  ## run the registry on 127.0.0.1:5000, with DUALREG_* from the environment
	@exec $(BIN)/dualreg serve

test: $(VENV)/.installed-dev  ## run the tests except the slow ones; those that need a missing program are skipped, with the reason
	$(TESTS) -m 'not slow'

ON_POSTGRESQL := -m 'not postgres and not sqlite and not slow' \
	tests/auth tests/cli tests/fuzz tests/registry \
	tests/maintenance/test_catalog_check.py tests/maintenance/test_collected.py tests/maintenance/test_fsck.py \
	tests/maintenance/test_lost.py tests/maintenance/test_scrubbing.py tests/maintenance/test_undo.py \
	tests/migrate/test_commands.py tests/migrate/test_registry_tree.py \
	tests/protocol/test_bridge.py tests/protocol/test_conditional_writes.py tests/protocol/test_exchanges.py \
	tests/protocol/test_extensions.py tests/protocol/test_matrix.py tests/protocol/test_referrers.py \
	tests/protocol/test_repushes.py tests/protocol/test_schema1.py tests/protocol/test_v1_endpoints.py
postgresql: export TEST_DATABASE := postgresql
postgresql: $(VENV)/.installed-dev  ## run the shorter tests of everything that opens a catalog on PostgreSQL
	$(TESTS) $(ON_POSTGRESQL) || $(AGAIN) $(ON_POSTGRESQL)

postgresql-all: $(VENV)/.installed-dev  ## run all tests on PostgreSQL but those of SQLite; takes as long as all tests
	TEST_DATABASE=postgresql $(TESTS) -m 'not postgres and not sqlite' tests

soak: $(VENV)/.installed-dev  ## run the long forms of tests: fuzzing, races, kills at every step, large blobs; hours
	SOAK=1 $(TESTS) tests/clients tests/contracts tests/cuts tests/endurance tests/faults tests/fuzz \
		tests/instances tests/maintenance tests/migrate/test_kill.py tests/properties tests/protocol/test_openapi.py tests/races \
		tests/registry/test_plans.py

cuts: N ?= 1000
cuts: $(VENV)/.installed-dev  ## kill and cut the power at N places of pushes, deletes, gc and a migration
	$(BIN)/python -m tests.cuts $(N)

fuzz: N ?= 100000
fuzz: $(VENV)/.installed-dev  ## send N requests that no client sends; none may fail
	$(BIN)/python -m tests.fuzz $(N)

endurance: MINUTES ?= 60
endurance: $(VENV)/.installed-dev  ## push, pull and delete for MINUTES while garbage is collected and processes are killed
	$(BIN)/python -m tests.endurance $(MINUTES)

lint: $(VENV)/.installed-dev  ## check format, style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

check: lint  ## what CI runs: format, style, types, all tests
	$(TESTS) || $(AGAIN)

bench: $(VENV)/.installed-dev  ## compare performance with the reference registry, if it is installed
	$(BIN)/python -m tests.benchmarks

clean:
	rm -rf $(VENV)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'dualreg needs Python 3.11 or newer; name one, for example: make PYTHON=python3.13' >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.installed
