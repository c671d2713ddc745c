# make demo      see it work: a primary, a warm standby, a failover, on this machine
# make test      everything the tests need, and the tests
# make lint      format, clippy, documentation, man page
# make install   to $(DESTDIR)$(prefix), /usr/local unless told otherwise

prefix  ?= /usr/local
bindir  ?= $(prefix)/bin
mandir  ?= $(prefix)/share/man
docdir  ?= $(prefix)/share/doc/pg_standby
CARGO   ?= cargo
INSTALL ?= install

export CARGO_TARGET_DIR ?= $(CURDIR)/target
program := $(CARGO_TARGET_DIR)/release/pg_standby

.PHONY: all demo test lint install uninstall clean

all:
	$(CARGO) build --release --locked

demo:
	scripts/get-postgres 18
	$(CARGO) build --release --locked --bins --example demo
	$(CARGO) run --release --locked --example demo

test:
	scripts/get-postgres
	$(CARGO) test --locked --no-fail-fast

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --document-private-items
	mandoc -T lint -W warning man/pg_standby.1

$(program):
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
