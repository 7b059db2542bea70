# make run    set everything up, then listen on this host (as root; else the demo on a recorded sample)
# make test   set everything up, then run the tests (as root, those on the real kernel too)
# make nightly  what takes longer: other kernels, arm64, storms, the truth under load, an hour of fuzzing (as root)
# make tiers  the tests that need no host beside busy programs, under another umask, as a user, in a container (as root)
# make lint   ruff, mypy --strict, manual pages      make bench   the benchmarks (as root)
# make peers  fetch the newest LAUREL and audit tools, beside the installed ones, for benches and tests
# make fuzz   ten minutes of fuzzing the C code (with clang)
# make compare LOG=FILE  what audit tools and LAUREL make of a log before and after us
# make mutate each stated rule weakened in turn, to see that a test notices
# make build  wheel and source distribution in dist/ make clean   remove what was built
# make deb    a package for Debian and Ubuntu in dist/ make rpm     one for Fedora and its kin

VENV := .venv
BIN := $(VENV)/bin
# the newest python3 of at least 3.11 that is there; empty when there is none
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v $$p; break; }; done)
DEMO := tests/golden/demo
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: run test tiers nightly lint bench compare peers fuzz build deb rpm clean venv dev check-tools
.DEFAULT_GOAL := run

# Say in one line how to install what is missing, with this system's package manager.
check-tools:
	@missing=''; py='$(PYTHON)'; \
	[ -n "$$py" ] || missing='python'; \
	[ -n "$$missing" ] || [ -x $(BIN)/pip ] || "$$py" -c 'import venv, ensurepip' 2>/dev/null || missing="$$missing venv"; \
	[ -z "$$py" ] || "$$py" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' \
		|| missing="$$missing headers"; \
	command -v gcc >/dev/null || missing="$$missing gcc"; \
	[ -n "$$missing" ] || exit 0; \
	v=; case " $$missing " in *' python '*) ! command -v python3 >/dev/null || v=3.11 ;; esac; \
	case "$$py" in */python3.*) v="$${py##*/python}" ;; esac; \
	echo "auditns needs what is not here:$$( echo " $$missing" | tr -s ' ' | sed 's/ python/ Python 3.11 or later/')." >&2; \
	if command -v apt-get >/dev/null; then \
		echo "Install it with: sudo apt-get install -y python3$${v#3} python3$${v#3}-venv python3$${v#3}-dev gcc make" >&2; \
	elif command -v dnf >/dev/null; then \
		echo "Install it with: sudo dnf install -y python3$${v#3} python3$${v#3}-devel gcc make" >&2; \
	else \
		echo "Install Python 3.11 or later with its venv module and headers, gcc and make." >&2; \
	fi; exit 1

$(VENV)/.ready: setup.cfg setup.py pyproject.toml $(wildcard cdefs/*.py cdefs/*/*) | check-tools
	@[ -x $(BIN)/pip ] || echo 'setting up $(VENV), once …' >&2
	@[ -x $(BIN)/pip ] || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --editable '.[test]'
	@$(BIN)/python -m compileall -q auditns_connector
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	@$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@

venv: $(VENV)/.ready

dev: $(VENV)/.ready-dev

# LOG = audit logs: what the audit tools, LAUREL and auparse make of them before and after
compare: venv
	$(BIN)/python -m tests.compare $(LOG)
	$(BIN)/python -m tests.compare_json $(LOG) --reader laurel --reader auparse

run: venv
	@if [ "$$(id -u)" = 0 ]; then \
		exec $(BIN)/auditns listen --rules --format pretty; \
	else \
		echo 'Listening to this host needs root: sudo make run' >&2; \
		echo 'Until then, a recording. An event as auditd writes it:' >&2; echo >&2; \
		event=$$(grep -m 1 -o 'audit([0-9.:]*): argc=2 a0="cat"' $(DEMO)/audit.log | cut -d ' ' -f 1); \
		grep -F "$$event" $(DEMO)/audit.log | cut -c -160; \
		echo >&2; echo 'after "auditns enrich":' >&2; echo >&2; \
		$(BIN)/auditns enrich --journal $(DEMO)/run.journal $(DEMO)/audit.log 2>/dev/null | grep -F "$$event" | cut -c -160; \
		echo >&2; echo 'and the whole recording, as "auditns listen" shows it to people:' >&2; echo >&2; \
		exec $(BIN)/auditns enrich --format pretty --journal $(DEMO)/run.journal $(DEMO)/audit.log; \
	fi

test: venv
	$(BIN)/python -m pytest

tiers: venv
	.ci/tiers

nightly: FUZZ_SECONDS := 3600
nightly: venv
	-$(BIN)/python -m tests.peers
	-$(BIN)/python -m tests.peers --kernels
	AUDITNS_KERNEL_TESTS=1 $(BIN)/python -m pytest -m nightly
	AUDITNS_EXPLORE=1 $(BIN)/python -m pytest tests/property tests/unit/test_kills.py
	.ci/tiers
	.ci/arm64
	$(BIN)/python -m tests.bench.storm
	$(BIN)/python -m tests.bench.accuracy --load idle,spin --repeat 3
	$(BIN)/python -m tests.fuzz.run --seconds $(FUZZ_SECONDS)

lint: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@for page in man/*.[1-9]; do [ ! -e "$$page" ] || [ -z "$$(groff -man -ww -z "$$page" 2>&1 | tee /dev/stderr)" ] || exit 1; done

bench: venv
	$(BIN)/python -m tests.bench --write
	$(BIN)/python -m tests.bench.accuracy --quick

peers: venv
	$(BIN)/python -m tests.peers

FUZZ_SECONDS := 600
fuzz: venv
	@$(BIN)/pip install --quiet --editable '.[fuzz]'
	$(BIN)/python -m tests.fuzz.run --seconds $(FUZZ_SECONDS)

mutate: venv
	$(BIN)/python -m tests.mutate

build: dev
	rm -rf build dist
	$(BIN)/pip install --quiet build
	$(BIN)/python -m build --outdir dist .

clean:
	rm -rf build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache $(VENV)
	rm -f auditns_connector/_native* auditns_connector/libexec/*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# the packages, into dist/; make deb wants debhelper, make rpm rpmbuild
deb: dev
	packaging/build.sh deb $(abspath $(BIN)/python)

rpm: dev
	packaging/build.sh rpm $(abspath $(BIN)/python)
