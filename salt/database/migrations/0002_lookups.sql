-- What mail servers ask. Whatever is switched off, or is in a domain that is, is not there for them.

CREATE VIEW mail.active_domains AS
    SELECT d.name, coalesce(d.alias_of, d.name) AS home
    FROM mail.virtual_domains d
    WHERE d.active AND (d.alias_of IS NULL OR (SELECT t.active FROM mail.virtual_domains t WHERE t.name = d.alias_of));
COMMENT ON VIEW mail.active_domains IS 'Domains that mail is taken for now, and the domain whose mailboxes they have';

CREATE VIEW mail.active_mailboxes AS
    SELECT u.email, u.domain, u.quota_bytes, u.quota_messages
    FROM mail.virtual_users u JOIN mail.virtual_domains d ON d.name = u.domain
    WHERE u.active AND d.active;
COMMENT ON VIEW mail.active_mailboxes IS 'Mailboxes that take mail now';

CREATE VIEW mail.user_mailbox_info AS
    SELECT u.email, split_part(u.email, '@', 1) AS username, u.domain, u.password, u.quota_bytes, u.quota_messages
    FROM mail.virtual_users u JOIN mail.virtual_domains d ON d.name = u.domain
    WHERE u.active AND d.active;
COMMENT ON VIEW mail.user_mailbox_info IS 'Users who may log in now, with the hashes of their passwords';

-- Where mail for an address goes. A mailbox without an alias of its own is its own destination: else a catch-all, which
-- Postfix asks for next, would take its mail. A destination that is switched off is left out: what is taken for it could
-- only be bounced. An address of an alias domain exists where the same address of its home does.
CREATE FUNCTION mail.alias_destinations(address text) RETURNS SETOF text
LANGUAGE sql STABLE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH asked AS (
        SELECT split_part(lower(address), '@', 1) || '@' || d.home AS source
        FROM mail.active_domains d WHERE d.name = split_part(lower(address), '@', 2)
    ), aliases AS (
        SELECT a.destination FROM asked JOIN mail.virtual_aliases a ON a.source = asked.source
        WHERE a.active AND NOT EXISTS (
            SELECT FROM mail.virtual_users u WHERE u.email = lower(a.destination) AND NOT u.active
        )
    )
    SELECT destination FROM aliases
    UNION ALL
    SELECT m.email FROM asked JOIN mail.active_mailboxes m ON m.email = asked.source
    WHERE NOT EXISTS (SELECT FROM aliases)
$$;
COMMENT ON FUNCTION mail.alias_destinations IS 'Where mail for an address, or for a catch-all @domain, goes';
REVOKE ALL ON FUNCTION mail.alias_destinations(text) FROM PUBLIC;

-- A mailbox that is switched off refuses its mail; without this a catch-all would get it.
CREATE FUNCTION mail.recipient_refusal(address text) RETURNS SETOF text
LANGUAGE sql STABLE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT '550 5.2.1 Mailbox disabled, not accepting messages'
    FROM mail.active_domains d
    JOIN mail.virtual_users u ON u.email = split_part(lower(address), '@', 1) || '@' || d.home
    WHERE d.name = split_part(lower(address), '@', 2)
      AND NOT u.active
      AND NOT EXISTS (SELECT FROM mail.alias_destinations(address))
$$;
COMMENT ON FUNCTION mail.recipient_refusal IS 'What an SMTP server answers for a mailbox that is switched off';
REVOKE ALL ON FUNCTION mail.recipient_refusal(text) FROM PUBLIC;
