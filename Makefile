# Two commands for a newcomer: `make demo` and `make test`.
# Python 3.11 or newer, pip and make are all that is needed.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Python compiles what is imported, when it is imported: a fraction of it all.
# Where it may not write that down, the installer does.
COMPILE := $(if $(PYTHONDONTWRITEBYTECODE),,--no-compile)
INSTALL = $(BIN)/python -m pip install --quiet $(COMPILE)
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
unit: $(VENV)/.installed-test
	+$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal \
	  --ignore=tests/statistical

# Where much is drawn, it pays to compile well.
statistical: $(VENV)/.installed-test
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
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -e '.[experiments]'
	touch $@

# Not after the other: one install takes three quarters of the time of two.
$(VENV)/.installed-test: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -e '.[test]'
	touch $(VENV)/.installed $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
