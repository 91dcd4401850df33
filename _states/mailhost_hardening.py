"""The hardening controls that no other state covers."""

from mailhost_result import explained, outcome

__all__ = ["integrity_database"]


@explained
def integrity_database(name):
    """Let AIDE have its database of how the files are: it is built in the background."""
    found = __salt__["mailhost_hardening.database"]()
    changes = {"database": {"old": None, "new": "is being built"}} if found == "missing" else {}
    return outcome((__opts__, __context__), name, changes, __salt__["mailhost_hardening.build_database"], f"is {found}")
