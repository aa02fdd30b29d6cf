# The words of this project; CI uses the same. Everything is installed into .venv, once.
#   make run        the first experiment, ending with its report      make test       the tests
#   make setup      only install                                      make test-all   with the slow ones
#   make check      format, lint, types                               make bench      docs/performance.md
#   make docs       write the generated pages of docs/ again          make torture    kill runs and see what is left
#   make site       the documentation site, in site/                make lowest     the core of the tests, on the lowest versions
#   make notebooks  execute notebooks/ for the site                 make gallery    docs/gallery.md and its images again
#   make comfyui    the node pack beside a checkout: make comfyui COMFYUI=/path COMFYUI_PYTHON=/its/python
#   make gpu        docs/gpu.md, on a machine with a GPU; a rehearsal on others. Real weights: make gpu MODEL=/path/to/openjourney
#   make pipelines  every pipeline again on the newest diffusers, and what changed: for a scheduled job
# Another Python: make run PYTHON=python3.12        Another folder for the run: make run OUT=runs/mine

PYTHON ?= python3
OUT ?= runs/k-decay
JOBS ?= 3
DIFFUSERS ?= diffusers
COMFYUI ?=
COMFYUI_PYTHON ?= $(BIN)/python

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Two threads that wait for each other on a busy machine lose more than they gain. Compiled Python is stored whatever the
# environment says: the tests start Python some eighty times.
CALM := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive PYTHONDONTWRITEBYTECODE=
RECIPE := pyproject.toml constraints.txt compat/pyproject.toml models/pyproject.toml

.PHONY: help run setup test test-all lowest torture check bench gpu docs gallery notebooks site pipelines comfyui
.DELETE_ON_ERROR:

help:
	@sed -n 's/^#   //p' Makefile

run: .venv/.run
	@echo "336 images of 21 guidances on scenes: a first report within a minute, all within about five, in $(OUT)/report.html"
	$(BIN)/cfglab run k-decay --model scenes --out $(OUT)

setup: .venv/.run .venv/.dev

test: setup
	$(CALM) $(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not slow"

test-all: setup
	CFGLAB_FUZZ_SECONDS=240 $(CALM) $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

torture: setup
	CFGLAB_FUZZ_SECONDS=240 $(CALM) $(BIN)/python -m pytest tests/torture --durations=5

# The core of the suite, for the lowest versions of pyproject.toml (docs/releasing.md says how to install them).
# Left out: tests marked `newest`, and what compares with classes that the lowest diffusers does not have.
PYTEST ?= $(BIN)/python -m pytest
lowest:
	$(CALM) $(PYTEST) -m "not slow and not newest" tests/schedules tests/guidance tests/denoising tests/mixtures tests/metrics tests/scenes \
	  tests/experiments tests/pipelines/test_classic.py tests/pipelines/test_loading.py tests/test_cli.py tests/test_imports.py \
	  --ignore tests/guidance/test_closed_loop.py --ignore tests/guidance/test_self_attention.py

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: .venv/.run
	$(BIN)/python -m benchmarks.performance

gpu: .venv/.run
	$(BIN)/python -m benchmarks.gpu $(if $(MODEL),--model "$(MODEL)")

docs: .venv/.run
	$(BIN)/python docs/generate.py

gallery: .venv/.run
	$(CALM) $(BIN)/python docs/gallery.py

# A notebook that has not changed, on code that has not changed, is not executed again.
notebooks: .venv/.site
	$(CALM) $(BIN)/python docs/notebook_pages.py --jobs $(JOBS)

# Offline and strict: a link or an anchor that leads nowhere is an error.
site: .venv/.site notebooks
	NO_MKDOCS_2_WARNING=1 DISABLE_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --quiet --strict

# Beside the pinned one, not in its place. Another: make pipelines DIFFUSERS="diffusers==1.0 transformers==6.0"
# diffusers' own tests under guide(), on the pinned one: make pipelines DIFFUSERS_TESTS=/path/to/a/checkout of its tag
pipelines: setup
	$(PIP) install --quiet --upgrade --no-deps --target .newer $(DIFFUSERS)
	PYTHONPATH=.newer $(CALM) $(BIN)/python -m tests.pipelines.newer -n $(JOBS) --dist worksteal tests/pipelines
	$(CALM) DIFFUSERS_TESTS="$(DIFFUSERS_TESTS)" $(BIN)/python -m tests.pipelines.upstream

# COMFYUI_PYTHON has ComfyUI's own requirements; of torchvision and torchaudio nothing is called. All skip without COMFYUI.
comfyui: setup
	COMFYUI="$(COMFYUI)" PYTHONPATH=src $(CALM) $(COMFYUI_PYTHON) -m pytest comfyui/tests

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "cfglab: there is no $(PYTHON) here; install Python 3.11 or newer, or name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "cfglab: $$($(PYTHON) --version 2>&1) is too old, Python 3.11 or newer is needed; name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "cfglab: $(PYTHON) cannot make a virtual environment; install its venv module (Debian, Ubuntu: python3-venv) and try again" >&2; exit 1; }
	$(PYTHON) -m venv .venv

# What running needs, and no more; the stamps keep a second call from installing again.
.venv/.run: $(RECIPE) | $(BIN)/python
	$(PIP) install --quiet -c constraints.txt -e . -e compat -e models
	@touch $@

# The tools of development. `pip install --group` needs a pip of 2025.
.venv/.dev: .venv/.run
	$(PIP) install --quiet --upgrade "pip>=25.1"
	$(PIP) install --quiet -c constraints.txt --group dev
	@touch $@

.venv/.site: .venv/.run
	$(PIP) install --quiet --upgrade "pip>=25.1"
	$(PIP) install --quiet -c constraints.txt --group docs
	@touch $@
