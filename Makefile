# make serve   install what serving needs into .venv and serve on port 8000
# make unit    install everything into .venv and run the tests that need no server, training or image: seconds
# make test    every test that this machine can run: minutes
# make lint    format, lint, types
# make fix     format, and mend what the linter can
# make check   the one gate: lint, audit, test
# make wheel   build the library bot_or_human, the folder models/ as a wheel, into dist
# make release build all of a release into dist: wheel, Bento, image, SBOM and checksums, with the version of pyproject.toml
# make image   build the Bento and the image turing_test_service:latest (PLATFORM=linux/arm64 for another platform)
# make push    build for PLATFORMS="linux/amd64 linux/arm64" and push to IMAGE=registry/name:tag
# make bench   measure the service beside its peers (needs wrk and hey), into benchmarks/results
# make soak    serve under load for MINUTES=10, kill a worker every minute, and check every answer
# make lock    write requirements.txt and requirements-dev.txt, with hashes, from requirements.in and requirements-dev.in
# make .venv-ray/ray  install Ray for the test that scores on a cluster, apart from what is locked
# make audit   look for known vulnerabilities in what is served, where the database can be reached
# make train   train on DATA="folder …", or on the sample without it

# The oldest version is the one that requirements are locked for and types are checked with; markers cover the others.
PYTHON_VERSIONS := 3.11 3.12 3.13 3.14
OLDEST_PYTHON := $(firstword $(PYTHON_VERSIONS))
NEWEST_PYTHON := $(lastword $(PYTHON_VERSIONS))
# Whether a Python is one of these and can make a virtual environment, for which Debian's needs another package.
IS_PYTHON = import ensurepip, sys; sys.exit('%d.%d' % sys.version_info[:2] not in '$(PYTHON_VERSIONS)'.split())
PYTHON ?= python3 $(PYTHON_VERSIONS:%=python%)
FOUND_PYTHON = $(firstword $(foreach python,$(PYTHON),$(shell $(python) -c "$(IS_PYTHON)" 2>/dev/null && echo $(python))))
NO_PYTHON = No Python $(OLDEST_PYTHON) to $(NEWEST_PYTHON) that can make a virtual environment was found (tried: \
	$(PYTHON)). Install python3 and python3-venv with your package manager, or run "uv venv --seed --python \
	$(NEWEST_PYTHON)" if you have uv, then run make again; or use Docker: "docker build -t turing_test_service ."
VENV := .venv
BIN := $(VENV)/bin
IMAGE ?= turing_test_service:latest
PLATFORM ?=
PLATFORMS ?= linux/amd64 linux/arm64
BASE_IMAGE ?= $(shell sed -n 's/^ARG BASE_IMAGE=//p' Dockerfile)
VERSION ?=
export BASE_IMAGE
export BENTOML_DO_NOT_TRACK := True
MAKEFLAGS += --no-print-directory

# The image installs packages while it is built. Where a container on Docker's own network cannot reach the package
# index, the build uses the host's network. Set BUILD_NETWORK yourself (default, host) to decide otherwise.
REACHES_INDEX := import urllib.request; urllib.request.urlopen('https://pypi.org/simple/pip/', timeout=5)
BUILD_NETWORK ?= $(shell docker run --rm $(BASE_IMAGE) python -c "$(REACHES_INDEX)" 2>/dev/null && echo default || echo host)
BENTO := $(BIN)/bentoml build --output tag $(if $(VERSION),--version $(VERSION)) | sed -n 's/^__tag__://p'
# Where the repository has a web address, the label has no credentials.
SOURCE = $(shell git config --get remote.origin.url | sed -nE 's|^https://([^/]*@)?|https://|p')
REVISION = $(shell git describe --always --dirty --abbrev=40 --exclude='*' 2>/dev/null)
LABEL := label=org.opencontainers.image
CONTAINERIZE = $(BIN)/bentoml containerize $$bento --opt $(LABEL).title=turing_test_service \
	--opt "$(LABEL).description=Tells people and bots apart by their chat" --opt $(LABEL).licenses=Apache-2.0 \
	--opt $(LABEL).version=$${bento\#*:} --opt $(LABEL).revision=$(or $(REVISION),unknown) \
	--opt $(LABEL).source=$(or $(SOURCE),unknown)
REACHES_DATABASE := import urllib.request; urllib.request.urlopen('https://pypi.org/pypi/pip/25.0/json', timeout=5)
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version $(OLDEST_PYTHON) --generate-hashes \
	--custom-compile-command "make lock"
LINT_PAGE := npx --yes --prefer-offline @biomejs/biome@2.3.8 lint --diagnostic-level=error \
	$(wildcard serving/page/*.js serving/page/*.css serving/page/*/*.json)
MINUTES := 10
DIST ?= dist
RELEASE := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

.PHONY: serve unit test lint fix check wheel release image push train bench soak lock audit

serve: $(VENV)/serving
	$(BIN)/bentoml serve

unit: $(VENV)/development
	$(BIN)/python -m pytest -m unit

test: $(VENV)/development
	$(BIN)/python -m pytest

# The page's scripts, styles and texts are looked at where Node.js is installed, and always under CI.
lint-page:
	@if command -v npx >/dev/null; then $(LINT_PAGE); \
	elif [ -n "$$CI" ]; then echo "npx is missing: install Node.js"; exit 1; \
	else echo "skipped: npx is missing, the page is not linted"; fi

lint: $(VENV)/development lint-page
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

fix: $(VENV)/development
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: lint audit test

wheel: $(VENV)/development
	rm -rf build # what an earlier one left would be packed as well
	$(BIN)/uv build --quiet --wheel --no-build-isolation --python $(BIN)/python --out-dir $(DIST)

# The store of Bentos is a new one: the user's own may hold this version already.
release: export BENTOML_HOME := $(abspath $(DIST))/store
release: $(VENV)/development
	rm -rf $(DIST)
	$(MAKE) wheel
	$(MAKE) image VERSION=$(RELEASE) IMAGE=turing_test_service:$(RELEASE)
	$(BIN)/bentoml export turing_test_service:$(RELEASE) $(DIST)/turing_test_service-$(RELEASE).bento
	$(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible \
		--output-file $(DIST)/turing_test_service-$(RELEASE).cdx.json requirements.txt
	rm -rf $(BENTOML_HOME) $(DIST)/.gitignore
	cd $(DIST) && sha256sum * >SHA256SUMS

image: $(VENV)/serving
	bento=$$($(BENTO)) && test -n "$$bento" && \
	$(CONTAINERIZE) -t $(IMAGE) $(PLATFORM:%=--opt platform=%) --opt network=$(BUILD_NETWORK)
	@echo "Run it: docker run -d -p 8000:8000 $(IMAGE)"

# An image for each platform, pushed as IMAGE-amd64 and so on, and IMAGE itself: an index of them.
push: $(VENV)/serving
	bento=$$($(BENTO)) && test -n "$$bento" && \
	images="" && network=$(BUILD_NETWORK) && \
	for platform in $(PLATFORMS); do \
		image="$(IMAGE)-$$(echo $${platform#*/} | tr / -)" && \
		$(CONTAINERIZE) -t $$image --opt platform=$$platform --opt network=$$network && \
		docker push $$image && images="$$images $$image" || exit 1; \
	done && \
	docker buildx imagetools create -t $(IMAGE) $$images

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

.venv-ray/ray: pyproject.toml $(VENV)/development | .venv-ray/bin/python
	$(BIN)/uv pip install --quiet --python .venv-ray/bin/python --constraint requirements.txt --extra ray -r pyproject.toml
	touch $@

$(BIN)/python .venv-bench/bin/python .venv-ray/bin/python:
	$(or $(FOUND_PYTHON),$(error $(NO_PYTHON))) -m venv --clear $(patsubst %/bin/python,%,$@)

$(VENV)/serving: requirements.txt | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/development: requirements.txt requirements-dev.txt | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@ $(VENV)/serving
