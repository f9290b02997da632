# make serve   install what serving needs into .venv and serve on port 8000
# make unit    install everything into .venv and run the tests that need no server, training or image: seconds
# make test    every test that this machine can run: minutes
# make lint    format, lint, types
# make fix     format, and mend what the linter can
# make check   the one gate: lint, audit, test
# make image   build the Bento and the image turing_test_service:latest
# make bench   measure the service beside its peers (needs wrk and hey), into benchmarks/results
# make soak    serve under load for MINUTES=10 and check every answer
# make lock    write requirements.txt and requirements-dev.txt, with hashes, from requirements.in and requirements-dev.in
# make audit   look for known vulnerabilities in what is served, where the database can be reached
# make train   train on DATA="folder …", or on the sample without it

PYTHON_VERSION := 3.11
PYTHON ?= $(shell command -v python$(PYTHON_VERSION) || command -v python3)
HAS_VERSION = $(shell $(PYTHON) -c "import sys; print('%d.%d' % sys.version_info[:2])" 2>/dev/null)
CHECK_PYTHON = $(if $(filter $(PYTHON_VERSION),$(HAS_VERSION)),,$(error Python $(PYTHON_VERSION) is needed, but \
	"$(PYTHON)" is $(or $(HAS_VERSION),no Python); run make PYTHON=/path/to/python$(PYTHON_VERSION)))
VENV := .venv
BIN := $(VENV)/bin
IMAGE := turing_test_service:latest
BASE_IMAGE := python:$(PYTHON_VERSION)-slim
export BENTOML_DO_NOT_TRACK := True

# The image installs packages while it is built. Where a container on Docker's own network cannot reach the package
# index, the build uses the host's network. Set CONTAINERIZE_OPTS yourself to decide otherwise.
REACHES_INDEX := import urllib.request; urllib.request.urlopen('https://pypi.org/simple/pip/', timeout=5)
REACHES_DATABASE := import urllib.request; urllib.request.urlopen('https://pypi.org/pypi/pip/25.0/json', timeout=5)
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version $(PYTHON_VERSION) --generate-hashes \
	--custom-compile-command "make lock"
MINUTES := 10

.PHONY: serve unit test lint fix check image train bench soak lock audit

serve: $(VENV)/serving
	$(BIN)/bentoml serve

unit: $(VENV)/development
	$(BIN)/python -m pytest -m unit

test: $(VENV)/development
	$(BIN)/python -m pytest

lint: $(VENV)/development
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

fix: $(VENV)/development
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: lint audit test

image: $(VENV)/serving
	$(BIN)/bentoml build
	options="$(CONTAINERIZE_OPTS)"; \
	if [ -z "$$options" ] && ! docker run --rm $(BASE_IMAGE) python -c "$(REACHES_INDEX)" 2>/dev/null; \
	then options="--opt network=host"; fi; \
	$(BIN)/bentoml containerize turing_test_service:latest -t $(IMAGE) $$options

train: $(VENV)/development
	$(BIN)/python -m train $(DATA)

soak: $(VENV)/development
	$(BIN)/python -m tests.faults.soak --minutes $(MINUTES)

lock: $(VENV)/development
	$(LOCK) requirements.in -o requirements.txt
	$(LOCK) -c requirements.txt requirements-dev.in -o requirements-dev.txt

audit: $(VENV)/development
	if $(BIN)/python -c "$(REACHES_DATABASE)" 2>/dev/null; \
	then $(BIN)/pip-audit --strict --require-hashes --disable-pip -r requirements.txt; \
	else echo "pip-audit: the database of vulnerabilities cannot be reached from here; nothing was looked up"; fi

bench: .venv-bench/bin/python
	.venv-bench/bin/pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	.venv-bench/bin/python -m benchmarks.serving $(BENCH)

$(BIN)/python .venv-bench/bin/python:
	$(CHECK_PYTHON)$(PYTHON) -m venv $(patsubst %/bin/python,%,$@)

$(VENV)/serving: requirements.txt | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/development: requirements.txt requirements-dev.txt | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@ $(VENV)/serving
