# make demo      see it work: a primary, a warm standby, a failover, on this machine
# make test      everything the tests need, and the tests
# make lint      format, clippy, documentation, man page
# make soak      faults at random on real servers, for minutes=5
# make bench     how late a standby is, and what pruning costs
# make install   to $(DESTDIR)$(prefix), /usr/local unless told otherwise

prefix  ?= /usr/local
bindir  ?= $(prefix)/bin
mandir  ?= $(prefix)/share/man
docdir  ?= $(prefix)/share/doc/pg_standby
CARGO   ?= cargo
INSTALL ?= install

export CARGO_TARGET_DIR ?= $(CURDIR)/target
program := $(CARGO_TARGET_DIR)/release/pg_standby

.PHONY: all demo test soak bench lint install uninstall clean

all:
	$(CARGO) build --release --locked

demo:
	scripts/get-postgres any
	$(CARGO) build --locked --bins --example demo
	$(CARGO) run --locked --example demo

# minutes=60 seed=1 version=18
soak:
	scripts/get-postgres $(or $(version),18)
	$(CARGO) build --release --locked --bins --example soak
	$(CARGO) run --release --locked --example soak -- $(foreach option,minutes seed version,$(if $($(option)),--$(option) $($(option))))

bench:
	scripts/get-postgres 10 18
	$(CARGO) bench --locked

test:
	scripts/get-postgres
	$(CARGO) test --locked --no-fail-fast

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --document-private-items
	mandoc -T lint -W warning man/pg_standby.1

$(program): Cargo.toml Cargo.lock $(wildcard src/*.rs src/*/*.rs)
	$(CARGO) build --release --locked

install: $(program)
	$(INSTALL) -D -m 755 $(program) $(DESTDIR)$(bindir)/pg_standby
	$(INSTALL) -D -m 644 man/pg_standby.1 $(DESTDIR)$(mandir)/man1/pg_standby.1
	$(INSTALL) -d $(DESTDIR)$(docdir)
	$(INSTALL) -m 644 README.md CHANGELOG.md LICENSE $(DESTDIR)$(docdir)

uninstall:
	rm -f $(DESTDIR)$(bindir)/pg_standby $(DESTDIR)$(mandir)/man1/pg_standby.1
	rm -rf $(DESTDIR)$(docdir)

clean:
	$(CARGO) clean
