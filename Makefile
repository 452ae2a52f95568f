# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
#
# `make demo` and `make test` install what they need; see CONTRIBUTING.md.

SHELL := /bin/bash
VENV  := .venv
BIN   := $(VENV)/bin
ARGS  ?=

# What a fresh Debian 12 or Raspberry Pi OS lacks: the headers that spidev is built with, the broker and
# the tracer of the tests, Node.js for the second, independent reader of the batch format, and a TPM and a token
# in software (tpm2-pytss is built against libtss2-dev); and a PostgreSQL for the ledger of several receivers.
DEBIAN := gcc gpiod i2c-tools libc6-dev mosquitto python3 python3-dev python3-venv strace
DEBIAN += libtss2-dev pkg-config postgresql softhsm2 swtpm
# A browser for the gateway's page, and what drives it.
DEBIAN += chromium chromium-driver fonts-dejavu-core
DEBIAN += $(shell command -v node npm >/dev/null || echo nodejs npm)
JAVASCRIPT := tests/agent/batch/javascript
SUDO   := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

.PHONY: setup demo test lint check fuzz bench soak deb deb-test test-debian hil hil-vm clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml $(JAVASCRIPT)/package.json
	@missing="$$(dpkg-query -W -f='$${Package} $${Status}\n' $(DEBIAN) 2>/dev/null | awk '/ok installed$$/ {print $$1}' | sort | comm -13 - <(printf '%s\n' $(DEBIAN) | sort))"; \
	if [ -n "$$missing" ]; then \
	  echo "installing Debian packages:" $$missing; \
	  $(SUDO) apt-get update -qq && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi
	@[ -x $(BIN)/python ] || python3 -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip setuptools wheel
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@npm install --silent --ignore-scripts --omit=optional --no-audit --no-fund --no-package-lock --prefix $(JAVASCRIPT) >/dev/null
	@touch $@

demo: setup
	@$(BIN)/civigate demo $(ARGS)

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/reuse lint --quiet

check: setup
	$(BIN)/pytest -n 4 --dist loadgroup $(ARGS)

test: lint check

bench: setup
	@mkdir -p build
	@$(BIN)/python -m tests.bench --out build/bench.json $(ARGS)

soak: setup
	@mkdir -p build
	@$(BIN)/python -m tests.e2e.soak --out build/soak.json $(ARGS)
	@$(BIN)/python -m tests.e2e.outages --rounds 100 --out build/outages-https.json
	@$(BIN)/python -m tests.e2e.outages --rounds 100 --mqtt --out build/outages-mqtt.json
	@$(BIN)/python -m tests.e2e.outages --only --rounds 100 --mqtt --postgres --out build/outages-postgres.json
	@$(BIN)/python -m tests.e2e.fleet --kills 100 --server-kills 20 --batches 12000 --out build/fleet.json

# The readers of the batch format on arbitrary bytes, each for so many seconds; `make check` does it for a moment.
FUZZ_S ?= 60
fuzz: setup
	@mkdir -p build
	@set -eo pipefail; for reader in $$($(BIN)/python -c 'from tests.agent.batch.readers import READERS; print(*READERS)'); do \
	  echo "== $$reader"; \
	  $(BIN)/python -m tests.agent.batch.fuzz $$reader -max_total_time=$(FUZZ_S) -max_len=8192 -print_final_stats=1 \
	    -artifact_prefix=build/ $(ARGS) 2>&1 | grep -E '^(stat::|Done|==.*ERROR|[A-Za-z]*Error)'; \
	done

# Two packages and their bills of materials, the same bytes from the same commit.
deb: setup
	@$(BIN)/python packaging/deb.py --out build/deb $(ARGS)
	@$(BIN)/python packaging/sbom.py check build/deb/*.cdx.json

# Installation, use, upgrade, downgrade and purge in a clean Debian of each kind; needs root, debootstrap, gpg.
SUITES ?= bookworm trixie
deb-test: setup
	@packaging/deb-test $(SUITES)

# The agent and its drivers with the versions of a distribution's own packages, which the Debian package runs with. Tests
# that need more than those have (a TPM, a token, an independent COSE library) are left to `make test`.
test-debian: setup
	@set -e; for suite in $(SUITES); do \
	  echo "== $$suite"; \
	  [ -x build/$$suite/bin/python ] || python3 -m venv build/$$suite; \
	  build/$$suite/bin/pip install --quiet --disable-pip-version-check -r packaging/versions/$$suite.txt lgpio pynmeagps pyubx2 \
	    pytest pytest-timeout pytest-xdist hypothesis httpx fastapi uvicorn prometheus-client segno chirpstack-api cddl-verifier; \
	  PYTHONWARNINGS=ignore build/$$suite/bin/pip install --quiet --disable-pip-version-check --no-deps --editable .; \
	  build/$$suite/bin/pytest -n 2 --dist loadgroup tests/agent tests/drivers -p no:cacheprovider \
	    --ignore tests/agent/batch/test_independent.py --ignore tests/agent/local/test_page.py -k 'not tpm and not token and not test_devices' $(ARGS); \
	done

# The hardware-in-the-loop suite on the emulator, with report and certificate; `pytest hil_tests --bench FILE.toml` on a rig.
hil: setup
	@$(BIN)/pytest hil_tests --ignore hil_tests/vm --hil-report build/hil $(ARGS)

# The package as it is installed, in virtual machines under their own systemd: docs/vm.md. Needs root, once, for the cards. So
# many machines run at a time: some are hung, cut and upgraded, others are under the suite of all benches.
MACHINES ?= 2
DEBIAN_VM := dosfstools e2fsprogs gnupg mmdebstrap mosquitto mtools qemu-system-x86
hil-vm: setup
	@missing="$$(dpkg-query -W -f='$${Package} $${Status}\n' $(DEBIAN_VM) 2>/dev/null | awk '/ok installed$$/ {print $$1}' | sort | comm -13 - <(printf '%s\n' $(DEBIAN_VM) | sort))"; \
	if [ -n "$$missing" ]; then \
	  echo "installing Debian packages:" $$missing; \
	  $(SUDO) apt-get update -qq && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi
	@$(BIN)/python -m hil_tests.vm.image
	@failed=0; \
	for tests in hil_tests/vm 'hil_tests --ignore hil_tests/vm'; do \
	  $(BIN)/pytest $$tests --bench vm -n $(MACHINES) --dist loadgroup --timeout 3600 $(ARGS) || [ $$? = 5 ] || failed=1; \
	done; \
	exit $$failed

clean:
	rm -rf $(VENV) $(JAVASCRIPT)/node_modules build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
