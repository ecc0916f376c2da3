# Everything happens in .venv, which is made on the first use; no target installs the same thing twice.
# Without make: pip install -e ".[demo]", then gradcam-widget demo.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?=
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: demo test oldest lint types docs zoo bench bench-gpu evaluate feel parity handouts screenshots clean help

demo: $(VENV)/.demo ## the quickstart in JupyterLab (PORT=8888 chooses the port)
	@exec $(BIN)/gradcam-widget demo $(if $(PORT),--port $(PORT))

test: $(VENV)/.test ## all tests: unit, numerical, notebooks, browser (ARGS="-k layers" goes to pytest)
	@$(BIN)/python tests/browser/chromium.py
	@$(BIN)/python -m pytest $(ARGS)

oldest: $(VENV)/.oldest ## the tests of engine and widget with the oldest torch and ipywidgets (PYTHON=python3.10)
	$(VENV)/oldest/bin/python -m pytest tests/engine tests/widget $(ARGS)

lint: $(VENV)/.dev ## style: ruff, and the formatting checked
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev ## types: mypy, strict
	$(BIN)/mypy

docs: $(VENV)/.docs ## the site, into build/site: index.html opens from the disk
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

zoo: $(VENV)/.test ## explain every architecture of torchvision and timm, and write docs/zoo.md
	$(BIN)/python -m tests.zoo.zoo --all --write docs/zoo.md

parity: $(VENV)/.test ## compare with the peers, and write docs/parity.md
	$(BIN)/python -m tests.parity.table --write docs/parity.md

bench: $(VENV)/.test ## what selections cost beside the peers, into docs/benchmarks.md
	$(BIN)/python benchmarks/selections.py --tables docs/benchmarks.md $(ARGS)

bench-gpu: $(VENV)/.test ## the same on a GPU, with and without CUDA graphs, into docs/benchmarks-gpu.md
	$(BIN)/python benchmarks/gpu.py --tables docs/benchmarks-gpu.md $(ARGS)

evaluate: $(VENV)/.test ## every method under the checks of gradcam_widget.evaluate, into docs/evaluation.md
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/evaluation.py --write docs/evaluation.md $(ARGS)

feel: $(VENV)/.test ## from a choice to its pixels in JupyterLab: milliseconds, bytes, messages
	@$(BIN)/python tests/browser/chromium.py
	$(BIN)/python benchmarks/feel.py $(ARGS)

handouts: $(VENV)/.demo ## pages for some of the lessons, which need no kernel, into build/handouts
	$(BIN)/python notebooks/handouts.py build/handouts

screenshots: $(VENV)/.test ## take the pictures of README and tutorial from the running widget
	@$(BIN)/python tests/browser/chromium.py
	$(BIN)/python tests/browser/screenshots.py
	$(BIN)/python tests/browser/tutorial_pictures.py

clean: ## remove what was installed and built here
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# the extras contain one another, so a larger one stands for the smaller ones too
$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check -e ".[demo]"
	@touch $@

$(VENV)/.docs: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check -e ".[docs]"
	@touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check -e ".[test]"
	@touch $@ $(VENV)/.demo $(VENV)/.docs

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check -e ".[dev]"
	@touch $@ $(VENV)/.test $(VENV)/.demo $(VENV)/.docs

$(VENV)/.oldest: .ci/oldest.txt pyproject.toml
	$(PYTHON) -m venv --clear $(VENV)/oldest
	$(VENV)/oldest/bin/python -m pip install --disable-pip-version-check -r .ci/oldest.txt -e .
	@touch $@

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "There is no $(PYTHON) here. Install Python 3.10 or newer, or name it: make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "Python 3.10 or newer is needed; $(PYTHON) is $$($(PYTHON) -V 2>&1). Name another: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
