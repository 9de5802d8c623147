# The verbs of Panvel. Each calls CMake (the one build) or pytest (the one test runner).
#   make PG_CONFIG=/path/to/pg_config     the PostgreSQL to build for, install into and test
#   make BUILD=build-debug BUILD_TYPE=Debug CXX=clang++
#   make install SUDO=sudo                DESTDIR= is honoured

PG_CONFIG ?= pg_config
BUILD ?= build
BUILD_TYPE ?= Release
PYTHON ?= /usr/bin/python3
CRASH_POINTS ?= OFF
JOBS ?= $(shell nproc)
SUDO ?=
PANVEL_SOAK_SECONDS ?= 600
GENERATOR := $(if $(shell command -v ninja),Ninja,Unix Makefiles)
PYTEST = PG_CONFIG=$(PG_CONFIG) PANVEL_BUILD=$(abspath $(BUILD)) $(PYTHON) -B -m pytest

SIDE_BY_SIDE = --numprocesses 2 --dist loadfile

export PG_CONFIG

.PHONY: all install uninstall check installcheck soak demo bench lint format clean deps help

all: $(BUILD)/CMakeCache.txt
	cmake -S . -B $(BUILD) -DPG_CONFIG=$(PG_CONFIG) -DCMAKE_BUILD_TYPE=$(BUILD_TYPE) -DPANVEL_CRASH_POINTS=$(CRASH_POINTS) > $(BUILD)/configure.log || { cat $(BUILD)/configure.log; exit 1; }
	cmake --build $(BUILD) --parallel $(JOBS)

$(BUILD)/CMakeCache.txt:
	cmake -S . -B $(BUILD) -G "$(GENERATOR)" -DPG_CONFIG=$(PG_CONFIG) -DCMAKE_BUILD_TYPE=$(BUILD_TYPE)

install: all
	$(SUDO) env DESTDIR=$(DESTDIR) cmake --install $(BUILD)

uninstall:
	sed 's|^|$(DESTDIR)|' $(BUILD)/install_manifest.txt | $(SUDO) xargs rm -fv

# ---------------------------------------------------------------------- tests (test/README.md)
# Files of tests run two at a time, as they mostly wait for servers.
# Tests run on a build with crash points and test functions; what stays installed has none.
check:
	$(MAKE) install CRASH_POINTS=ON
	$(PYTEST) $(SIDE_BY_SIDE) test; echo $$? > $(BUILD)/check.status
	$(MAKE) install > /dev/null
	exit $$(cat $(BUILD)/check.status)

installcheck:
	$(PYTEST) $(SIDE_BY_SIDE) test --ignore=test/unit --ignore=test/bench

soak: install
	PANVEL_SOAK_SECONDS=$(PANVEL_SOAK_SECONDS) $(PYTEST) test -m soak

demo:
	./panvel demo

# test/bench/README.md; make bench ARGS="--help"
bench: install
	PG_CONFIG=$(PG_CONFIG) PANVEL_BUILD=$(abspath $(BUILD)) $(PYTHON) -B test/bench/run.py $(ARGS)

# ---------------------------------------------------------------------- the source
SOURCES = $(shell git ls-files '*.cpp' '*.h')
SCRIPTS = panvel .ci/run

lint: all
	clang-format --dry-run -Werror $(SOURCES)
	for script in $(SCRIPTS); do bash -n $$script || exit 1; done
	if command -v shellcheck; then shellcheck $(SCRIPTS); fi
	git ls-files '*.cpp' | xargs -P $(JOBS) -n 1 clang-tidy -p $(BUILD) --quiet --warnings-as-errors='*'

format:
	clang-format -i $(SOURCES)

clean:
	rm -rf $(BUILD)

deps:
	./panvel deps

help:
	@sed -n '1,5p' Makefile
	@echo "verbs: $$(sed -n 's/^.PHONY: //p' Makefile)"
