# `make demo` and `make test` are all a newcomer needs: both set up what is missing.
#
# Every cargo command names the whole workspace, and builds some target with development
# dependencies: cargo then unifies features the same way each time and compiles nothing twice.

SHELL := bash
TARGET := $(or $(CARGO_TARGET_DIR),target)
CARGO := .ci/cargo
NEXTEST := $(shell cargo nextest --version >/dev/null 2>&1 && echo yes)
TEST := $(if $(NEXTEST),nextest run,test --lib --bins --tests)

.PHONY: help setup demo test test-fast check audit bench bench-chain bench-ledger instructions fuzz mutants torture nightly golden dist clean

help: ## list these recipes
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' Makefile | expand -t 18

setup: ## find what the build needs beside Rust, or install it with apt
	@.ci/setup

demo: setup ## build, start two nodes, trade, show the money
	$(CARGO) build --workspace --bins --examples
	$(TARGET)/debug/tirami-agent demo

test: setup ## every test, documentation and outside clients included
	@[ "$$(uname)" != Linux ] || [ -n "$$TIRAMI_NO_NETNS" ] || .ci/need ip iproute2
	$(CARGO) $(TEST) --workspace
	$(CARGO) test --workspace --doc
	@if [ -x .ci/clients ]; then .ci/clients; else echo 'no outside clients are tested: there is no .ci/clients'; fi
	.ci/verifier

test-fast: ## every test that needs no C++
	$(CARGO) $(TEST) --workspace --exclude tirami-examples --no-default-features

check: setup ## format, lints, documentation, walls between crates, licences
	cargo fmt --all --check
	.ci/lint --self-test
	.ci/lint
	.ci/setup-test
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps --lib --bins --examples
	$(CARGO) test --workspace --test tidy
	.ci/deny bans licenses sources

audit: ## known vulnerabilities; fetches the advisory database
	.ci/deny advisories

bench: setup ## start-up, memory, size and overhead, measured here
	$(CARGO) build --workspace --bins --examples --release
	.ci/bench

bench-ledger: ## the wallet's durable writes beside redb, SQLite and PostgreSQL, as ratios
	$(CARGO) run --release --manifest-path examples/ledger-bench/Cargo.toml -- $(ARGS)

bench-chain: ## entries signed and verified, proofs and bytes of a trade, beside bare signatures
	cargo bench -p tirami-wallet --bench chain -- $(ARGS)

instructions: setup ## instructions of the ledger's decisions; 3 % more fails; UPDATE=1 writes them anew
	UPDATE=$(UPDATE) .ci/instructions

fuzz: setup ## random inputs for the ledger and every reader, a minute and a half in all
	.ci/fuzz

mutants: ## faults put into the rules of the ledger, one by one; the tests must catch 95 %
	.ci/mutants $(ARGS)

torture: setup ## spending limits under attack, ours and others'; writes docs/torture.md
	$(CARGO) build --workspace --bins --examples
	.ci/torture --report

nightly: setup ## the same tests, many more rounds, and random inputs; about an hour
	TIRAMI_OUTAGES=8,25,45 TIRAMI_WIRE_ROUNDS=20 TIRAMI_KILL_ROUNDS=300 TIRAMI_CRASH_IMAGES=20000 TIRAMI_FLIPS=5000 PROPTEST_CASES=3000 \
	$(CARGO) $(TEST) --workspace $(if $(NEXTEST),--profile nightly)
	TIRAMI_TRIALS=10000 TIRAMI_ROUNDS=300 $(CARGO) test --release -p tirami-wallet --test wallet -- \
	races --nocapture
	PROPTEST_CASES=1000000 $(CARGO) test --release -p tirami-wallet --test model -- --nocapture
	PROPTEST_CASES=3000 $(CARGO) test --release -p tirami-manifest --lib merkle
	$(CARGO) build --workspace --bins
	.ci/syncs
	.ci/fuzz 120
	cargo bench -p tirami-wallet --bench chain -- 2000

golden: setup ## write the golden files anew; review the diff
	UPDATE=1 $(CARGO) $(TEST) --workspace $(if $(NEXTEST),-E 'test(golden)',golden)

dist: setup ## the binary that is shipped
	$(CARGO) build --workspace --bin tirami-agent --profile dist
	@ls -l $(TARGET)/dist/tirami-agent

clean: ## remove what was built
	cargo clean
