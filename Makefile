# Every target sets up what it needs; only python3 and make must be installed.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
TRUST := $(VENV)/.trust

WORKERS ?= logical
PYTEST := $(BIN)/python -m pytest
# By file: the tests of a file share fixtures. One thread each: the workers share the cores.
PARALLEL := OMP_NUM_THREADS=1 $(PYTEST) -n $(WORKERS) --maxprocesses 16 --dist loadfile

NOTEBOOKS := $(patsubst docs/%.py,build/%.ipynb,$(wildcard docs/tutorials/*.py))

LOCK := jobs/kubernetes/requirements.lock

.PHONY: demo flagship studio docs site test-unit test test-slow campaigns fuzz bench bench-quality schema lock audit lint setup
.PHONY: clean

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	# torch first and alone, so that the other packages find the pinned build instead of choosing one.
	$(BIN)/python -m pip install --quiet -c constraints.txt torch uv
	# uv takes seconds where pip takes a minute or more; pip may be configured for a package index that uv does not know.
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev]' \
	    || $(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

demo: $(INSTALLED)
	$(BIN)/facegen demo

# The best faces so far: LFW at 64 pixels, from its folder (LFW=DIR) or downloaded; half an hour on a CPU.
LFW ?= flagship/lfw
flagship: $(INSTALLED)
	test -e $(LFW) || $(BIN)/python -m shards.fetch lfw $(LFW)
	test -e flagship/data/dataset.json || $(BIN)/python -m shards.pack lfw $(LFW) flagship/data --size 64
	$(BIN)/accelerate launch facegen/train.py ae_gan --config flagship_lfw --data flagship/data --run flagship/run
	$(BIN)/python -m facegen.fit_sampler blend flagship/run --data flagship/data
	$(BIN)/python -m eval.report flagship/run:blend --data flagship/data --split test --fid_weights none \
	    --num_train 2000 --out flagship/report
	@echo "Open flagship/report/report.html, or edit faces: $(BIN)/python -m eval.studio flagship/run:blend --data flagship/data"

# The page for editing the demo's faces by hand.
studio: $(INSTALLED)
	$(BIN)/python -m eval.studio demo/run --data demo/data --report demo/report

# The documentation as a site, in site/: README, docs/, the reference of the Python functions, and the tutorials, run as
# notebooks if they have changed: a quarter of an hour. Broken links and failing cells stop it.
site: $(INSTALLED) $(NOTEBOOKS)
	$(BIN)/python -m mkdocs build --strict

build/tutorials/%.ipynb: docs/tutorials/%.py $(INSTALLED)
	rm -rf build/tutorials/$*
	mkdir -p build/tutorials/$*
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/jupytext --quiet --to ipynb --set-kernel python3 --execute \
	    --run-path build/tutorials/$* --output $@ $<

# The pictures of the documentation. The last one needs a Chromium on the path.
docs: demo flagship
	mkdir -p docs
	cp flagship/report/figures/reconstructions.png docs/flagship_reconstructions.png
	cp demo/report/figures/reconstructions.png docs/demo_reconstructions.png
	cp demo/report/figures/run-samples.png docs/demo_samples.png
	$(BIN)/python tests/browser/studio_screenshot.py demo/run demo/data docs/studio.png

# Unit tests, in parallel: seconds to a minute and a half, for the loop of editing and testing.
test-unit: $(INSTALLED)
	$(PARALLEL) tests/unit -m 'not slow'

# All tests but the slow ones. Those that start several processes fill the machine: they run one at a time.
test: $(INSTALLED)
	$(PARALLEL) -m 'not (slow or processes)'
	$(PYTEST) tests/integration/processes -m 'not slow'

test-slow: $(INSTALLED)
	$(PYTEST) -m slow

# Bounds on time and memory, as ratios within one run. The scripts beside them measure speeds and write results.
bench: $(INSTALLED)
	$(PYTEST) tests/benchmarks --bounds tests/benchmarks/results/bounds.json

# Time to quality beside pythae and PyTorch-VAE, and the cost of a step, on a packed data set.
DATA ?= data/lfw64
bench-quality: $(INSTALLED)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[benchmark]'
	$(BIN)/python tests/benchmarks/quality.py $(DATA)
	$(BIN)/python tests/benchmarks/cost.py $(DATA)

# Bad inputs by the thousand, each judged; see tests/campaigns.
campaigns: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.campaigns all --cases 2000 --out tests/benchmarks/results/campaigns.json \
	    --page docs/campaigns.md

# Coverage-guided fuzzing of each parser of bytes, a minute each.
fuzz: $(TRUST)
	for target in tar index manifest image body; do $(BIN)/python -m tests.campaigns.fuzzing $$target || exit 1; done

# Known holes in the packages that the container installs.
audit: $(TRUST)
	$(BIN)/pip-audit --disable-pip --requirement $(LOCK)

# The packages of the container, with the hash of every file: all extras, setuptools, which builds the project itself, and
# Ray's dashboard, through which a RayJob is submitted.
lock: $(TRUST)
	echo '# What the container installs, with the hash of every file. Made by `make lock` from pyproject.toml and constraints.txt.' > $(LOCK)
	printf '%s\n' 'setuptools>=77' 'ray[default]' | \
	    $(BIN)/uv pip compile pyproject.toml - --extra all -c constraints.txt --python-version 3.12 --python-platform x86_64-manylinux_2_28 --generate-hashes --no-header >> $(LOCK)

$(TRUST): $(INSTALLED)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[trust]'
	touch $@

schema: $(INSTALLED)
	# report.schema.json, from the dataclasses of report.json.
	$(BIN)/python -m eval.reports.output.schema

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/codespell

clean:
	rm -rf $(VENV) demo flagship site fuzzing kills *.egg-info
