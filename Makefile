# One environment per stack and kind of ops, so that all can be tested side by
# side.
STACK ?= onedl
OPS ?= torchvision
LEVEL ?= demo
VENV := .venv$(if $(filter openmmlab,$(STACK)),-openmmlab)$(if $(filter compiled,$(OPS)),-compiled)
PYTEST = $(VENV)/bin/python -m pytest -n auto --maxprocesses 4
DOCS = .venv-docs/bin
export STACK OPS PYTHON TORCH

.PHONY: help demo test test-slow test-faults test-examples faults test-install benchmark benchmark-scale env docs lint format wheel release clean distclean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile
	@echo
	@echo "Variables: STACK=onedl|openmmlab  OPS=torchvision|compiled  PYTHON=python3.11"
	@echo "           ARGS='...' (for demo, test, test-slow and benchmark)"

demo:  ## set up .venv and train the main config on rendered scenes
	@bash tools/setup_env.sh demo
	$(VENV)/bin/python tools/train.py configs/ea_fpn_ade20k.py --demo $(ARGS)

test:  ## set up all that the tests need and run those that are not slow
	@bash tools/setup_env.sh test
	$(PYTEST) --dist worksteal -m "not slow" $(ARGS)

test-slow:  ## run the slow ones: demos to their targets, compilations, ...
	@bash tools/setup_env.sh test
	$(PYTEST) --maxschedchunk 1 -m slow $(ARGS)

test-faults:  ## run the tests of what docs/reliability.md promises
	@bash tools/setup_env.sh test
	$(PYTEST) --dist worksteal -m "not slow" $(ARGS) \
		$$(grep -o '`tests/[^`]*`' docs/reliability.md | tr -d '`' | sort -u)

test-examples:  ## run the tests of examples/, in .venv-examples
	@bash tools/setup_env.sh examples
	.venv-examples/bin/python -m pytest tests/examples $(ARGS)

faults:  ## plant small faults, see that the tests catch each
	@bash tools/setup_env.sh test
	$(VENV)/bin/python -m tests.faults $(ARGS)

test-install:  ## install the wheel into empty environments and train there
	@bash tools/setup_env.sh tools
	@bash tools/test_install.sh $(VENV)/bin/python $(ARGS)

benchmark:  ## measure attention against its rivals; about an hour on 2 cores
	@bash tools/setup_env.sh test
	$(VENV)/bin/python -m benchmarks.run $(ARGS)

benchmark-scale:  ## measure tiles, packed batches, the allocator and epochs; some hours
	@bash tools/setup_env.sh test
	$(VENV)/bin/python -m benchmarks.tiles exact
	$(VENV)/bin/python -m benchmarks.tiles cost
	$(VENV)/bin/python -m benchmarks.point_layers --packed
	$(VENV)/bin/python -m benchmarks.allocator
	$(VENV)/bin/python -m benchmarks.scaling

env:  ## set up only: LEVEL=demo (default), test, tools, docs, examples
	@bash tools/setup_env.sh $(LEVEL)

docs:  ## build the documentation into site/, with the API
	@bash tools/setup_env.sh docs
	PATH="$(DOCS):$$PATH" NO_MKDOCS_2_WARNING=1 $(DOCS)/mkdocs build --strict
	@echo "Read it: python3 -m http.server -d site (from a file, all but the search works)"

lint:  ## check style and format, then types
	@bash tools/setup_env.sh tools
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	@bash tools/setup_env.sh test
	$(VENV)/bin/mypy

format:  ## fix what ruff complains about, where that can be automatic
	@bash tools/setup_env.sh tools
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

wheel:  ## build sdist and wheel into dist/
	@bash tools/setup_env.sh tools
	$(VENV)/bin/python -m build --no-isolation

release:  ## build, check and try a release in dist/; tags and uploads nothing
	@bash tools/setup_env.sh tools
	@bash tools/release.sh $(VENV)/bin/python $(ARGS)

clean:  ## remove what builds and tests left (environments and compiled ops stay)
	rm -rf build dist site mmea.egg-info .pytest_cache .ruff_cache .hypothesis
	find mmea tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean  ## remove the environments too (compiled ops stay)
	rm -rf .venv .venv-docs .venv-examples .venv-openmmlab .venv-compiled .venv-openmmlab-compiled
