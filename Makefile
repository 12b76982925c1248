# `make bench` and `make test` need only make and Python 3.11 to 3.13. They keep an environment of their own in .venv:
# created on first use, brought up to date when pyproject.toml or constraints.txt change, made anew for another PYTHON.

PYTHON ?= python3
# Further options of `fusion-bench run` for bench, and of pytest for test.
ARGS ?=
PYTEST_ARGS ?= -q -n 2 --dist worksteal

VENV := .venv
BIN := $(VENV)/bin
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
CREATED := $(VENV)/.python-$(VERSION)
RUNTIME := $(CREATED)-runtime
DEV := $(CREATED)-dev
DOCS := $(CREATED)-docs
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet

.DEFAULT_GOAL := help
.PHONY: help bench test lint format docs

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  PYTHON=python3.12 make ... chooses an interpreter"

bench: $(RUNTIME) ## train the canonical strategies on the embedded data and print the default table (ARGS="--seeds 1 --out DIR")
	@$(BIN)/fusion-bench run --out runs/default $(ARGS)

test: $(DEV) ## run the tests (PYTEST_ARGS="-x tests/fusion")
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(DEV) ## check format, style, types and the direction of imports
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check
	@$(BIN)/pyright --pythonpath $(BIN)/python
	@$(BIN)/lint-imports --no-logo

docs: $(DOCS) ## build the documentation as a site in site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

format: $(DEV) ## format the code and mend what ruff can mend
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

$(CREATED):
	@case "$(VERSION)" in \
	  3.11|3.12|3.13) ;; \
	  "") echo "fusion_bench needs Python 3.11 to 3.13, and PYTHON=$(PYTHON) does not run" >&2; exit 1 ;; \
	  *) echo "fusion_bench needs Python 3.11 to 3.13, and $(PYTHON) is $(VERSION);" \
	       "choose another: PYTHON=python3.12 make $(MAKECMDGOALS)" >&2; exit 1 ;; \
	esac
	@echo "creating $(VENV) with Python $(VERSION)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) --upgrade 'pip>=25.1' # the first that installs dependency groups
	@touch $@

$(RUNTIME): $(CREATED) pyproject.toml constraints.txt
	@echo "installing fusion_bench into $(VENV)"
	@$(PIP) --constraint constraints.txt --editable .
	@touch $@

$(DOCS): $(RUNTIME)
	@echo "installing what the documentation needs into $(VENV)"
	@$(PIP) --constraint constraints.txt --group docs
	@touch $@

$(DEV): $(RUNTIME)
	@echo "installing what tests and lint need into $(VENV)"
	@$(PIP) --constraint constraints.txt --editable '.[onnx,serve]' --group dev
	@touch $@
