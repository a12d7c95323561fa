# make demo and make test set everything up and run; a second run starts in seconds.
PYTHON ?= python3
VENV   := .venv$(if $(TORCH),-torch-$(TORCH))
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
JOBS   ?= $(shell $(PYTHON) -c 'import os; print(min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()))')
export PIP_DISABLE_PIP_VERSION_CHECK = 1

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10
demo: $(STAMP) ## search a network for handwritten digits on this machine, and compare it
	$(BIN)/python -m nas_suite.demo
test: $(STAMP) ## everything: notebooks, package, README, docs (TORCH=2.10.0 tries another torch)
	@echo '== style'; $(BIN)/ruff check --quiet .
	@echo '== notebooks are clean, the package matches them'; $(BIN)/python tests/generated.py
	@echo '== tests, and beside them docs and README'; log=$$(mktemp); \
	$(MAKE) --no-print-directory docs > $$log 2>&1 & docs=$$!; \
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal; tests=$$?; \
	wait $$docs; made=$$?; cat $$log; rm $$log; test $$tests = 0 && test $$made = 0
test-gpu: $(STAMP) ## the tests that need a card (under 5 minutes), skipped where there is none
	$(BIN)/python -m pytest -q -rs -m gpu tests
docs: $(STAMP) ## the site, in _docs/
	@$(BIN)/python docs/build.py
lab: $(STAMP) ## the tutorials in JupyterLab
	$(BIN)/jupyter lab nbs/tutorials
scoreboard: $(STAMP) ## searches on tables whose truth is known (goes on where it was cut off)
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/scoreboard.py
bench: $(STAMP) ## every benchmark, one after the other (hours)
	@for b in benchmarks/[!m]*.py; do echo "== $$b"; $(BIN)/python $$b || exit 1; done
format: $(STAMP) ## clean the notebooks, write the package and README.md
	PATH=$(CURDIR)/$(BIN):$$PATH nbdev-clean && PATH=$(CURDIR)/$(BIN):$$PATH nbdev-export && $(BIN)/python docs/stage.py docs/_build/src
clean: ## remove what is generated, not the environment
	rm -rf _docs _proc docs/_build

$(STAMP): settings.ini setup.py pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "nas_suite needs Python 3.11 or newer; this is " + sys.version.split()[0] + ": make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo '== installing (minutes, once)'
	@$(if $(TORCH),grep -vE '^(torch|torchvision|torchaudio)==' constraints.txt > $(VENV)/constraints.txt; echo 'torch==$(TORCH)' >> $(VENV)/constraints.txt,cp constraints.txt $(VENV)/constraints.txt)
	@$(BIN)/python -m pip install -q -e '.[dev,docs]' -c $(VENV)/constraints.txt
	@touch $@
.PHONY: help demo test test-gpu docs lab scoreboard bench format clean
