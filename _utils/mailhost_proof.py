"""What a look at the host found, in the tracker's legend. Pure."""

from typing import Any

DONE, OPEN, PARTLY, BLOCKED = "[x]", "[ ]", "[~]", "[!]"
MARKS = (DONE, OPEN, PARTLY, BLOCKED)

Proof = dict[str, str]


def proof(mark: str, evidence: str) -> Proof:
    """Return a proof: the mark and what was seen."""
    return {"mark": mark, "evidence": evidence}


def judged(failures: list[str], evidence: str) -> Proof:
    """Return done with the evidence, or open with what is not so."""
    return proof(OPEN, "; ".join(failures)) if failures else proof(DONE, evidence)


def comment(found: Proof) -> str:
    """Return a proof as a state's comment, ``[x] evidence``."""
    return f"{found['mark']} {found['evidence']}"


def read(state_comment: Any) -> Proof | None:
    """Return the proof that a state's comment carries, or None."""
    if isinstance(state_comment, str) and state_comment[:3] in MARKS:
        return proof(state_comment[:3], state_comment[4:])
    return None
