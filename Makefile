# make demo   restore a small degraded collection and open the report
# make test   lint, types, layers, then the tests
# make faults a hundred seeded fault schedules and wrong commit protocols, with their table, then the slow tests of
#             tests/faults; an hour or more
# Each creates .venv and installs into it on first use; nothing else is needed but Python 3.11 or newer.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: demo test faults lint install clean
.DEFAULT_GOAL := test

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/dr2e demo

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 40

faults: $(STAMP)
	PYTHONPATH=tests $(BIN)/python -m faults --schedules 100 --mutants --jobs 2 --out faults.md
	$(BIN)/python -m pytest -m slow tests/faults

clean:
	rm -rf .venv build dist *.egg-info
