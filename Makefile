# `make` lists what there is. Needs make, and Python 3.11 to 3.13; everything else goes into .venv.
PYTHON ?= python3
PY := .venv/bin/python
BIN := .venv/bin
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# `make run PORT=9000` and `PORT=9000 make run` are the same: make hands both to what it starts.

.PHONY: help setup setup-cpu run train test lint format unit contract deploy e2e chart-test image-test bench peers load lock index principles-report reference clean

help: ## list these targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

setup: ## make .venv from a lock file (run and test do this themselves)
	@$(PYTHON) -m scripts.setup

# The tests start a real vLLM, whatever `make run` was last used with.
setup-cpu:
	@$(PYTHON) -m scripts.setup cpu

run: setup ## start vLLM and the gateway, show one repaired answer, serve until Ctrl-C
	@exec $(PY) -m scripts.run

train: setup ## PROFILE=cpu: questions, rubrics, GRPO, export, then an evaluation behind vLLM and the gateway
	@exec $(PY) -m scripts.train

test: lint unit contract deploy e2e ## everything: lint, types, import rules, unit, contract, deployment and end-to-end tests

lint: setup-cpu ## ruff, mypy --strict and the import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: setup-cpu ## let ruff lay out the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix --select I .

unit: setup-cpu ## fast tests without network or model
	@$(PY) -m pytest tests/unit

contract: setup-cpu ## the HTTP contract against a fake model
	@$(PY) -m pytest tests/contract

deploy: setup-cpu ## chart, image, rules and dashboard, by helm, promtool and hadolint (fetched into .cache/tools)
	@$(PY) -m pytest tests/deploy

e2e: setup-cpu ## the gateway in front of a real vLLM with the demonstration model
	@$(PY) -m pytest tests/e2e

chart-test: setup-cpu ## all of the chart: every Kubernetes version's schemas, a scan for bad practice, the package
	@$(PY) -m scripts.chart_test

image-test: setup-cpu ## build the gateway's image on a stand-in base, run it read-only and ask it (Debian, as root)
	@$(PY) -m scripts.image_test

bench: setup-cpu ## what an answer costs, how many a minute, how soon, and what revision gains, on a real vLLM (an hour)
	@for name in cost throughput streaming verdicts heldout; do $(PY) -m loadtests.bench $$name; done

peers: setup-cpu ## LiteLLM, optillm and NeMo Guardrails in environments of their own, beside the gateway (an hour)
	@$(PY) -m loadtests.peers install
	@$(PY) -m loadtests.bench overhead
	@$(PY) -m loadtests.bench peers

STAGE ?= ramp
load: setup-cpu ## STAGE=ramp|spike|soak|overload|steady: Locust against the gateway in front of a simulated vLLM
	@$(PY) -m loadtests.load --stage $(STAGE)

lock: setup-cpu ## choose the newest package versions that fit and pin them in requirements/
	@$(PY) -m scripts.lock

index: setup ## build the index of principles into .cache/index
	@$(PY) -m scripts.build_index

principles-report: index ## how well retrieval finds the principles, measured on their own exemplars
	@$(PY) -m principles_index report

reference: setup-cpu ## write docs/reference/settings.md, the chart's VALUES.md and its schema anew
	@$(PY) -m scripts.reference
	@$(PY) -m scripts.chart_docs

clean: ## remove .venv and everything that was built
	rm -rf .venv .cache build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
