-- An alias leads to a destination that is switched off in more ways than one: by the mailbox, by its domain, by another name
-- of it, by an alias in between. Whoever asks about an alias that leads nowhere else is refused; a catch-all is only for
-- addresses that nobody has.

-- Where mail for an address goes. A mailbox without an alias of its own is its own destination: else a catch-all, which
-- Postfix asks for next, would take its mail. A destination is left out when nothing that it leads to takes mail: what is
-- taken for it could only be bounced. Postfix looks up each destination again, and so does this; UNION ends loops. What is
-- in no domain of ours, or has neither mailbox nor alias, is not for us to judge. An address of an alias domain exists
-- where the same address of its home does.
CREATE OR REPLACE FUNCTION mail.alias_destinations(address text) RETURNS SETOF text
LANGUAGE sql STABLE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE asked AS (
        SELECT split_part(lower(address), '@', 1) || '@' || d.home AS source
        FROM mail.active_domains d WHERE d.name = split_part(lower(address), '@', 2)
    ), reached (destination, name, domain) AS (
        SELECT a.destination, split_part(lower(a.destination), '@', 1), split_part(lower(a.destination), '@', 2)
        FROM asked JOIN mail.virtual_aliases a ON a.source = asked.source
        WHERE a.active
        UNION
        SELECT r.destination, split_part(lower(a.destination), '@', 1), split_part(lower(a.destination), '@', 2)
        FROM reached r
        JOIN mail.active_domains d ON d.name = r.domain
        JOIN mail.virtual_aliases a ON a.source = r.name || '@' || d.home
        WHERE a.active
    ), aliases AS (
        SELECT DISTINCT r.destination
        FROM reached r LEFT JOIN mail.active_domains d ON d.name = r.domain
        WHERE CASE
            WHEN d.name IS NULL THEN NOT EXISTS (SELECT FROM mail.virtual_domains v WHERE v.name = r.domain)
            ELSE coalesce(
                (SELECT u.active FROM mail.virtual_users u WHERE u.email = r.name || '@' || d.home),
                NOT EXISTS (SELECT FROM mail.virtual_aliases a WHERE a.source = r.name || '@' || d.home)
            )
        END
    )
    SELECT destination FROM aliases
    UNION ALL
    SELECT m.email FROM asked JOIN mail.active_mailboxes m ON m.email = asked.source
    WHERE NOT EXISTS (SELECT FROM aliases)
$$;

-- A mailbox that is switched off refuses its mail, and so does an alias that leads to nothing else; without this a catch-all
-- would get it. A catch-all itself is nobody's address.
CREATE OR REPLACE FUNCTION mail.recipient_refusal(address text) RETURNS SETOF text
LANGUAGE sql STABLE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT '550 5.2.1 Mailbox disabled, not accepting messages'
    FROM (
        SELECT split_part(lower(address), '@', 1) || '@' || d.home AS source
        FROM mail.active_domains d WHERE d.name = split_part(lower(address), '@', 2)
    ) asked
    WHERE asked.source NOT LIKE '@%'
      AND (
          EXISTS (SELECT FROM mail.virtual_users u WHERE u.email = asked.source)
          OR EXISTS (SELECT FROM mail.virtual_aliases a WHERE a.source = asked.source)
      )
      AND NOT EXISTS (SELECT FROM mail.alias_destinations(address))
$$;
COMMENT ON FUNCTION mail.recipient_refusal IS 'What an SMTP server answers for a mailbox or an alias that is switched off';
