# Every target works on a fresh clone with Python 3.13 and make alone; `make setup` brings the rest.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# Unset: where it is set, nothing is compiled and every start is two to three times slower.
unexport PYTHONDONTWRITEBYTECODE

UV := .tools/uv/bin/uv
PYTHON := .venv/bin/python
export UV_PYTHON_DOWNLOADS ?= automatic
export PYTHONPATH := src:.

# What is given to these is data. It goes into the environment as it was written: neither make nor a shell
# evaluates anything of it.
$(foreach name,FOR SEED COUNT MEASURE,$(if $(filter-out undefined,$(origin $(name))),\
  $(eval export GIVEN_$(name) := $$(value $(name)))$(eval unexport $(name))))

.PHONY: help setup lock run soak explore fuzz bench pages test check
.PHONY: sam build deploy lint-template

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: ## .venv with Python 3.13, everything locked and installed
	@local/tools/setup

$(UV):
	@local/tools/setup uv

run: setup ## the main job: every sample event through the real handlers, against the emulator
	@./oncetask run

soak: setup ## the books under every fault, for FOR=600 seconds, from SEED=0
	@$(PYTHON) -m tests.model.soak --seconds "$${GIVEN_FOR:-600}" --seed "$${GIVEN_SEED:-0}"

explore: setup ## the real code under every single deviation of small scenarios, then random ones: FOR=600 seconds, SEED
	@$(PYTHON) -m tests.explorer.explorer --seconds "$${GIVEN_FOR:-600}" $${GIVEN_SEED:+--seed "$$GIVEN_SEED"}

fuzz: setup ## hostile and honest webhook deliveries, COUNT=100000
	@$(PYTHON) -m tests.hostile.fuzz --deliveries "$${GIVEN_COUNT:-100000}"

bench: setup ## what starts, events, memory and the bundle cost beside the official clients; writes docs/bench.md; MEASURE=WORD: that alone
	@$(PYTHON) -m bench.bench "$${GIVEN_MEASURE:-}"

pages: setup ## write what the pages show of the code again: the table of answers, the pictures
	@$(PYTHON) -m tests.project.pages

PYTEST := $(PYTHON) -m pytest -q -n 2

test: setup ## the tests that a change is made with: two to three minutes
	@$(PYTEST) -m "not slow"

COVERAGE := --cov=src --cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=95

check: setup ## all that CI runs: linters, types, the template's gates, every test, branch coverage of src
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@$(MAKE) --no-print-directory lint-template
	@$(PYTEST) -m "not slow" $(COVERAGE)
	@$(PYTEST) -m slow

# The bundle is AWS Lambda's arm64; BUNDLE_PLATFORM=x86_64-manylinux2014 makes one that runs on such a machine.
BUNDLE_PLATFORM ?= aarch64-manylinux2014
BUILD_DIR ?= .aws-sam/build
export BUNDLE_PLATFORM
export SAM_CLI_TELEMETRY := 0
SAM := .tools/sam/bin

sam: setup
	@$(PYTHON) -c 'from local.tools import python_tool; python_tool("sam")'

# ROUTES=FILE: a routes file of one's own. Its name goes into the environment as it was written: neither make nor a
# shell evaluates anything of it.
ifneq ($(origin ROUTES),undefined)
export ONCETASK_ROUTES_FILE := $(value ROUTES)
unexport ROUTES
OWN_TEMPLATE := .aws-sam/own/template.json
endif

build: sam ## the deployable bundle: one folder a function under .aws-sam/build; ROUTES=FILE for routes of your own
	@$(if $(OWN_TEMPLATE),$(PYTHON) -m local.template $(OWN_TEMPLATE))
	@echo "building the functions (about half a minute)" >&2
	@$(SAM)/sam build $(if $(OWN_TEMPLATE),--template-file $(OWN_TEMPLATE) --config-file "$(CURDIR)/samconfig.toml") --build-dir "$(BUILD_DIR)" >/dev/null # its advice on what to do next
	@$(PYTHON) -m bench.bundle "$(BUILD_DIR)"

# What `sam build` calls for each function. Compiled here, because the folder is read-only on AWS Lambda, and by
# content, because a zip's times are coarse. Scripts go, and their RECORD lines: they name this machine's Python.
# Only alibabacloud-tea has no wheel (without the exception an older one that has one would be taken); the
# setuptools that builds it is the one that sam.txt locks.
build-%: setup
	@$(UV) pip install -q --no-deps --require-hashes --only-binary :all: --no-binary alibabacloud-tea \
	  --build-constraints local/tools/sam.txt --python-platform "$(BUNDLE_PLATFORM)" --python-version 3.13 \
	  --target "$(ARTIFACTS_DIR)" -r src/requirements.txt
	@cp -R src/oncetask "$(ARTIFACTS_DIR)"
	@cp "$${ONCETASK_ROUTES_FILE:-src/routes.toml}" "$(ARTIFACTS_DIR)/routes.toml"
	@rm -rf "$(ARTIFACTS_DIR)/bin" "$(ARTIFACTS_DIR)/.lock"
	@sed -i.old '/^bin\//d' "$(ARTIFACTS_DIR)"/*.dist-info/RECORD && rm "$(ARTIFACTS_DIR)"/*.dist-info/RECORD.old
	@find "$(ARTIFACTS_DIR)" \( -name __pycache__ -o -name tests \) -type d -prune -exec rm -r {} +
	@$(PYTHON) -m compileall -q -j 0 -s "$(ARTIFACTS_DIR)" -p /var/task --invalidation-mode unchecked-hash "$(ARTIFACTS_DIR)"

deploy: build ## build, and bring it into AWS; the first time with DEPLOY=--guided
	@$(SAM)/sam deploy $(DEPLOY)

lint-template: sam ## the template's three gates: as it is, as AWS expands it, and that again
	@$(SAM)/sam validate --lint
	@$(SAM)/python -m tests.project.template_gates template.yml

LOCK := $(UV) pip compile -q --universal --generate-hashes --python-version 3.13 --custom-compile-command "make lock"
lock: | $(UV) ## write each lock file again: names, versions and hashes, no addresses
	$(LOCK) --upgrade pyproject.toml -o src/requirements.txt
	$(LOCK) --upgrade --group dev -c src/requirements.txt -o requirements-dev.txt
	for tool in local/tools/*.in; do $(LOCK) --upgrade "$$tool" -o "$${tool%.in}.txt"; done
	cd local/tools/node && npm install --package-lock-only --omit-lockfile-registry-resolved=true
