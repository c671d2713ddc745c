# What the examples share: PostgreSQL's programs, a directory of its own for each run, servers in it, and waiting with
# a deadline. Each `run` sources it.
#
# shellcheck shell=sh

example=$(cd "$(dirname "$0")" && pwd)
site=
started=
background=
began=$(date +%s)

step() { printf '%3d s  %s\n' $(($(date +%s) - began)) "$*"; }
fail() {
    printf '%s: %s\n' "${example##*/}" "$*" >&2
    exit 1
}

case "$# ${1-}" in
    '0 ') keep=no ;;
    '1 --keep') keep=yes ;;
    *) fail "usage: $0 [--keep]" ;;
esac
[ "$(id -u)" != 0 ] || fail "PostgreSQL does not run as root; for example: runuser -u postgres -- $0"

# Before the PATH changes: PostgreSQL up to 13 may have brought another one.
pg_standby=$(realpath "$(command -v "${PG_STANDBY:-pg_standby}")" 2>/dev/null) ||
    fail "there is no pg_standby on the PATH: install it, or name it in PG_STANDBY"

# Where PostgreSQL may be, one directory a line, the best first.
bindirs() {
    if [ -n "${PGBIN-}" ]; then echo "$PGBIN"; fi
    pg_config --bindir 2>/dev/null || true
    for directory in /usr/lib/postgresql/*/bin; do echo "$directory"; done | sort -t / -k 5,5nr
    echo "$PATH" | tr : '\n'
}

# The first of them with a whole server comes first on the PATH; the others may have the client programs.
pgbin=$(bindirs | while read -r directory; do
    if [ -x "$directory/postgres" ] && [ -x "$directory/initdb" ] && [ -x "$directory/pg_ctl" ]; then
        echo "$directory"
        break
    fi
done)
[ -n "$pgbin" ] || fail "there is no PostgreSQL server; install one, or name the directory of its programs in PGBIN"
[ "${PGBIN:-$pgbin}" = "$pgbin" ] || fail "PGBIN is $PGBIN: no postgres, initdb and pg_ctl are there"
PATH=$pgbin:$(bindirs | tr '\n' :)
for variable in PGDATA PGHOST PGPORT PGUSER PGDATABASE PGPASSWORD PGPASSFILE PGSERVICE PGOPTIONS; do
    unset "$variable"
done

major=$(postgres --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
[ "$major" -ge 10 ] || fail "$pgbin is of PostgreSQL $major: the examples are for 10 and later"

need() { command -v "$1" >/dev/null || fail "there is no $1: install $2"; }
need psql "PostgreSQL's client programs (on Debian: postgresql-client)"

finish() {
    status=$?
    trap - EXIT
    trap '' INT TERM HUP PIPE
    if [ $status != 0 ]; then
        find "$site" -name '*.log' | sort | while read -r log; do
            printf '\n--- the end of %s\n' "$log" >&2
            tail -n 20 "$log" >&2
        done
    fi
    for data in $started; do
        if [ -e "$data/postmaster.pid" ]; then pg_ctl stop -s -m immediate -D "$data" >&2 || true; fi
    done
    for process in $background; do kill "$process" 2>/dev/null || true; done
    if [ $keep = yes ]; then echo "everything is still in $site"; else rm -rf "$site"; fi
    exit $status
}

site=$(mktemp -d "${TMPDIR:-/tmp}/pg_standby-${example##*/}.XXXXXX")
site=$(cd "$site" && pwd -P)
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
trap 'exit 141' PIPE
case $site in *[!A-Za-z0-9/._-]*) fail "TMPDIR: there are characters in $site that configuration files would quote" ;; esac

mkdir "$site/bin"
ln -s "$pg_standby" "$site/bin/pg_standby"
PATH=$site/bin:$PATH
export PATH

# The lines of a configuration file beside `run`, in this run's places, without those for other versions.
lines() {
    sed -e "s|/srv/pg|$site|g" -e 's|192\.0\.2\.[0-9]*|127.0.0.1|g' -e "s|port=5432|port=$port|" "$example/$1" |
        awk -v major="$major" '
            /# [0-9]+ and later$/ && major < $(NF - 2) { next }
            /# up to [0-9]+$/ && major > $NF { next }
            { print }'
}

# A port that is free, for the first server. Runs at the same time have ten each.
port=$((10240 + $$ % 2000 * 10))
while grep -qi ":$(printf %04X "$port") 0*:0000 0A" /proc/net/tcp; do port=$((port + 1)); done
servers=0

# Settings that put a server into this directory and keep it from waiting for disks. Not for your servers.
own_lines() {
    cat <<END
port = $((port + servers))
listen_addresses = ''
unix_socket_directories = '$site'
shared_buffers = 16MB
fsync = off
END
}

# new_server DATA: connections come through a socket in this directory, which is closed to other users.
new_server() {
    initdb --no-sync --auth-local=trust --auth-host=reject --username=postgres --encoding=UTF8 --locale=C \
        -D "$1" >"$site/initdb.log" 2>&1
    own_lines >>"$1/postgresql.conf"
    servers=$((servers + 1))
}

# start DATA, without waiting until it accepts connections: a standby may need WAL first. Use wait_until for that.
start() {
    case " $started " in *" $1 "*) ;; *) started="$started $1" ;; esac
    pg_ctl start -s -W -D "$1" -l "$1.log"
}

# stop DATA MODE
stop() { pg_ctl stop -s -m "$2" -D "$1"; }

# sql DATA QUERY
sql() {
    psql -XAtq -v ON_ERROR_STOP=1 -h "$site" -p "$(sed -n 4p "$1/postmaster.pid")" -U postgres -d postgres -c "$2"
}

# wait_until WHAT COMMAND...: until the command succeeds. PATIENCE is how many seconds that may take.
wait_until() {
    what=$1
    shift
    deadline=$(($(date +%s) + ${PATIENCE:-60}))
    until "$@"; do
        [ "$(date +%s)" -lt $deadline ] || fail "not within ${PATIENCE:-60} s: $what"
        sleep 0.1
    done
}

# says DATA QUERY ANSWER: the server accepts the connection and answers exactly this.
says() { [ "$(sql "$1" "$2" 2>/dev/null)" = "$3" ]; }
# logged DATA PATTERN
logged() { grep -qs "$2" "$1.log"; }

wait_for_start() { wait_until "$1 answers" says "$1" 'select 1' 1; }

create_table() { sql "$1" 'create table orders (number int)'; }
insert_rows() { sql "$1" "insert into orders select generate_series(1, $2)"; }

# ship DATA ARCHIVE: completes the current segment and waits until it is archived. Prints its name.
ship() {
    segment=$(sql "$1" 'select pg_walfile_name(pg_switch_wal())')
    wait_until "$segment is in $2" test -e "$2/$segment"
    echo "$segment"
}

# wait_for_rows DATA NUMBER, and has_rows for what must be true already.
wait_for_rows() { wait_until "$1 has $2 rows" says "$1" 'select count(*) from orders' "$2"; }
has_rows() {
    found=$(sql "$1" 'select count(*) from orders')
    [ "$found" = "$2" ] || fail "$1 has $found rows, expected $2"
}

# promoted DATA ROWS: the standby becomes a primary with all those rows, and takes another one.
promoted() {
    wait_until "$1 is a primary" says "$1" 'select pg_is_in_recovery()' f
    has_rows "$1" "$2"
    sql "$1" 'insert into orders values (0)'
    has_rows "$1" $(($2 + 1))
    sql "$1" 'delete from orders where number = 0'
}

# What pg_standby said about a failover, from the server's log.
who_asked() { sed -n 's/.*pg_standby: \(.* failover requested by .*\)/\1/p' "$1.log" | tail -n 1; }

# pg_basebackup copies from servers of its own version and of older ones.
has_basebackup() {
    command -v pg_basebackup >/dev/null &&
        [ "$(pg_basebackup --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')" -ge "$major" ]
}

# base_backup FROM TO
base_backup() {
    if has_basebackup; then
        pg_basebackup -h "$site" -p "$(sed -n 4p "$1/postmaster.pid")" -U postgres -c fast -D "$2"
    else
        by_hand "$1" "$2"
    fi
    own_lines >>"$2/postgresql.conf"
    servers=$((servers + 1))
}

# by_hand FROM TO: base-backup/by-hand, unpacked.
by_hand() {
    PGHOST=$site PGPORT=$(sed -n 4p "$1/postmaster.pid") PGUSER=postgres "$example/../base-backup/by-hand" "$2.tar"
    mkdir -m 700 "$2"
    tar -C "$2" -xf "$2.tar"
    rm "$2.tar"
}

# standby_lines DATA SIGNAL_FILE: recovery.conf up to 11, lines for postgresql.conf and a signal file from 12 on.
standby_lines() {
    if [ "$major" -ge 12 ]; then
        lines standby.conf >>"$1/postgresql.conf"
        touch "$1/$2"
    else
        lines recovery.conf >"$1/recovery.conf"
    fi
}
