#!py
"""1.1.1 The host is the VPS that was declared: Debian 13, its CPUs, memory and disk (before: terraform deploy.sh)."""

from mailhost_sls import task


def run():
    """Nothing is made here: `make provision` or `make adopt` brought the host, and what it is, is proved on it."""
    return task(__sls__, {})
