# `make` or `make help` lists the targets.  Every other one first builds .venv from requirements.lock, if that has changed.

PROFILE ?= quickstart
DATA ?=
FROM ?=
STORE ?= runs/$(PROFILE)/store
PORT ?= 8400
PYTHON3 ?= python3.11

BIN := .venv/bin
PYTHON := $(BIN)/python
FIXED := $(PYTHON) -m lib.reproducible  # runs a command with threads and instruction sets fixed
.DEFAULT_GOAL := help
.PHONY: help env run lab serve test lint unit notebooks refresh lock bench

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*##  *\(.*\)/  make \1@\2/p' Makefile | column -t -s @

env: .venv/.built  ## build .venv from requirements.lock

.venv/.built: requirements.lock
	@command -v $(PYTHON3) > /dev/null || { echo "$(PYTHON3) is needed and was not found; set PYTHON3=…" >&2; exit 1; }
	$(PYTHON3) -m venv --clear .venv
	$(PYTHON) -m pip install --disable-pip-version-check --requirement requirements.lock
	$(PYTHON) -m pip install --disable-pip-version-check --quiet --no-deps --editable .
	@touch $@

run: env  ## execute the notebooks: PROFILE=quickstart, DATA=folder of raw data, FROM=04 to go on from there
	@$(PYTHON) -m lib.run $(PROFILE) $(if $(DATA),--data "$(DATA)") $(if $(FROM),--from $(FROM))

lab: env  ## open the notebooks in JupyterLab
	@$(FIXED) $(BIN)/jupyter lab notebooks

serve: env  ## answer boto3 on loopback: PORT=8400, STORE=runs/quickstart/store
	@$(PYTHON) -m lib.service --host 127.0.0.1 --port $(PORT) --store $(STORE)

test: lint  ## everything that is checked, tests and notebooks side by side
	@$(MAKE) --no-print-directory --jobs=2 unit notebooks

lint: env  ## style and format of the code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

unit: env  ## the tests that take seconds
	$(FIXED) $(BIN)/pytest

notebooks: env  ## the notebooks against their stored outputs, then a second run byte by byte, and one over the wire
	@runs=$$(mktemp -d) && trap 'pkill -f "lib.service.*$$runs"; rm -rf "$$runs"' EXIT \
	&& export WORKBOOK_RUNS="$$runs" WORKBOOK_PROGRESS=/dev/null PYDEVD_DISABLE_FILE_VALIDATION=1 \
	&& $(FIXED) $(BIN)/pytest -x --nbval --nbval-current-env notebooks \
	&& $(BIN)/pytest -m whole_run tests/test_reproducible.py tests/test_endpoint.py

refresh: env  ## compute the stored outputs of the notebooks anew
	@$(PYTHON) -m lib.run quickstart --refresh

lock: env  ## resolve the dependencies of pyproject.toml anew into requirements.lock
	$(BIN)/pip-compile --quiet --upgrade --strip-extras --extra test --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --output-file requirements.lock pyproject.toml
	@sed -i.bak 's/^\([^=]*==[^+ ]*\)+[^ ]*/\1/' requirements.lock && rm requirements.lock.bak

bench: env  ## measure against peers and limits
	@for file in benchmarks/*.py; do $(FIXED) $(PYTHON) "$$file" || exit 1; done
