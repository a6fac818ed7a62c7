PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.stamp
DEV := .venv/.dev

export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help run local test lint bench suite up down clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

run: $(STAMP) ## a hundred phones on a virtual clock, under plain FedAvg and under 'adaptive'
	$(BIN)/motley compare config/fleets/phones-100.yaml --policies random,adaptive --seeds 1

local: $(STAMP) ## the default fleet as processes of this machine, without Docker
	$(BIN)/motley run config/fleet.yaml

test: $(DEV) ## all tests that need no Docker
	$(BIN)/pytest

lint: $(DEV) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP) ## what a round costs, against stock Flower; how fast compose files are written
	$(BIN)/python benchmarks/compose_file.py
	$(BIN)/python benchmarks/round_overhead.py

suite: $(STAMP) ## every policy on the four workloads of the suite, five seeds each; takes hours
	$(BIN)/motley compare --suite --policies all --seeds 5

up: $(STAMP) ## the default fleet in containers
	$(BIN)/motley up

down: $(STAMP) ## stop the containers
	$(BIN)/motley down

clean: ## remove the environment and every cache
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -qq -c constraints.txt -e .
	@touch $@

$(DEV): $(STAMP)
	$(BIN)/pip install -qq -c constraints.txt -e ".[dev]"
	@touch $@
