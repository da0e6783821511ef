# Two commands matter: `make demo` and `make test`. Everything happens in .venv, which they make.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PEERS ?= .venv-peers
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
NATIVE := $(wildcard worker/native/*)
# Where no C++ compiler is, PyPI's ziglang is one, of 80 MB; its first build takes a minute.
COMPILER := $(shell command -v $${CXX:-c++} g++ clang++ 2>/dev/null | head -1)
ZIG := $(if $(COMPILER),,CXX="$(abspath $(BIN))/python -m ziglang c++ -target x86_64-linux-gnu.2.17")
# Decodes JPEGs only as far as a net sees them; without it the engine is built without.
JPEG := $(abspath $(VENV))/libjpeg
COMPILING = $(if $(ZIG),$(PIP) ziglang &&) JPEG_ROOT=$(JPEG)/libjpeg/install $(ZIG)
INSTALL = $(COMPILING) $(PIP)

# Pictures and net of the demo, and what tests get: NET=folder IMAGES=folder ARGS="-k gate"
NET ?=
IMAGES ?=
ARGS ?=
# How much of the storms `make chaos` runs, and with which seed
FULL ?=
SEED ?=
# `make emulated` passes where SIMDe is missing, unless this says "required"
EMULATED ?=

.DEFAULT_GOAL := help
.PHONY: help demo test check format bench bench-peers chaos neon emulated asan fuzz default-net clean wheel

help: ## Show this
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 10

demo: $(VENV)/demo ## Classify real pictures through Redis; NET=folder and IMAGES=folder choose others
	@if [ -z "$(NET)$$IMAGEQUEUE_NET" ] && ! $(BIN)/imagequeue-worker find-net >/dev/null 2>&1; then \
	  echo "The zoo's net is not at hand: building EfficientNet-Lite0 out of registry packages, once"; \
	  $(INSTALL) --editable '.[demo,default-net]' && $(BIN)/imagequeue-worker default-net; \
	fi
	@$(BIN)/imagequeue-worker demo $(if $(NET),--net $(NET)) $(if $(IMAGES),--images $(IMAGES))

test: $(VENV)/dev ## Run the tests; IMAGEQUEUE_TEST_DATA=folder adds golden nets and pictures
	@$(BIN)/python -m pytest --numprocesses 3 $(ARGS)

check: $(VENV)/dev ## Lint, types, import rule
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest --quiet tests/test_imports.py

format: $(VENV)/dev ## Let ruff format and mend the sources
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# A net and pictures for benchmarks, where they are named.
BENCH_DATA = $(if $(NET),--net $(NET)) $(if $(IMAGES),--images $(IMAGES))
WITH_PEERS = --peers --peers-python $(PEERS)/bin/python

bench: $(VENV)/dev ## Measure on this machine: net, queue, system, latency, stages; short forms, some minutes
	@$(BIN)/python tests/benchmarks/net.py --rounds 5 $(if $(IMAGES),--images $(IMAGES)) $(NET)
	@$(BIN)/python tests/benchmarks/queue_rate.py --rounds 3
	@$(BIN)/python tests/benchmarks/system.py --count 500 --rounds 3 $(BENCH_DATA)
	@$(BIN)/python tests/benchmarks/latency.py --count 300 --rounds 3 $(BENCH_DATA)
	@$(BIN)/python tests/benchmarks/stages.py --count 500 --rounds 3 $(BENCH_DATA)

bench-peers: $(VENV)/dev $(PEERS)/ready ## Measure beside what else there is: runtimes, queues, servers; ARGS="--rounds 3"
	@$(BIN)/python tests/benchmarks/net.py $(WITH_PEERS) $(if $(IMAGES),--images $(IMAGES)) $(ARGS) $(NET)
	@$(BIN)/python tests/benchmarks/queue_rate.py $(WITH_PEERS) --jobs 20000 $(ARGS)
	@$(BIN)/python tests/benchmarks/system.py $(WITH_PEERS) $(BENCH_DATA) $(ARGS)
	@$(BIN)/python tests/benchmarks/latency.py $(WITH_PEERS) $(BENCH_DATA) $(ARGS)

chaos: $(VENV)/dev ## Kill, pause, cut and fill on purpose, and write build/chaos.json; FULL=1, SEED=n, ARGS="kill_storm"
	@PYTHONPATH=tests $(BIN)/python -m chaos --out build/chaos.json $(if $(FULL),--full) $(if $(SEED),--seed $(SEED)) $(ARGS)

neon: ## Build the native engine for aarch64 with a cross compiler and check it under qemu, where both are
	@tests/native/neon.sh build/neon

emulated: $(VENV)/dev ## Test all x86-64 paths of the native engine, through SIMDe where need be; EMULATED=required
	@EMULATED=$(EMULATED) tests/native/emulated.sh build/emulated $(BIN)/python $(ARGS)

asan: $(VENV)/dev ## Test the native engine with AddressSanitizer and UndefinedBehaviorSanitizer
	@tests/native/asan.sh build/asan $(BIN)/python $(ARGS)

fuzz: $(VENV)/dev ## Run damaged nets and random operators through every engine; ARGS="--mutants 1000000 --seed 7"
	@$(BIN)/python tests/fuzz/nets.py $(ARGS)
	@$(BIN)/python tests/fuzz/operators.py

default-net: $(VENV)/default-net ## Install what making nets needs (torch: large), and build the default net
	@$(BIN)/imagequeue-worker default-net

wheel: $(VENV)/dev ## Build the wheel into dist/: one for every Python, with the kernels of all instruction sets
	@$(COMPILING) $(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	@ls -l dist/*.whl

clean: ## Remove what the other targets made
	rm -rf $(VENV) $(PEERS) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed; PYTHON=… names one"'
	$(PYTHON) -m venv $(VENV)

$(JPEG): worker/native/libjpeg.txt | $(VENV)/bin/python
	@rm -rf $@ $@.part && $(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
	  --python-version 3.12 --only-binary :all: --dest $@.part --requirement $< \
	  && $(BIN)/python -m zipfile -e $@.part/*.whl $@.part/wheel && mv $@.part/wheel/*.data/purelib $@ && rm -r $@.part \
	  || { echo "no libjpeg-turbo for this machine: JPEGs are decoded whole"; mkdir -p $@; }

$(VENV)/demo: pyproject.toml constraints.txt $(NATIVE) | $(VENV)/bin/python $(JPEG)
	$(INSTALL) --editable '.[demo]'
	@touch $@

$(VENV)/dev: pyproject.toml constraints.txt $(NATIVE) | $(VENV)/bin/python $(JPEG)
	$(INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/demo

$(VENV)/default-net: pyproject.toml constraints.txt $(NATIVE) | $(VENV)/bin/python $(JPEG)
	$(INSTALL) --editable '.[dev,default-net]'
	@touch $@ $(VENV)/demo $(VENV)/dev

# What we are compared with is no dependency of ours. BullMQ, where Node is.
$(PEERS)/ready: tests/benchmarks/peers/requirements.txt tests/benchmarks/peers/package-lock.json
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@cp tests/benchmarks/peers/package.json tests/benchmarks/peers/package-lock.json $(PEERS)/
	@if command -v npm >/dev/null; then cd $(PEERS) && npm ci --silent --ignore-scripts --no-audit --no-fund; \
	  else echo "no npm here: BullMQ is not compared with"; fi
	@touch $@
