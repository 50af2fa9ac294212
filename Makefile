# Every target does its own set-up. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup build test test-hsm test-otel faults soak demo demo-ha demo-hsm bench load fuzz mutants lint fmt docs

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

setup: ## install what a fresh Debian or Ubuntu lacks
	@scripts/setup

build: setup ## debug build of everything
	cargo build --workspace --all-targets

test: setup ## the whole suite: SQLite, PostgreSQL, swtpm, SoftHSM2, tpm2-pkcs11
	cargo build --workspace --all-targets
	scripts/python-client
	scripts/with-postgres --in-memory scripts/run-tests
	cargo test -q --doc -p chancery-sdk

test-hsm: ## the key stores on every PKCS#11 module; a line for each at the end
	@scripts/setup hsm
	scripts/test-hsm

faults: ## break it for real, CHANCERY_FAULT_ROUNDS (20) times each: kills, failover, partition, clock, fsync, full disk
	@scripts/setup faults
	cargo build --workspace --all-targets
	scripts/faults

crashes: ## kill -9 the CA at the n-th write, fsync and send, n = 1 to CHANCERY_CRASHES (200)
	@scripts/setup faults
	cargo build --workspace --all-targets
	CHANCERY_CRASHES=$${CHANCERY_CRASHES:-200} cargo test -q --workspace --test faults -- --nocapture crash::

soak: setup ## kill -9 the CA 20 times under load and 55 times at its keys, rotate its authorities 6 times
	cargo build --workspace --all-targets
	CHANCERY_KILLS=20 CHANCERY_ROTATIONS=6 cargo test -q -p chancery-tests --test system -- --nocapture kills:: rotation::
	CHANCERY_KEY_KILLS=55 scripts/with-postgres cargo test -q -p chancery-tests --test system -- --nocapture keys::

demo: setup ## two TPM nodes, four agents, six attacks, the kill switch; ends by itself
	cargo build --release -p chancery-ca -p chancery-attestor -p chancery-tests
	target/release/demo

demo-ha: setup ## three servers on one PostgreSQL, killed in turn while agents talk and instances begin
	cargo build --release -p chancery-ca -p chancery-attestor -p chancery-tests
	target/release/demo ha

demo-hsm: setup ## CA keys in SoftHSM2, nodes with tokens; the HSM dies and comes back, a key is tainted
	cargo build --release -p chancery-ca -p chancery-attestor -p chancery-tests
	target/release/demo hsm

bench: setup ## measure issuing, the record, a token, fetches, memory, revocations, and 5,000 nodes with up to 1,000,000 entries
	cargo build --release -p chancery-ca -p chancery-attestor -p chancery-tests -p chancery-loadgen
	scripts/with-postgres target/release/bench

test-otel: setup ## spans of calls reach a collector: the daemons' optional feature
	cargo test -p chancery-daemon --features otel --test otel

load: setup ## a short run of every mode of the load generator against a playground
	cargo build --release -p chancery-ca -p chancery-attestor -p chancery-tests -p chancery-loadgen
	scripts/load

fuzz: setup ## a short round of every fuzz target
	scripts/fuzz

mutants: setup ## mutation testing of the verification code
	scripts/mutants

lint: setup ## formatting and clippy, warnings denied
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

fmt: ## format the code
	cargo fmt --all

docs: ## rewrite the generated pages (docs/ERRORS.md, docs/CONFORMANCE.md)
	UPDATE_DOCS=1 cargo test -q -p chancery-tests --test docs
