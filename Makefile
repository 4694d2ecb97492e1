# One environment, made once and made again when its requirements change. Everything else runs in it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ZOO_STAMP := $(VENV)/.zoo-installed
PAYOFF_STAMP := $(VENV)/.payoff-installed
BROWSER_STAMP := $(VENV)/.browser-installed
DOCS_STAMP := $(VENV)/.docs-installed

.PHONY: demo test slow gpu zoo browser pictures docs counts benchmarks payoff versions package check format clean

demo: $(STAMP)
	rm -rf demo_out
	$(BIN)/saconv-surgeon convert sample_models/tiny_resnet.py:build -o demo_out

# On every core, one thread each.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --maxprocesses 8 --dist worksteal

slow: $(STAMP)
	$(BIN)/python -m pytest -q -m slow

gpu: $(STAMP)
	$(BIN)/python -m pytest -q -m gpu

# Hundreds of real models; about half an hour on two cores. Makes docs/zoo.md.
zoo: $(ZOO_STAMP)
	rm -rf .zoo
	ZOO_RESULTS=.zoo $(BIN)/python -m pytest -q -m zoo -n 2; status=$$?; \
	$(BIN)/python -m tests.zoo.table .zoo docs/zoo.md && exit $$status

# The HTML report in a real Chromium, which has to be there (Debian: apt install chromium).
browser: $(BROWSER_STAMP)
	$(BIN)/python -m pytest -q -m browser

# The pictures in README and docs, made by the tool itself; needs chromium.
pictures: $(BROWSER_STAMP)
	$(BIN)/python -m docs.pictures

# The documentation site, into .docs/site; needs no network once its environment is there.
docs: $(DOCS_STAMP)
	$(BIN)/python -m docs.site

# Counts of some fifty models, checked against torch's counter and by hand; a minute. Makes docs/counts.md.
counts: $(ZOO_STAMP)
	$(BIN)/python -m tests.zoo.counts_table docs/counts.md

# Does converting pay? Trains what is missing in benchmarks/results/payoff (hours on two cores), then makes docs/payoff.md.
payoff: $(PAYOFF_STAMP)
	$(BIN)/python -m benchmarks.payoff.run
	$(BIN)/python -m benchmarks.payoff.page

# The tests on each torch and Python that is promised, in environments of several GB that are made and removed one by one; needs those
# Pythons and about an hour on two cores. Makes docs/versions.md. What to run: make versions ARGUMENTS="--only NAME".
versions: $(STAMP)
	$(BIN)/python -m benchmarks.versions.measure $(ARGUMENTS)
	$(BIN)/python -m benchmarks.versions.table

# Five quarters of an hour on an otherwise idle machine; results go to benchmarks/results.
benchmarks: $(ZOO_STAMP) $(BROWSER_STAMP)
	$(BIN)/python -m benchmarks.counting
	$(BIN)/python -m benchmarks.verdicts
	$(BIN)/python -m benchmarks.resnet50
	$(BIN)/python -m benchmarks.starts
	$(BIN)/python -m benchmarks.reports
	$(BIN)/python -m benchmarks.layer
	$(BIN)/python -m benchmarks.parts
	$(BIN)/python -m benchmarks.target_speed
	$(BIN)/python -m benchmarks.targets
	$(BIN)/python -m benchmarks.tool
	$(BIN)/python -m benchmarks.kills

# Wheel and sdist, and the wheel tried in a clean environment, away from this folder. Needs a registry for what builds it.
package:
	rm -rf dist .package
	$(PYTHON) -m venv .package
	.package/bin/pip install --quiet --constraint constraints.txt build torch==2.13.0
	.package/bin/python -m build --outdir dist .
	.package/bin/pip install --quiet --constraint constraints.txt dist/*.whl
	.package/bin/python -m tests.package dist

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) demo_out .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

$(BROWSER_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[browser]'
	touch $@

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

$(ZOO_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[zoo]'
	touch $@

$(PAYOFF_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[payoff]'
	touch $@
