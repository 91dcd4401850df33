"""What a run is shown as."""

from typing import Any

import mailhost_registry
import mailhost_report


def result(state_id: str, sls: str, number: int, **values: Any) -> dict[str, Any]:
    base = {"result": True, "changes": {}, "comment": "", "__sls__": sls, "__id__": state_id, "__run_num__": number}
    return {f"x_|-{state_id}_|-{state_id}_|-y": {**base, **values}}


def row(returned: Any, task_id: str) -> dict[str, Any]:
    return next(row for row in mailhost_report.rows(returned) if row["id"] == task_id)


def test_there_is_a_row_for_each_task_whatever_came_back() -> None:
    nothing: list[Any] = [{}, [], "broken", None]
    for returned in nothing:
        assert [row["id"] for row in mailhost_report.rows(returned)] == [task.id for task in mailhost_registry.TASKS]
        assert {row["mark"] for row in mailhost_report.rows(returned)} == {"[ ]"}


def test_a_proof_gives_the_mark() -> None:
    returned = result("1.2.1 is proven", "access.sudo", 1, comment="[x] seen to work")
    assert (row(returned, "1.2.1")["mark"], row(returned, "1.2.1")["evidence"]) == ("[x]", "seen to work")


def test_a_task_that_is_not_built_says_so() -> None:
    open_tasks = [task for task in mailhost_registry.TASKS if not task.built]
    for task in open_tasks:
        assert row({}, task.id)["evidence"] == "not built yet"


def test_a_failure_blocks_and_what_waits_for_it_names_it() -> None:
    returned = {
        **result("sudo is installed", "access.sudo", 1, result=False, comment="apt-get: no route"),
        **result(
            "1.2.2 begins",
            "access.default_user_absent",
            2,
            result=False,
            comment="One or more requisite failed: access.sudo.sudo is installed",
        ),
    }
    assert row(returned, "1.2.1")["mark"] == "[!]"
    assert row(returned, "1.2.1")["failures"] == ["sudo is installed: apt-get: no route"]
    assert row(returned, "1.2.2")["mark"] == "[!]"
    assert row(returned, "1.2.2")["evidence"] == "waits for 1.2.1"
    assert row(returned, "1.2.2")["failures"] == []


def test_a_traceback_is_cut_to_what_it_ends_with() -> None:
    comment = "An exception occurred in this state: Traceback (most recent call last):\n  File x\nKeyError: 'port'"
    returned = result("s", "access.sudo", 1, result=False, comment=comment)
    assert row(returned, "1.2.1")["evidence"] == "s: KeyError: 'port'"


def test_changes_and_predictions_are_told_apart() -> None:
    changes = {"mode": {"old": "0644", "new": "0440"}}
    assert "(would change)" in mailhost_report.text("mail", result("s", "access.sudo", 1, result=None, changes=changes))
    text = mailhost_report.text("mail", result("s", "access.sudo", 1, changes=changes))
    assert "mode: 0644 -> 0440" in text
    assert "1 changed, 0 failed" in text


def test_the_tracker_as_markdown_has_the_legend() -> None:
    text = mailhost_report.markdown("mail", result("1.2.1 NOPASSWD", "status", 1, comment="[~] nearly"))
    assert "- [~] **1.2.1** NOPASSWD for sudo users — nearly" in text


def test_an_error_instead_of_results_is_shown_as_it_is() -> None:
    assert mailhost_report.text("mail", ["Pillar failed", "ssh.port: 0"]) == "mail: Pillar failed\n  ssh.port: 0"
