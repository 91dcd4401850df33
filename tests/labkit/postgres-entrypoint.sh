#!/bin/sh
# The manners of the official image's entry point, written from its documentation: an empty PGDATA is initialised, a
# cluster that is there is left alone, and root is dropped.
set -eu

# file_env VAR: the variable, or the content of the file that VAR_FILE names.
file_env() {
    file=$(printenv "$1_FILE") || return 0
    if printenv "$1" >/dev/null; then
        echo "error: both $1 and $1_FILE are set (but are exclusive)" >&2
        exit 1
    fi
    export "$1=$(cat "$file")"
    unset "$1_FILE"
}

initialise() {
    file_env POSTGRES_PASSWORD
    file_env POSTGRES_USER
    file_env POSTGRES_DB
    file_env POSTGRES_INITDB_ARGS
    user=${POSTGRES_USER:-postgres}
    if [ -z "${POSTGRES_PASSWORD:-}" ] && [ "${POSTGRES_HOST_AUTH_METHOD:-}" != trust ]; then
        echo "Error: Database is uninitialized and superuser password is not specified." >&2
        exit 1
    fi
    password=$(mktemp)
    printf '%s\n' "${POSTGRES_PASSWORD:-}" >"$password"
    # shellcheck disable=SC2086 # several words are meant
    initdb --username="$user" --pwfile="$password" ${POSTGRES_INITDB_ARGS:-}
    rm "$password"
    printf '\nhost all all all %s\n' "${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}" >>"$PGDATA/pg_hba.conf"
    pg_ctl -D "$PGDATA" -o "-c listen_addresses= -p 5432" -w start
    database=${POSTGRES_DB:-$user}
    [ "$database" = postgres ] || createdb -U "$user" "$database"
    for file in /docker-entrypoint-initdb.d/*; do
        query="psql -v ON_ERROR_STOP=1 --no-psqlrc -U $user -d $database"
        # shellcheck disable=SC1090 # whichever it is
        case $file in
            *.sh) if [ -x "$file" ]; then "$file"; else . "$file"; fi ;;
            *.sql) $query -f "$file" ;;
            *.sql.gz) gunzip -c "$file" | $query ;;
            *.sql.xz) xzcat "$file" | $query ;;
            *.sql.zst) zstd -dc "$file" | $query ;;
        esac
    done
    pg_ctl -D "$PGDATA" -m fast -w stop
    unset POSTGRES_PASSWORD
}

[ "${1#-}" = "$1" ] || set -- postgres "$@"
if [ "$1" = postgres ]; then
    mkdir -p "$PGDATA"
    chmod 700 "$PGDATA" || :
    mkdir -p /var/run/postgresql || :
    chmod 3775 /var/run/postgresql || :
    if [ "$(id -u)" = 0 ]; then
        find "$PGDATA" /var/run/postgresql \! -user postgres -exec chown postgres {} +
        exec gosu postgres "$0" "$@"
    fi
    [ -s "$PGDATA/PG_VERSION" ] || initialise
fi
exec "$@"
