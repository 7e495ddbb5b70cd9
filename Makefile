# Everything goes into this checkout: .venv/ (to run and to develop), .tools/ (generator, CI's tools), dist/ (wheels).
# Needs Python 3.11 or newer and nothing else; uv makes the installation faster where it is present.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

PYTHON ?=
UV ?= $(shell command -v uv 2>/dev/null)
export PYTHON UV

PY := .venv/bin/python
GENERATOR := .tools/generator/bin/python
PROJECTS := proto service clients/python
NAMES := monitor-contact-proto monitor-contact-service monitor-contact-client
PROJECT_FILES := $(PROJECTS:%=%/pyproject.toml)
EDITABLE := --no-deps --no-build-isolation $(PROJECTS:%=-e ./%)
INSTALL := $(if $(UV),"$(UV)" pip install -q --python $(PY),$(PY) -m pip install -q --disable-pip-version-check)

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

# --- what people run ---------------------------------------------------------------------------------------------

# Each stamp stands for an installation that is complete and not older than what it was made from.
.venv/run.stamp: requirements.lock tools/build.lock $(PROJECT_FILES)
	@tools/environment.sh .venv requirements.lock tools/build.lock
	@$(INSTALL) $(EDITABLE)
	@touch $@

.venv/dev.stamp: requirements-dev.lock $(PROJECT_FILES)
	@tools/environment.sh .venv requirements-dev.lock
	@$(INSTALL) $(EDITABLE)
	@touch .venv/run.stamp $@

.PHONY: setup
setup: .venv/dev.stamp ## install everything for development into .venv/

.PHONY: demo
demo: .venv/run.stamp ## start simulator and service, make a few calls, explain them, stop
	@$(PY) tools/demo.py

.PHONY: run
run: .venv/run.stamp ## start simulator and service and leave them running until Ctrl-C
	@$(PY) tools/demo.py --stay

.PHONY: test
test: setup ## run all tests (ARGS="-k words" for some of them)
	@$(PY) -m pytest $(ARGS)

# --- what developers run -----------------------------------------------------------------------------------------

.PHONY: check
check: setup ## lint, formatting, types, contract rules
	$(PY) -m ruff check --no-cache .
	$(PY) -m ruff format --check .
	$(PY) -m mypy --explicit-package-bases service/src clients/python tests tools benchmarks
	@tools/public_types.sh $(PY) monitor_contact_client
	.venv/bin/buf lint

# ruff's cache does not see that an __init__.py appeared and with it another order of imports (measured): --no-cache.
# Where packages begin: tests of the same name may stand in different folders.
check: export MYPYPATH = tests:service/src:clients/python/src:proto:benchmarks/speed:benchmarks/quota

.tools/generator/stamp: proto/generator.lock
	@tools/environment.sh .tools/generator proto/generator.lock
	@touch $@

GENERATE = cd proto && PATH="$(CURDIR)/.tools/generator/bin:$$PATH" $(CURDIR)/$(GENERATOR) -m grpc_tools.protoc \
	-I. -I"$$($(CURDIR)/$(GENERATOR) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
V1 := monitor_contact/v1

.PHONY: generate
generate: setup .tools/generator/stamp ## write all that is generated: Python of the contract, sync client, docs
	$(GENERATE) --python_out=. --pyi_out=. --grpc_python_out=. --mypy_grpc_out=quiet:. $(V1)/monitor_contact.proto
	$(GENERATE) --include_imports --include_source_info --descriptor_set_out=$(V1)/monitor_contact.binpb \
		$(V1)/monitor_contact.proto google/rpc/error_details.proto
	$(PY) clients/python/generate_sync.py
	$(PY) tools/write_docs.py
	@deploy/monitoring/generate.sh

.PHONY: breaking
breaking: setup ## compare the contract with the last different one (AGAINST=commit for another)
	@tools/breaking.sh .venv/bin/buf $(AGAINST)

COMPILE = "$(UV)" pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	--no-emit-index-url --no-emit-find-links $(NAMES:%=--no-emit-package %)

.PHONY: lock
lock: ## resolve all locks again (needs uv; UPGRADE=--upgrade for newer versions)
	@test -n "$(UV)" || { echo "error: make lock needs uv (https://docs.astral.sh/uv/)" >&2; exit 1; }
	$(COMPILE) $(UPGRADE) requirements.in -o requirements.lock
	$(COMPILE) $(UPGRADE) -c requirements.lock --group pyproject.toml:dev requirements.in -o requirements-dev.lock
	$(COMPILE) $(UPGRADE) -c requirements-dev.lock tools/build.in -o tools/build.lock
	$(COMPILE) $(UPGRADE) --group pyproject.toml:generate -o proto/generator.lock
	$(COMPILE) $(UPGRADE) benchmarks/quota/requirements.in -o benchmarks/quota/requirements.lock
	$(COMPILE) $(UPGRADE) deploy/kubernetes/requirements.in -o deploy/kubernetes/requirements.lock

.PHONY: wheels
wheels: setup ## build the three wheels into dist/
	@rm -rf dist
	@for project in $(PROJECTS); do \
		said=$$($(PY) -m build --wheel --no-isolation --outdir dist $$project 2>&1) || { echo "$$said"; exit 1; }; \
	done
	@ls dist

.PHONY: bench
bench: setup ## measure the speed beside boto3 (needs nginx), print a table
	$(PY) benchmarks/speed/run.py $(ARGS)

QUOTA_RESULTS := .tools/quota.json

.tools/plot/stamp: benchmarks/quota/requirements.lock
	@tools/environment.sh .tools/plot $<
	@touch $@

.PHONY: bench-quota
bench-quota: setup .tools/plot/stamp ## play pacing and fairness beside boto3's retry modes (needs redis-server), draw docs/quota-*.svg
	$(PY) benchmarks/quota/compare.py --json $(QUOTA_RESULTS) --document docs/quota.md $(ARGS)
	.tools/plot/bin/python benchmarks/quota/plot.py $(QUOTA_RESULTS) docs

.PHONY: bench-cost
bench-cost: setup ## measure what identity, policy, supervisor check and audit cost a call (needs nginx)
	$(PY) benchmarks/speed/cost.py $(ARGS)

.PHONY: soak
soak: setup ## what takes too long for make test: 2,000 kills (the audit's writer, the service), 42 restarts
	AUDIT_KILLS=1000 $(PY) -m pytest -q -s tests/service/test_audit_crash.py
	SERVICE_KILLS=1000 $(PY) -m pytest -q -s tests/e2e/test_killed_service.py
	ROLLING_RESTARTS=42 $(PY) -m pytest -q -s tests/e2e/test_rolling_restart.py

# --- deployment --------------------------------------------------------------------------------------------------

KUSTOMIZE_VERSION := v5.7.1
IMAGE_ENGINE ?= docker
IMAGE ?= monitor-contact:dev

.PHONY: image
image: ## build the container image (IMAGE_ENGINE=podman or buildah, IMAGE=name:tag)
	$(IMAGE_ENGINE) build -f deploy/Dockerfile -t $(IMAGE) --build-arg REVISION=$$(git rev-parse HEAD) .

.tools/bin/kustomize:
	GOBIN="$(CURDIR)/.tools/bin" go install sigs.k8s.io/kustomize/kustomize/v5@$(KUSTOMIZE_VERSION)

.tools/kubernetes/stamp: deploy/kubernetes/requirements.lock
	@tools/environment.sh .tools/kubernetes $<
	@mkdir -p .tools/bin && ln -sf ../kubernetes/bin/kubernetes-validate ../kubernetes/bin/hadolint .tools/bin/
	@touch $@

.tools/crds/stamp: tests/deploy/crds/package-lock.json
	@mkdir -p .tools/crds .tools/bin && cp tests/deploy/crds/package.json tests/deploy/crds/package-lock.json .tools/crds/
	@cd .tools/crds && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@ln -sf ../../tests/deploy/crds/check.mjs .tools/bin/check-crds
	@touch $@

.PHONY: render
render: .tools/bin/kustomize ## render deploy/kubernetes/overlays into rendered/
	@tools/render.sh

.PHONY: manifest-tools
manifest-tools: .tools/bin/kustomize .tools/kubernetes/stamp .tools/crds/stamp ## install what checks the manifests
	@true

.PHONY: clean
clean: ## remove everything that is made here, environments included
	rm -rf .venv .tools dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
