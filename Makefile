.PHONY: help setup engine demo test test-all faults lint docs fuzz bench stop clean
.DEFAULT_GOAL := help

# System packages that only the project's own tests need.
TEST_PACKAGES = mmdebstrap busybox-static docker-registry chromium chromium-driver podman crun catatonit musl-tools \
  qemu-user-static openssh-server openssh-client iproute2
PYTEST = .venv/bin/pytest
PYTEST_ARGS ?= -n 2 --dist worksteal

help:
	@echo "make demo    judge a set of demo images, broken and sound; prove five demo tasks; show the reports"
	@echo "make test    run the project's own tests but the slow ones"
	@echo "make test-all  run all of them"
	@echo "make faults  engines, registries, disks and processes fail for real, in more rounds than in the tests"
	@echo "make lint    ruff, mypy and import-linter"
	@echo "make docs    build the documentation site"
	@echo "make fuzz    hostile bytes for every parser, for ten minutes"
	@echo "make bench   what it costs, side by side with other ways"
	@echo "make stop    stop the engine that one of these started"

setup:
	@scripts/setup

engine: setup
	@scripts/engine start

demo: engine
	@scripts/install mmdebstrap
	@scripts/demo
	@scripts/demo-proofs

test: engine
	@scripts/install $(TEST_PACKAGES)
	$(PYTEST) $(PYTEST_ARGS) -m "not slow"

test-all: engine
	@scripts/install $(TEST_PACKAGES)
	$(PYTEST) $(PYTEST_ARGS)

faults: engine
	@scripts/install $(TEST_PACKAGES)
	$(PYTEST) $(PYTEST_ARGS) tests/faults --long

lint: setup
	@scripts/lint

docs: setup
	@scripts/docs

fuzz: setup
	@scripts/fuzz

bench: engine
	@scripts/install mmdebstrap
	@scripts/install docker-registry chromium chromium-driver
	.venv/bin/pip install --quiet --no-input -e '.[bench]'
	for one in per_image scale registry relay "report --images 10000" "report --images 100000" runtime; do \
	  set -- $$one; name=$$1; shift; .venv/bin/python "benchmarks/$$name.py" "$$@" || exit; done

stop:
	@scripts/engine stop

clean: stop
	rm -rf .venv .cache results build *.egg-info
