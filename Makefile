# `make` alone lists what there is. Set-up goes into .venv; what says (root) installs Debian packages too.
.DEFAULT_GOAL := help
.PHONY: help setup lock packages provision adopt destroy apply status demo demo-down lab lab-down lint format unit test test-all audit bench bench-db exposure docs readme secrets-key secret

# What make would pass over is refused: `make apply test=1` would be no dry run.
TYPED := CONFIRM ENV FINGERPRINT HOST NAME PYTHON TEST
$(foreach name,$(filter-out $(TYPED),$(.VARIABLES)),$(if $(filter command,$(origin $(name))),$(error $(name): nothing here reads it; there are $(TYPED))))
$(if $(filter-out 1,$(TEST)),$(error TEST: is $(TEST); TEST=1 is a dry run, without TEST it is one in earnest))

PYTHON ?= python3
HOST ?= mail
BIN := .venv/bin
# What set-up needs of Debian besides Python; the lab installs what it needs itself, and says so.
PACKAGES := python3-venv openssh-client gnupg ca-certificates

help:  ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(BIN)/.done  ## Salt and its tools into .venv, nothing elsewhere

$(BIN)/.done: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11: give another one with PYTHON="; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "python3-venv is missing: apt-get install python3-venv"; exit 1; }
	@command -v ssh >/dev/null || { echo "ssh is missing: apt-get install openssh-client"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-deps --no-compile --requirement requirements.lock
	$(BIN)/pip check
	@touch $@

lock: setup  ## Pin the newest versions that pyproject.toml allows
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra test --generate-hashes --no-header --no-annotate pyproject.toml --upgrade -o requirements.lock

packages:
	@missing=$$(dpkg-query -W -f '$${db:Status-Status} $${Package}\n' $(PACKAGES) 2>/dev/null | awk '$$1 == "installed" { print $$2 }' | sort | comm -13 - <(printf '%s\n' $(PACKAGES) | sort)); \
	if [ -n "$$missing" ]; then echo "installing" $$missing; apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$missing; fi
packages: SHELL := /bin/bash

# salt-call on the workstation itself, with settings and files of its own: what is for hosts is out of its reach.
LOCAL = $(if $(ENV),MAILHOST_ENV=$(ENV)) $(BIN)/salt-call --local --config-dir etc/workstation --out mailhost_local --retcode-passthrough
# A name that was typed, not the default.
NAMED = $(if $(filter command line,$(origin HOST)),$(HOST))

provision: setup  ## Order the VPS at Vultr, or see that it is as declared: HOST=mail ENV=prod TEST=1
	@$(LOCAL) --id $(HOST) state.apply instance $(if $(TEST),test=True)

adopt: setup  ## Take a host that is there into the roster: HOST=203.0.113.5 FINGERPRINT= NAME=mail ENV=prod TEST=1
	@$(LOCAL) --id $(or $(NAME),mail) state.apply adopted pillar='{"typed": ["$(NAMED)", "$(FINGERPRINT)"]}' $(if $(TEST),test=True)

destroy: setup  ## Destroy the VPS with all that is on it: HOST=mail CONFIRM=mail ENV=prod TEST=1
	@$(LOCAL) --id $(HOST) state.apply destroyed pillar='{"typed": ["$(NAMED)", "$(CONFIRM)"]}' $(if $(TEST),test=True)

apply: setup  ## Apply to a host: HOST=mail ENV=prod TEST=1
	$(BIN)/salt-ssh $(HOST) state.apply $(if $(ENV),pillarenv=$(ENV)) $(if $(TEST),test=True)

status: setup  ## The tracker, computed from the host: HOST=mail ENV=prod
	$(BIN)/salt-ssh $(HOST) state.apply status $(if $(ENV),pillarenv=$(ENV))

demo: packages setup  ## All set-up, a lab host, apply twice, the tracker (root, on Debian or Ubuntu)
	@PATH=$(CURDIR)/$(BIN):$$PATH PYTHONPATH=tests:_utils $(BIN)/python -m labkit.demo

demo-down: setup  ## Remove what the demo made
	PYTHONPATH=tests $(BIN)/python -m labkit down --name demo
	rm -rf .demo

lab: packages setup  ## A lab host to play with (root)
	PYTHONPATH=tests $(BIN)/python -m labkit up --name lab --hosts mail

lab-down: setup  ## Remove all labs and everything they left
	PYTHONPATH=tests $(BIN)/python -m labkit down --all

lint: setup  ## Style, types, shell and YAML
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy _utils tests salt/backup/files/mailhost_pg
	$(BIN)/yamllint --strict Saltfile etc pillar pillar.example
	$(BIN)/shellcheck .ci/run
	$(BIN)/shellcheck --shell=sh tests/labkit/*.sh

format: setup  ## Put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

unit: setup  ## The tests that need no host
	$(BIN)/pytest -q -m "not lab"

# A run of Salt sleeps now and then: with fewer at once the processors do not have enough to do.
TESTS = PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/pytest -q -n $$((2 * $$(nproc) + 1)) --dist loadfile --durations=25 --durations-min=60

test: packages lint  ## Lint, unit tests, and real Debian 13 hosts (root); says what it leaves out
	$(TESTS) -m "not thorough"

test-all: packages lint  ## What `make test` leaves out too: further cases and rare ones (root)
	$(TESTS)

audit: packages setup  ## Lynis, ssh-audit and OpenSCAP on a lab host, before and after (root); with MAILHOST_LAB_VIRTUAL=1 a virtual one
	PATH=$(CURDIR)/$(BIN):$$PATH PYTHONPATH=tests:_utils $(BIN)/python -m labkit.audit

exposure: packages setup  ## Which ports of a lab host are reached, from outside and by the VPN (root)
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/pytest -q tests/lab/test_exposure.py

bench: packages setup  ## Time and CPU of a run with nothing to do, as ratios to the floor (root)
	PATH=$(CURDIR)/$(BIN):$$PATH PYTHONPATH=tests:_utils $(BIN)/python -m labkit.bench

bench-db: packages setup  ## Backup, restore and drill of a 1 GB database, and what archiving costs (root)
	PATH=$(CURDIR)/$(BIN):$$PATH PYTHONPATH=tests:_utils $(BIN)/python -m labkit.bench_db

docs: setup  ## Write the tables that are made from the code
	PYTHONPATH=tests:_utils $(BIN)/python -m generated

readme: packages setup  ## Write the README's transcripts anew, from a run on a lab host (root)
	@PATH=$(CURDIR)/$(BIN):$$PATH PYTHONPATH=tests:_utils $(BIN)/python -m labkit.demo --readme

secrets-key: setup  ## The key that encrypts secrets of the pillar, into .salt/gpg
	@command -v gpg >/dev/null || { echo "gpg is missing: apt-get install gnupg"; exit 1; }
	@mkdir -p .salt && mkdir -m 700 .salt/gpg || { echo ".salt/gpg is there already: a new key could not read what the old one encrypted"; exit 1; }
	gpg --homedir .salt/gpg --batch --quiet --passphrase '' --quick-generate-key mailhost default default never

secret:  ## Encrypt one secret for the pillar: a line that is typed, or all of standard input
	@test -d .salt/gpg || { echo "there is no key yet: make secrets-key"; exit 1; }
	@if [ -t 0 ]; then printf 'secret: ' >&2; stty -echo; trap 'stty echo' EXIT INT TERM; IFS= read -r secret; \
	else secret=$$(cat); fi; printf '%s' "$$secret" | gpg --homedir .salt/gpg --batch --quiet --armor --trust-model always --encrypt --recipient mailhost
