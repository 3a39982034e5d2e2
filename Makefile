# make serve [UPSTREAM=http://host:8000]   set everything up and serve
# make test                                set everything up and run the tests
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8080
ADMIN_PORT ?= 8081
SANDBOX_PORT ?= 8090

.PHONY: serve test lint test-e2e lock clean

$(VENV)/runtime: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --require-hashes -r requirements.lock
	$(BIN)/pip install -q --no-deps -e .
	touch $@

$(VENV)/dev: requirements-dev.lock $(VENV)/runtime
	$(BIN)/pip install -q --require-hashes -r requirements-dev.lock
	touch $@

serve: $(VENV)/runtime
ifdef UPSTREAM
	exec $(BIN)/guardproxy serve --upstream $(UPSTREAM) --port $(PORT) --admin-port $(ADMIN_PORT)
else
	$(BIN)/guardproxy sandbox --port $(SANDBOX_PORT) & sandbox=$$!; trap "kill $$sandbox" EXIT; \
	$(BIN)/guardproxy serve --upstream http://127.0.0.1:$(SANDBOX_PORT) --port $(PORT) --admin-port $(ADMIN_PORT)
endif

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tests/limits.py

test: lint
	$(BIN)/pytest -q -m "not e2e" --cov --cov-report=xml --cov-report=term:skip-covered
	$(BIN)/python tests/floors.py

test-e2e: $(VENV)/dev
	$(BIN)/pytest -q -m e2e tests/e2e

lock:
	uv pip compile -q --universal --generate-hashes --no-header pyproject.toml -o requirements.lock
	uv pip compile -q --universal --generate-hashes --no-header --extra dev -c requirements.lock pyproject.toml -o requirements-dev.lock

clean:
	rm -rf $(VENV) .e2e .coverage coverage.xml
