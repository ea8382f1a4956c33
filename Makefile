# Sekisho: `make demo` shows it at work, `make test` proves it. Both install what they need first.
# `make help` lists the rest.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.NOTPARALLEL:
.DEFAULT_GOAL := help

# A Rust toolchain put here by its own installer is found also where the login shell did not set PATH.
export PATH := $(PATH):$(HOME)/.cargo/bin

# Programs that cargo builds and starts run as root (the lab makes namespaces); cargo itself does not.
# Root has no need of a runner, and sees none.
ifneq ($(shell id -u),0)
host_triple = $(shell PATH='$(PATH)' rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
AS_ROOT = CARGO_TARGET_$(host_triple)_RUNNER='$(CURDIR)/scripts/as-root'
endif

# Kernel labs are heavy: two at a time, also on a large machine. nextest reads .config/nextest.toml.
TEST_THREADS ?= 2

# sudo asks for its password here, right before a run, and not in the middle of a test.
define ask_for_root
@scripts/as-root true
endef

ARGS ?=
KEEP ?=
NAME ?=
SABOTAGE ?=
ifneq ($(SABOTAGE),)
export SABOTAGE
endif

.PHONY: help setup demo test test-long lab bench fuzz package lint doc dashboards clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r target text; do \
	    printf '  make %-10s %s\n' "$$target" "$$text"; done

setup: ## install the Debian packages that are missing
	@scripts/setup

demo: setup ## the clinic in namespaces, measured (KEEP=1 leaves it running; SABOTAGE=flow|gate|readback|ledger|audit|inspect|recorder|grant|tunnel; ARGS=..)
	cargo build --release --locked -p gateway -p tests --bins
	$(ask_for_root)
	$(AS_ROOT) cargo run --release --locked --quiet -p tests --bin demo -- $(if $(filter 1,$(KEEP)),--keep) $(ARGS)

# Doc tests come first, so that the runner's closing lines are the last thing printed.
test: setup ## everything that is proved, but for the long runs
	cargo build --locked --workspace --all-targets
	cargo test --locked --workspace --doc --quiet
	$(ask_for_root)
	@if cargo nextest --version >/dev/null 2>&1; then \
	    set -x; $(AS_ROOT) cargo nextest run --locked --workspace; \
	else \
	    set -x; $(AS_ROOT) cargo test --locked --workspace --lib --bins --tests --no-fail-fast -- --test-threads=$(TEST_THREADS); \
	fi

test-long: export SEKISHO_LONG := 1
test-long: test ## the same with ten times the generated cases

lab: setup ## bring the clinic up and stay; `lab shell HOST` in a second terminal
	$(ask_for_root)
	$(AS_ROOT) cargo run --locked --quiet -p tests --bin lab -- up $(ARGS)

bench: setup ## paired benchmarks, ours and a peer (NAME=.. for one); results in target/bench/results.jsonl
	cargo build --release --locked -p gateway -p tests --bins
	$(ask_for_root)
	$(AS_ROOT) cargo run --release --locked --quiet -p benches -- $(NAME) $(ARGS)

TIME_S ?= 60
fuzz: ## feed the parsers of bytes from outside, TIME_S seconds each (NAME=.. for one; needs cargo-fuzz and a nightly compiler)
	scripts/fuzz $(TIME_S) $(NAME)

package: setup ## the Debian packages, in target/package/ (ARGS='--version ..')
	scripts/package $(ARGS)

lint: setup ## formatting, clippy, and cargo-deny where it is installed
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	@if ! cargo deny --version >/dev/null 2>&1; then \
	    echo "lint: cargo-deny is not installed; the tidy test holds the dependency rules"; exit 0; fi; \
	set -x; cargo deny --locked check bans licenses sources; \
	if cargo deny fetch db; then cargo deny --locked check advisories; \
	else { set +x; } 2>/dev/null; echo "lint: WARNING: the advisory database cannot be reached; advisories were NOT checked"; fi

# With the examples come the features of the tests, and with these what clippy built is used again.
doc: setup ## the API documentation, private items included; a warning is an error
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --lib --bins --examples --no-deps --document-private-items

dashboards: ## write dashboards, rules, alerts and runbooks anew (ARGS=--check only compares)
	cargo run --locked --quiet -p dashboard --bin dashboards -- $(ARGS)

clean: ## remove what was built
	cargo clean
