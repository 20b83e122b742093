# Two commands for a newcomer: `make demo` and `make test`.
# Python 3.11 or newer, pip and make are all that is needed.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Python compiles what is imported, when it is imported: a fraction of it all.
# That is written down, as the tests start Python dozens of times.
unexport PYTHONDONTWRITEBYTECODE
# uv takes a quarter of pip's time, and knows none of pip's settings: where it is
# not to be had, or its index, pip does the work. The newest pip takes half of the
# time of the one that Python brings, which is unpacked where there is no other.
NEW_VENV = $(PYTHON) -m venv --without-pip $(VENV) && \
  { $(PYTHON) -m pip --python $(BIN)/python install --quiet \
    --no-compile 'pip>=25' uv || $(BIN)/python -m ensurepip; }
install = $(BIN)/uv pip install --quiet --python $(BIN)/python $(1) || \
  $(BIN)/python -m pip install --quiet --no-compile $(1)
WORKERS ?= 2
# What outlives a checkout, beside the compiled programs.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/htjax

.PHONY: demo test unit statistical slow seeds lint docs format bench report clean

demo: $(VENV)/.installed
	$(BIN)/python -m experiments.prunability \
	  --config=experiments/prunability/config.py:demo \
	  --workdir=runs/demo

# WORKERS processes run tests throughout; what uses one core runs beside them,
# job by job, so that no core waits. All is run to its end, whatever fails.
test: $(VENV)/.installed-test
	$(MAKE) --no-print-directory --output-sync --keep-going -j $(WORKERS) \
	  unit lint docs statistical

# The leading + lets this output through as it comes.
unit: $(VENV)/.imported
	+$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal \
	  --ignore=tests/statistical

# Where much is drawn, it pays to compile well.
statistical: $(VENV)/.imported
	HTJAX_TEST_COMPILER=full $(BIN)/python -m pytest tests/statistical

# Minutes of sampling and training that every change need not wait for.
slow: $(VENV)/.installed-test
	HTJAX_TEST_COMPILER=full $(BIN)/python -m pytest -m slow

# A right library passes its statistical tests with any draws.
seeds: $(VENV)/.installed-test
	for seed in $$(seq 1 20); do \
	  HTJAX_TEST_SEED=$$seed HTJAX_TEST_COMPILER=full \
	    $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal \
	    tests/statistical || exit 1; \
	done

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --cache-dir $(CACHE)/mypy

# The site, in build/site; a warning is an error.
docs: $(VENV)/.installed-test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: $(VENV)/.installed-test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.installed-test
	$(BIN)/python -m experiments.benchmarks.run

# Every table and figure of the papers beside the rows at hand; RUNS are folders
# of runs, such as the one that experiments/on_gpu.sh writes.
report: $(VENV)/.installed
	$(BIN)/python -m experiments.report --runs $(RUNS)

$(VENV)/.installed: pyproject.toml
	$(NEW_VENV)
	$(call install,-e '.[experiments]')
	touch $@

# Not after the other: one install takes three quarters of the time of two.
$(VENV)/.installed-test: pyproject.toml
	$(NEW_VENV)
	$(call install,-e '.[test]')
	touch $(VENV)/.installed $@

# All that tests import, compiled once before several processes do it at once;
# what cannot be imported is for them to tell.
$(VENV)/.imported: $(VENV)/.installed-test
	-$(BIN)/python -m pytest -qq --collect-only > $@

clean:
	find . -name __pycache__ -prune -exec rm -rf {} +
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
