-- For administration tools; mail servers verify by themselves. PostgreSQL 17 verifies bcrypt, and SHA512-CRYPT from 18 on;
-- for other schemes it says that it cannot, which is neither yes nor no. Who is not there, or switched off, costs a caller
-- as much time as who is: the same work is done on a hash that nothing matches, and results are compared by digest.
CREATE FUNCTION mail.verify_password(email text, password text) RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    stored text;
    wanted text;
    scheme text;
    same boolean;
BEGIN
    SELECT i.password INTO stored FROM mail.user_mailbox_info i WHERE i.email = lower(verify_password.email);
    scheme := coalesce(substring(stored FROM '^\{([^}]*)\}'), 'BLF-CRYPT');
    IF scheme <> 'BLF-CRYPT'
        AND NOT (scheme = 'SHA512-CRYPT' AND current_setting('server_version_num')::integer >= 180000)
    THEN
        RAISE EXCEPTION 'this server cannot verify %: ask Dovecot (doveadm auth test)', scheme
            USING ERRCODE = 'feature_not_supported';
    END IF;
    wanted := coalesce(substring(stored FROM '\}(.*)$'), '$2a$12$' || repeat('.', 53));
    -- $2a$, $2b$ and $2y$ are one algorithm for passwords of up to 72 bytes; pgcrypto knows the first name.
    wanted := regexp_replace(wanted, '^\$2[by]\$', '$2a$');
    same := sha256(convert_to(crypto.crypt(password, wanted), 'UTF8')) = sha256(convert_to(wanted, 'UTF8'));
    RETURN coalesce(same, false) AND stored IS NOT NULL;
END
$$;
COMMENT ON FUNCTION mail.verify_password IS 'Whether this is the password of a user who may log in now';
REVOKE ALL ON FUNCTION mail.verify_password(text, text) FROM PUBLIC;
