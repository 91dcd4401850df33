"""The operator's tool for the database's backups: what no other tool does, round pgBackRest, which does the rest."""
