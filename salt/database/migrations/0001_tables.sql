-- Domains, users and aliases. Addresses are small letters only: Postfix and Dovecot fold what they ask for, and so one
-- spelling of an address is one row. A name is either a domain with mailboxes or another name of one, never both.

CREATE EXTENSION pgcrypto SCHEMA crypto;

CREATE TABLE mail.virtual_domains (
    name text PRIMARY KEY
        CHECK (name ~ '^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$' AND length(name) <= 253),
    alias_of text,
    kind text NOT NULL GENERATED ALWAYS AS (CASE WHEN alias_of IS NULL THEN 'real' ELSE 'alias' END) STORED,
    alias_of_kind text NOT NULL GENERATED ALWAYS AS ('real'::text) STORED,
    active boolean NOT NULL DEFAULT true,
    comment text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    changed_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (name, kind),
    FOREIGN KEY (alias_of, alias_of_kind) REFERENCES mail.virtual_domains (name, kind)
);
COMMENT ON TABLE mail.virtual_domains IS 'Domains that mail is taken for';
COMMENT ON COLUMN mail.virtual_domains.alias_of IS 'The domain whose mailboxes and aliases this name shares; NULL: it has its own';
COMMENT ON COLUMN mail.virtual_domains.kind IS 'real or alias; what users, aliases and alias_of may refer to is real';

CREATE TABLE mail.virtual_users (
    email text PRIMARY KEY
        CHECK (email ~ '^[a-z0-9_]([a-z0-9_+=''-]|\.(?![.@]))*@' AND position('@' IN email) <= 65 AND length(email) <= 254),
    domain text NOT NULL GENERATED ALWAYS AS (split_part(email, '@', 2)) STORED,
    domain_kind text NOT NULL GENERATED ALWAYS AS ('real'::text) STORED,
    password text NOT NULL
        CHECK (password ~ '^\{BLF-CRYPT\}\$2[aby]\$(1[0-9]|2[0-9]|3[01])\$[./A-Za-z0-9]{53}$'
            OR password ~ '^\{SHA512-CRYPT\}\$6\$(rounds=[0-9]{4,9}\$)?[./A-Za-z0-9]{8,16}\$[./A-Za-z0-9]{86}$'
            OR password ~ '^\{ARGON2ID\}\$argon2id\$v=19\$m=[0-9]+,t=[0-9]+,p=[0-9]+\$[+/A-Za-z0-9]{11,}\$[+/A-Za-z0-9]{43,}$'),
    quota_bytes bigint NOT NULL DEFAULT 0 CHECK (quota_bytes >= 0),
    quota_messages bigint NOT NULL DEFAULT 0 CHECK (quota_messages >= 0),
    active boolean NOT NULL DEFAULT true,
    comment text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    changed_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (domain, domain_kind) REFERENCES mail.virtual_domains (name, kind)
);
CREATE INDEX ON mail.virtual_users (domain);
COMMENT ON TABLE mail.virtual_users IS 'Mailboxes and who may open them';
COMMENT ON COLUMN mail.virtual_users.password IS 'Hash with the name of its scheme before it, as Dovecot reads it';
COMMENT ON COLUMN mail.virtual_users.quota_bytes IS 'Bytes the mailbox may hold; 0: no limit';
COMMENT ON COLUMN mail.virtual_users.quota_messages IS 'Messages the mailbox may hold; 0: no limit';

CREATE TABLE mail.virtual_aliases (
    source text NOT NULL
        CHECK (source ~ '^([a-z0-9_]([a-z0-9_+=''-]|\.(?![.@]))*)?@' AND position('@' IN source) <= 65 AND length(source) <= 254),
    destination text NOT NULL
        CHECK (destination ~ '^[^[:space:][:cntrl:],;:"<>()@\\]+@([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'
            AND length(destination) <= 254),
    domain text NOT NULL GENERATED ALWAYS AS (split_part(source, '@', 2)) STORED,
    domain_kind text NOT NULL GENERATED ALWAYS AS ('real'::text) STORED,
    active boolean NOT NULL DEFAULT true,
    comment text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (source, destination),
    FOREIGN KEY (domain, domain_kind) REFERENCES mail.virtual_domains (name, kind)
);
CREATE INDEX ON mail.virtual_aliases (domain);
COMMENT ON TABLE mail.virtual_aliases IS 'Other addresses, one row a destination; the source @example.org is all that has no mailbox or alias';

CREATE FUNCTION mail.note_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.changed_at := now();
    RETURN NEW;
END
$$;
REVOKE ALL ON FUNCTION mail.note_change() FROM PUBLIC;
CREATE TRIGGER note_change BEFORE UPDATE ON mail.virtual_domains FOR EACH ROW EXECUTE FUNCTION mail.note_change();
CREATE TRIGGER note_change BEFORE UPDATE ON mail.virtual_users FOR EACH ROW EXECUTE FUNCTION mail.note_change();
CREATE TRIGGER note_change BEFORE UPDATE ON mail.virtual_aliases FOR EACH ROW EXECUTE FUNCTION mail.note_change();
