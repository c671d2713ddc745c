# make demo      see it work: a primary, a warm standby, a failover, on this machine
# make test      fetches what the tests need, and runs all tests
# make test-program  runs the tests that need no server
# make lint      format, clippy, documentation, man page, shell scripts
# make soak      random faults on real servers, for minutes=5
# make enumerate every system call made to fail, one by one (needs strace); slice=3 or minutes=1 for a part
# make corpus    gigabytes of real WAL, good and damaged, for the check of the records; versions=15,18 or part=1 for less
# make bench     measures how far a standby is behind, and what restoring and pruning cost
# make install   to $(DESTDIR)$(prefix), /usr/local unless told otherwise
# make dist      the source tarball with all crates in it, in target/dist
# make deb       a package for Debian, in target/dist
# make rpm       a package for Fedora and its relatives, in target/dist
# make static    a program that needs no library, for x86_64 and for aarch64, in target/dist
# make check-packages   builds them all twice, installs and removes them
# make check-static     builds and tests what make static makes
# make check-oldest     builds and tests with the crates and the Rust of Debian 13

prefix  ?= /usr/local
bindir  ?= $(prefix)/bin
datadir ?= $(prefix)/share
mandir  ?= $(datadir)/man
docdir  ?= $(datadir)/doc/pg_standby
docs    ?= README.md CHANGELOG.md LICENSE
CARGO   ?= cargo
INSTALL ?= install
# A distribution that builds with its own crates leaves Cargo.lock out.
locked  ?= $(if $(wildcard Cargo.lock),--locked)

bashcompdir ?= $(datadir)/bash-completion/completions
zshcompdir  ?= $(datadir)/zsh/site-functions
fishcompdir ?= $(datadir)/fish/vendor_completions.d

export CARGO_TARGET_DIR ?= $(CURDIR)/target
program := $(CARGO_TARGET_DIR)/release/pg_standby

# What README.md leads to. Examples for users have a README.md; they are installed with it and with what they share.
further := docs/migrating.md docs/monitoring.md docs/status.schema.json $(shell find /dev/null \
	$(wildcard examples/README.md examples/*.sh) $(dir $(wildcard examples/*/README.md)) -type f)

# Packages of both kinds are made in the same directory.
.NOTPARALLEL:

.PHONY: all demo test test-program enumerate corpus soak bench lint install uninstall dist deb rpm check-packages \
	static check-static check-oldest clean

all:
	$(CARGO) build --release $(locked)

demo:
	@command -v $(firstword $(CARGO)) >/dev/null || { echo 'cargo is missing: "Install" in README.md names the packages' >&2; exit 1; }
	scripts/get-postgres any
	$(CARGO) build --locked --bins --example demo
	$(CARGO) run --locked --example demo

# minutes=60 seed=1 version=18
soak:
	scripts/get-postgres $(or $(version),18)
	$(CARGO) test --locked --test soak -- $(foreach option,minutes seed version,$(if $($(option)),--$(option) $($(option))))

bench:
	scripts/get-postgres 10 18
	$(CARGO) bench --locked

# The tests mostly wait for servers, so more of them run at once than there are processors.
test: export RUST_TEST_THREADS ?= $(shell expr 2 \* `nproc`)
test:
	scripts/get-postgres
	scripts/get-readers
	$(CARGO) test --locked --no-fail-fast

test-program:
	scripts/get-readers
	$(CARGO) test $(locked) --lib --test program

# only=KIND:CALL:NUMBER:FAULT repeats one case, slice=N runs the Nth minute of it, minutes=N as many from there on.
enumerate:
	@command -v strace >/dev/null || { echo 'strace is missing: apt-get install strace' >&2; exit 1; }
	$(CARGO) test --locked --test enumerate -- $(foreach option,only slice minutes,$(if $($(option)),--$(option) $($(option))))

# versions=15,18 sizes=1,16 damages=1000 seed=1; part=1 runs what CI runs of it. With the program as it is shipped: it is called some 250,000 times.
corpus: $(program)
	scripts/get-postgres
	PG_STANDBY_UNDER_TEST=$(program) $(CARGO) test --locked --test corpus -- $(if $(part),--part) $(foreach option,versions sizes damages seed,$(if $($(option)),--$(option) $($(option))))

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --test soak --test enumerate --test corpus -- -D warnings
	$(CARGO) clippy --locked --no-default-features -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --document-private-items
	mandoc -T lint -W warning man/pg_standby.1
	shellcheck -x -P SCRIPTDIR completions/pg_standby.bash examples/servers.sh $$(grep -rl '^#!/bin/sh' scripts packaging examples)
	zsh -n completions/_pg_standby
	fish -n completions/pg_standby.fish

$(program): Cargo.toml $(wildcard Cargo.lock src/*.rs src/*/*.rs src/*/*/*.rs)
	$(CARGO) build --release $(locked)

install: $(program)
	$(INSTALL) -D -m 755 $(program) $(DESTDIR)$(bindir)/pg_standby
	$(INSTALL) -D -m 644 man/pg_standby.1 $(DESTDIR)$(mandir)/man1/pg_standby.1
	$(INSTALL) -D -m 644 completions/pg_standby.bash $(DESTDIR)$(bashcompdir)/pg_standby
	$(INSTALL) -D -m 644 completions/_pg_standby $(DESTDIR)$(zshcompdir)/_pg_standby
	$(INSTALL) -D -m 644 completions/pg_standby.fish $(DESTDIR)$(fishcompdir)/pg_standby.fish
	$(INSTALL) -d $(DESTDIR)$(docdir)
	$(INSTALL) -m 644 $(docs) $(DESTDIR)$(docdir)
	for file in $(further); do \
		mode=644; if [ -x $$file ]; then mode=755; fi; \
		$(INSTALL) -D -m $$mode $$file $(DESTDIR)$(docdir)/$$file || exit; \
	done

uninstall:
	rm -f $(DESTDIR)$(bindir)/pg_standby $(DESTDIR)$(mandir)/man1/pg_standby.1 $(DESTDIR)$(bashcompdir)/pg_standby \
		$(DESTDIR)$(zshcompdir)/_pg_standby $(DESTDIR)$(fishcompdir)/pg_standby.fish
	rm -rf $(DESTDIR)$(docdir)

dist:
	packaging/build

deb rpm:
	packaging/build $@

check-packages:
	packaging/check

static:
	packaging/static

check-static:
	packaging/check-static

check-oldest:
	scripts/check-oldest

clean:
	$(CARGO) clean
