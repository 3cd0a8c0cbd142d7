# `make` prints this help. Every target makes the environment first where it needs one.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

# Each process of the tests would compile all modules again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help run test test-fast tools generators check format lock lock-tools bench bench-peers bench-curves trials soak soak-nightly clean

help:  ## Print this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/ready  ## Start the server on port 8080 with the embedded defaults
	@exec $(BIN)/python -m openapi_server

test: $(VENV)/ready  ## Run the whole test suite: about ten minutes on two cores, with the tools of `make tools`
	@$(BIN)/python -m pytest --numprocesses 3 $(ARGS)

# Tests that start processes, a browser or a model, or that make thousands of requests.
SLOW := accounts/test_demo.py api/test_accounts.py api/test_animal_admin.py api/test_authorization.py api/test_charged_ends.py \
	api/test_chat_endpoints.py api/test_devices.py api/test_event_source.py api/test_lenient_requests.py api/test_on_busy.py \
	api/test_operation_table.py api/test_own_session_ids.py api/test_problem_types.py api/test_problems.py api/test_rate_limits.py \
	api/test_rules.py api/test_security_headers.py api/test_system.py benchmarks/test_curves.py benchmarks/test_peers.py cli \
	contracts/test_credit_store.py contracts/test_document_store.py contracts/test_encoders.py contracts/test_provider.py devtools \
	event_logs faults generators http/test_rate_limit_storage.py knowledge live live_model moderation/test_adversarial_replies.py \
	moderation/test_detection_rates.py moderation/test_output_buffer.py moderation/test_rule_set.py mutants \
	providers/test_reply_cleaner.py providers/test_retry_and_fallback.py readers soak source_documents storage/test_copying.py \
	storage/test_vacuum.py telemetry/test_tracing.py test_composition.py test_yaml_files.py web

test-fast: $(VENV)/ready  ## Run the quick tests, with fewer examples: under a minute, for after each change
	@$(BIN)/python -m pytest --numprocesses 2 --hypothesis-profile=quick -m "not dynamodb" $(SLOW:%=--ignore=tests/%) $(ARGS)

tools: $(VENV)/ready  ## Install the tools that some tests need, with a Node of their own; without them those are skipped
	@$(BIN)/python -m tests.tools

generators: tools  ## Test what others make of openapi.yaml: generated clients, linters, Schemathesis
	@REQUIRE_SERVICES=1 $(BIN)/python -m pytest --numprocesses 2 tests/generators tests/tools $(ARGS)

check: $(VENV)/ready  ## Format, lint, types, import rules and the spec
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/openapi-spec-validator openapi.yaml

format: $(VENV)/ready  ## Format the code and mend what can be mended
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(VENV)/ready  ## Measure the main figures of this server beside their lines; takes under a minute
	@$(BIN)/python -m benchmarks short $(ARGS)

bench-peers: $(VENV)/bench  ## Measure it beside FastAPI, sse-starlette, gevent and others, which it installs; takes a quarter of an hour
	@$(BIN)/python -m benchmarks peers $(ARGS)

bench-curves: $(VENV)/bench  ## Measure it as streams, sessions, animals, histories, readers and turns grow; takes a quarter of an hour
	@$(BIN)/python -m benchmarks curves $(ARGS)

trials: $(VENV)/ready  ## Inject faults into a real server and measure each against its limit; takes some minutes
	@$(BIN)/python -m tests.faults $(ARGS)

soak: $(VENV)/ready  ## Load two servers for two hours, with a fault each minute; draws what they hold
	@$(BIN)/python -m tests.soak $(ARGS)

soak-nightly: $(VENV)/ready  ## The same for ten minutes, for a nightly CI run
	@$(BIN)/python -m tests.soak --minutes 10 $(ARGS)

lock: $(VENV)/ready  ## Pin the newest versions that pyproject.toml allows
	@$(BIN)/pip-compile --quiet --upgrade --extra dev --generate-hashes --strip-extras --allow-unsafe --no-emit-options \
		--no-emit-index-url --no-emit-trusted-host --no-emit-find-links --output-file requirements.lock pyproject.toml
	@$(BIN)/pip-compile --quiet --upgrade --extra bench --constraint requirements.lock --generate-hashes --strip-extras \
		--allow-unsafe --no-emit-options --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
		--output-file benchmarks/requirements.lock pyproject.toml
	@$(BIN)/pip-compile --quiet --upgrade --extra deploy --constraint requirements.lock --generate-hashes --strip-extras \
		--allow-unsafe --no-emit-options --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
		--output-file deploy/requirements.lock pyproject.toml
	@$(BIN)/pip-compile --quiet --upgrade --only-build-deps --build-deps-for wheel --constraint requirements.lock --generate-hashes --strip-extras \
		--allow-unsafe --no-emit-options --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
		--output-file deploy/build-requirements.lock pyproject.toml

lock-tools: tools  ## Pin the newest versions that tests/tools/requirements.in and package.json allow
	@$(BIN)/pip-compile --quiet --upgrade --generate-hashes --strip-extras --allow-unsafe --no-emit-options --no-emit-index-url \
		--no-emit-trusted-host --no-emit-find-links --output-file tests/tools/requirements.lock tests/tools/requirements.in
	@$(BIN)/python -m tests.tools --lock

clean:  ## Remove the environment and what tools left behind; the data stays
	rm -rf $(VENV) .tools .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist

$(VENV)/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; name one with PYTHON=...") if sys.version_info < (3, 11) else None'
	@echo "Making the environment in $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --quiet --require-hashes --requirement requirements.lock
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/bench: benchmarks/requirements.lock $(VENV)/ready
	@echo "Installing what the server is measured beside ..."
	@$(PIP) install --quiet --require-hashes --requirement benchmarks/requirements.lock
	@touch $@
