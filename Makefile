# make serve [UPSTREAM=http://host:8000]   set everything up and serve
# make test                                set everything up and run the tests
# make conformance                         run the numbered tests, write docs/conformance.md
# make bench [ACCEPT=yes]                  measure against the peers, write docs/performance.md
# make quality-images                     pictures: what is stopped, rightly and wrongly
# make bench-quick                         the cheap rows, compared with docs/performance.json
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8080
ADMIN_PORT ?= 8081
SANDBOX_PORT ?= 8090

.PHONY: serve test lint test-e2e quality-images bench bench-quick bench-peers lock clean

$(VENV)/runtime: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --no-deps --require-hashes -r requirements.lock
	$(BIN)/pip install -q --no-deps -e .
	touch $@

$(VENV)/dev: requirements-dev.lock $(VENV)/runtime
	$(BIN)/pip install -q --no-deps --require-hashes -r requirements-dev.lock
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
	tests/deploy/setup.sh
	$(BIN)/pytest -q -m "not e2e" --cov --cov-report=xml --cov-report=term:skip-covered
	$(BIN)/python tests/floors.py

test-e2e: $(VENV)/dev
	$(BIN)/pytest -q -m e2e tests/e2e

# All numbered tests, those on the real model server included; writes docs/conformance.md.
conformance: $(VENV)/dev
	$(BIN)/python -m tests.conformance.page

# Needs gcc; nginx and HAProxy from Debian (apt-get install gcc libc6-dev nginx-light haproxy). What is missing is named.
bench: $(VENV)/dev
	-$(MAKE) bench-peers
	$(BIN)/python -m tests.bench.run $(if $(ACCEPT),--accept)

# What the default policy stops because of a picture, and what it stops wrongly; an hour of CPU the first time.
quality-images: $(VENV)/dev
	$(BIN)/python -m tests.quality.images

bench-quick: $(VENV)/dev
	$(BIN)/python -m tests.bench.run --quick

bench-peers: .bench/litellm/done .bench/vllm-router/done

.bench/%/done: tests/bench/requirements-%.txt
	test -x .bench/$*/bin/python || $(PYTHON) -m venv .bench/$*
	.bench/$*/bin/pip install -q -r $<
	touch $@

# The locks hold every package: --no-deps installs exactly them, and not what a package would rather have.
COMPILE := uv pip compile -q --universal --override deploy/requirements-overrides.in
lock:
	$(COMPILE) --no-strip-extras --generate-hashes --no-header --extra images pyproject.toml -o requirements.lock
	$(COMPILE) --no-strip-extras --generate-hashes --no-header --extra dev -c requirements.lock pyproject.toml -o requirements-dev.lock
	$(COMPILE) --no-strip-extras --generate-hashes --no-header --python-version 3.11 deploy/requirements-build.in -o deploy/requirements-build.lock

clean:
	rm -rf $(VENV) .bench .conformance .e2e .coverage coverage.xml
