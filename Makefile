# make demo: a real study on this machine, from nothing. make test: all tests. Python 3.11 or later.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What benchmarks read; it is not part of the repository.
DATA ?= ../shared/data
KILLS ?= 50
SEED ?= 0
# One thread a process: trials, optimizer and tests share few cores.
export OMP_NUM_THREADS := 1

.PHONY: help demo test simulate kills gpu fuzz golden helm prometheus grafana lint format crds chart dashboards pictures package audit benchmark clean

help:  ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all,dev]'
	touch $@

demo: $(VENV)/installed  ## set up and run the example study on a local cluster
	$(BIN)/primo run -f images/example-trial/study.yaml --picture digits.front.png

test: $(VENV)/installed helm  ## set up and run all tests
	-@$(MAKE) --no-print-directory prometheus
	$(BIN)/pytest -q --numprocesses auto --maxprocesses 4 --dist worksteal

kills: $(VENV)/installed  ## kill -9 of everything in a real study, KILLS=50 times; SEED=draws other moments
	PRIMO_KILLS=$(KILLS) PRIMO_KILLS_SEED=$(SEED) $(BIN)/pytest -q -s tests/kills

gpu: $(VENV)/installed  ## what needs an NVIDIA GPU: models on it, energy, trials that train on it
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt nvidia-ml-py
	$(BIN)/pytest -q tests/gpu

fuzz: $(VENV)/installed  ## hostile objects and words, FUZZ=how many of each; minutes
	PRIMO_FUZZ=$(or $(FUZZ),2000) $(BIN)/pytest -q --timeout 3600 tests/fuzz

golden: $(VENV)/installed  ## keep objects of this version for later ones to read, once for each release
	PYTHONPATH=tests $(BIN)/python tests/support/golden.py

simulate: $(VENV)/installed  ## the operator in a simulated cluster: SEEDS=how many, FROM=the first
	PYTHONPATH=tests $(BIN)/python -m support.simulation --seeds $(or $(SEEDS),1000) --from $(or $(FROM),0)

helm: $(VENV)/installed
	$(BIN)/python tests/support/helm.py

# Without its scripts and without the browser's parts that npm would add: the tests run its
# transformations alone. They are skipped where it is not there.
grafana:  ## fetch Grafana's transformations for the tests: 140 MB, needs Node and npm
	@mkdir -p .tools/grafana && cd .tools/grafana && npm install --no-audit --no-fund --no-package-lock \
		--legacy-peer-deps --ignore-scripts @grafana/data@13.2.3 react@18.3.1 react-dom@18.3.1 rxjs@7.8.2

# Unpacked and not installed: a package's installation starts its service. Tests that need it are
# skipped where it cannot be had.
prometheus:  ## fetch Debian's Prometheus for the tests, if there is none
	@command -v prometheus >/dev/null || test -x .tools/usr/bin/prometheus || { mkdir -p .tools && cd .tools \
		&& { apt-get download -qq prometheus || { apt-get update -qq && apt-get download -qq prometheus; }; } \
		&& dpkg-deb --extract prometheus_*.deb . && rm prometheus_*.deb; }

lint: $(VENV)/installed  ## style, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/installed  ## bring code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

crds: $(VENV)/installed  ## generate crds/, the chart's copy and docs/reference.md from the models
	$(BIN)/python -m primo_operator.crds --write crds
	$(BIN)/python -m primo_operator.crds --write helm/primo-operator/files/crds
	$(BIN)/python -m primo_operator.reference --write docs/reference.md

benchmark: $(VENV)/installed  ## search quality of the optimizer, minutes; DATA=folder (benchmarks/README.md)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[benchmarks]'
	$(BIN)/python benchmarks/run.py --data $(DATA) search --quick --optimizer primo,random \
		--out benchmarks/runs/quick.jsonl
	$(BIN)/python benchmarks/run.py --data $(DATA) table benchmarks/runs/quick.jsonl

chart: $(VENV)/installed  ## write the table of the chart's values, and the wheel's copy of its rules
	$(BIN)/python helm/values_table.py
	cp helm/primo-operator/files/rules/primo.yaml operator/primo_cli/rules.yaml

dashboards: $(VENV)/installed  ## write the chart's Grafana dashboards from helm/dashboards
	PYTHONPATH=helm $(BIN)/python -W ignore::DeprecationWarning -m dashboards

pictures: $(VENV)/installed prometheus grafana  ## draw the dashboards of the guide, after a whole study: minutes
	PYTHONPATH=tests:helm $(BIN)/python tests/support/pictures.py

package: $(VENV)/installed helm  ## wheel, sdist, chart and install.yaml in dist/; REGISTRY=where the images are
	rm -rf dist
	$(BIN)/hatchling build -d dist
	$(BIN)/helm4 package helm/primo-operator --destination dist
	cp helm/namespace.yaml dist/install.yaml
	$(BIN)/helm4 template primo-operator helm/primo-operator --namespace primo-system --no-hooks \
		--set imageRegistry=$(REGISTRY) >> dist/install.yaml

audit: $(VENV)/installed  ## known vulnerabilities of the pinned dependencies; asks an advisory service
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt pip-audit
	$(BIN)/pip-audit --no-deps --disable-pip --requirement constraints.txt

clean:  ## remove what was made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
