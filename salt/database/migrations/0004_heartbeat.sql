-- What backups are measured by: a row every few minutes, written by the host's own timers as the superuser. A restored
-- database has those that were in the archive, and so says how much was lost. Nobody else reads or writes it. The time is
-- the clock's at the insert, and the position in the WAL that just before the row.

CREATE TABLE backup.heartbeat (
    transaction xid8 PRIMARY KEY DEFAULT pg_current_xact_id(),
    beat_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    lsn pg_lsn NOT NULL DEFAULT pg_current_wal_insert_lsn(),
    source text NOT NULL CHECK (source IN ('backup', 'check', 'drill'))
);
COMMENT ON TABLE backup.heartbeat IS 'When the database was seen to take writes, and where its WAL was then';
REVOKE ALL ON backup.heartbeat FROM PUBLIC;
