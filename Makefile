# Chores, one word each; CI runs the same words. Every target does its own set-up.

PYTHON ?= python3
BIN := .venv/bin

# One thread a process: small models gain nothing from a second one, and two that spin lose (docs/log.md).
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help

# tests/conftest.py says which tests stay together on one worker. nproc obeys OMP_NUM_THREADS if that is set.
CORES = $$(env -u OMP_NUM_THREADS nproc)
LANES = --dist loadgroup --no-loadscope-reorder

.PHONY: quickstart test test-clusters test-gpu check lint weigh bench torture format docs docs-parts docs-pictures install help clean cluster-slurm cluster-slurm-stop cluster-ray cluster-ray-stop

quickstart: .venv/.installed  ## run a small study end to end on data that is drawn, in a few minutes
	$(BIN)/flipscale run studies/quickstart.yaml
	@echo
	@echo 'flipscale is installed in .venv. To use it in this shell:'
	@echo '    source .venv/bin/activate'
	@echo '    flipscale init study.yaml'

test: .venv/.dev  ## tests that need no cluster, server or browser, in 12 to 15 minutes of two cores
	$(BIN)/python -m pytest -m 'not clusters' -n $$(($(CORES) + 1)) $(LANES)

# More workers than cores: those that run the tests of SLURM and Ray mostly wait.
test-clusters: .venv/.dev  ## tests on real SLURM, Ray, MLflow's server, PostgreSQL and Chromium, and short torture
	$(BIN)/python -m pytest -m clusters -n $$(($(CORES) + 2)) $(LANES)

test-gpu: .venv/.dev  ## test and measure the GPU of this machine, within 20 minutes; says so if there is none
	$(BIN)/python -m tests.gpu

check: lint  ## lint, format, types
	$(BIN)/mypy

lint: .venv/.dev  ## lint, format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

weigh: .venv/.dev  ## count what a reader of flipscale has to hold
	$(BIN)/python -m tests.weigh

bench: .venv/.dev .venv/hydra/bin/python  ## measure flipscale beside named peers, on an otherwise idle machine; docs/benchmarks.md shows the results
	$(BIN)/python -m bench.speed --out speed
	$(BIN)/python -m bench.masking --out masking
	$(BIN)/python -m bench.loading --out loading
	$(BIN)/python -m bench.checkpoints --out checkpoints
	$(BIN)/python -m bench.submission --start-slurm --hydra .venv/hydra/bin/python --out submission
	$(BIN)/python -m bench.ray_overhead --out ray_overhead
	$(BIN)/python -m bench.commands --out commands
	$(BIN)/python -m bench.collect --out collect
	$(BIN)/python -m bench.large_study --out large_study
	$(BIN)/python -m bench.mirror --out mirror
	$(BIN)/python -m bench.probe --out probe
	$(BIN)/python -m bench.comparison --out comparison
	$(BIN)/python -m bench.coverage --out coverage
	$(BIN)/python -m bench.trunks --out trunks
	$(BIN)/python -m bench.next --out next
	$(BIN)/python -m bench.hours
	$(BIN)/python -m bench.memory

torture: .venv/.dev  ## kill and starve flipscale for up to an hour, and count what is lost, doubled or broken; needs what the tests need
	$(BIN)/python -m tests.torture

format: .venv/.dev  ## format the code, and fix what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: docs-parts  ## write the parts of docs/ that come from the code, and build the site into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-parts: .venv/.dev  ## write the parts of docs/ that come from the code
	$(BIN)/python -m docs.parts

docs-pictures: .venv/.dev  ## draw docs/report.png anew; needs Chromium
	$(BIN)/python -m docs.parts.pictures

cluster-slurm:  ## start a real SLURM cluster on this machine, to try submitting on; needs root and SLURM's packages
	@tests/clusters/slurm.sh start >/dev/null
	@echo 'To use it:'
	@echo "    $$(tests/clusters/slurm.sh env)"
	@echo '    $(BIN)/flipscale submit studies/quickstart.yaml --on slurm --site tests/clusters/site.yaml'

cluster-slurm-stop:  ## stop it; its folder .cluster/slurm stays
	@tests/clusters/slurm.sh stop

cluster-ray: .venv/.installed  ## start a real Ray cluster on this machine, a head and two workers, to try submitting on
	@tests/clusters/ray.sh start >/dev/null
	@echo 'To use it:'
	@echo "    $$(tests/clusters/ray.sh env)"
	@echo '    $(BIN)/flipscale submit studies/quickstart.yaml --on ray'

cluster-ray-stop:  ## stop it; its folder .cluster/ray stays
	@tests/clusters/ray.sh stop

install: .venv/.installed  ## install flipscale in .venv
	@echo 'flipscale is installed in .venv. To use it in this shell: source .venv/bin/activate'

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-20s %s\n", $$1, $$2}' Makefile

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.installed: .venv/bin/python pyproject.toml
	@echo 'installing flipscale and its packages into .venv; this takes one to three minutes and prints nothing'
	$(BIN)/python -m pip install --quiet --editable '.[all]'
	@touch $@

.venv/.dev: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@ .venv/.installed

# What `make bench` compares submissions with; flipscale needs none of it.
.venv/hydra/bin/python:
	$(PYTHON) -m venv .venv/hydra
	$@ -m pip install --quiet hydra-core hydra-submitit-launcher

clean:
	rm -rf .venv site .mypy_cache .ruff_cache .pytest_cache
