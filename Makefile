# `make study` and `make test` do all the set-up they need; a second call installs nothing.
PYTHON ?= python3
PARAMS ?= params/micro.yaml
CORES ?=
PROFILE ?= profiles/default
VENV ?= .venv
PY := $(VENV)/bin/python
SHOWN := $(shell cat results/shown.txt)
LOCK := $(shell cksum < requirements.lock | cut -d ' ' -f 1)
STAMP := $(VENV)/installed-$(LOCK)

# A module of a cluster sets these: its packages would come before those of .venv.
unexport PYTHONPATH PYTHONHOME

.PHONY: study report pack test lab figures clean bench lint pretrain test-slow test-faults test-slurm test-gpu test-pythons test-part setup

study: $(STAMP)  ## the whole study, resumed where it stopped
	$(PY) -m varireal_utils study --params $(PARAMS) --profile $(PROFILE) $(if $(CORES),--cores $(CORES))

test: $(STAMP)
	OMP_NUM_THREADS=1 $(PY) -m pytest -m "not slow and not gpu and not slurm and not faults" -n 2 --dist loadfile --no-loadscope-reorder

# A part of the tests that touches every package, under each other Python that is here
PYTHONS ?= python3.12 python3.13 $(wildcard $(HOME)/.pyenv/versions/3.1[23].*/bin/python3)

test-pythons:  ## set-up and test-part under Python 3.12 and 3.13, where they are on PATH or pyenv's
	@for python in $(PYTHONS); do \
	  version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || \
	    { echo "skipped: no $$python here"; continue; }; \
	  $(MAKE) test-part PYTHON=$$python VENV=.venv-$$version || exit 1; done

test-part: $(STAMP)
	OMP_NUM_THREADS=1 $(PY) -m pytest -q tests/unit/test_runner.py tests/unit/test_machines.py \
	  tests/unit/test_file_lock.py tests/unit/test_config.py tests/unit/test_datasets.py \
	  tests/unit/test_clip_lora.py tests/unit/test_figures.py tests/unit/test_code.py

test-slow: $(STAMP)
	$(PY) -m pytest -m "slow and not gpu and not slurm and not faults"

KILLS := tests/faults/test_kills.py::test_kills_cost_time_and_never_a_byte
MACHINES := tests/faults/test_odd_machines.py

test-faults: $(STAMP)  ## fifty kills, odd machines, disks and input, changed files; prints what it did
	@mkdir -p .pytest_cache
	@{ VARIREAL_INPUTS=1000 OMP_NUM_THREADS=1 $(PY) -m pytest -q tests/unit/test_fuzz_inputs.py; doors=$$?; \
	  $(PY) -m pytest -q -m faults -rs --deselect $(KILLS) --ignore $(MACHINES) && exit $$doors; } > .pytest_cache/faults.log 2>&1 & \
	others=$$!; $(PY) -m pytest -q -rs $(KILLS) $(MACHINES); code=$$?; \
	wait $$others || code=1; cat .pytest_cache/faults.log; exit $$code

test-slurm: $(STAMP)  ## the tiny study through a SLURM of four nodes that it starts and stops
	$(PY) -m pytest -m slurm -rs

test-gpu: $(STAMP)
	$(PY) -m pytest -m gpu

lab: $(STAMP)  ## JupyterLab; LAB="--port 9999" gives it words of its own
	$(PY) -m varireal_utils lab $(LAB)

report: $(STAMP)  ## one HTML page of a finished study: runs/<study>/report/index.html
	$(PY) -m varireal_utils report --params $(PARAMS)

pack: $(STAMP)  ## a finished study as one archive with its cards: runs/<study>.zip
	$(PY) -m varireal_utils pack --params $(PARAMS)

figures: $(STAMP)  ## every figure again, from stored results, without any model
	@set -e; for study in $(SHOWN); do \
	  $(PY) -m varireal_utils run 08_figures --params params/$$study.yaml --set source=results/$$study --set publish=true; done

pretrain: $(STAMP)  ## trains the micro models again (hours); goes on from its checkpoints
	$(PY) -m varireal_utils run micro_pretrain --set checkpoint_dir=checkpoints/micro --set output_dir=models/micro --set count=12000 --set minutes=150

bench: $(STAMP)  ## CLIP LoRA as the reference steps it beside ours, by turns
	$(PY) -m bench.run

lint: $(STAMP)  ## ruff's checks and format, and mypy over the packages
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

setup: $(STAMP)

clean:  ## what can be made again; stays: runs/, and .snakemake, which knows how they were made
	rm -rf .venv .venv-* .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is named after the lock's checksum: another lock installs again, the same never does.
# Packages are compiled here, once: where Python may not write bytecode (containers often say so),
# the kernel of every stage would compile them anew. A user without a home has no place for uv's
# cache, and installing without one takes many minutes.
$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Python 3.11 or newer is needed; '$(PYTHON)' is $$($(PYTHON) --version 2>&1)." \
	    "Name another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	{ $(PY) -m pip install --quiet --disable-pip-version-check uv && \
	  { test -w "$${UV_CACHE_DIR:-$${XDG_CACHE_HOME:-$$HOME}}" || export UV_CACHE_DIR=$(VENV)/cache; } && \
	  UV_SYSTEM_CERTS=1 $(PY) -m uv pip install --python $(PY) --compile-bytecode --require-hashes -r requirements.lock; } || \
	  $(PY) -m pip install --disable-pip-version-check --require-hashes -r requirements.lock
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@rm -rf $(VENV)/cache $(VENV)/installed-*
	@touch $@
