"""Units of systemd: what differs, and which files are newer than a unit's start."""

from typing import Any

import pytest
from salt.exceptions import CommandExecutionError

import mailhost_service

RUNNING = {
    "load": "loaded",
    "active": "active",
    "enabled": "enabled",
    "started": 100.0,
    "changed": 100.0,
    "startable": True,
}
SHOWN = """\
LoadState=loaded
ActiveState=active
UnitFileState=enabled
StateChangeTimestamp=Sun 2026-11-22 19:52:39.500000 UTC
ActiveEnterTimestamp=Sun 2026-11-22 19:52:39.250000 UTC
"""
MISSING = """\
LoadState=not-found
ActiveState=inactive
UnitFileState=
StateChangeTimestamp=
ActiveEnterTimestamp=
"""


def test_a_unit_as_systemctl_shows_it() -> None:
    assert mailhost_service.parse(SHOWN) == {
        "load": "loaded",
        "active": "active",
        "enabled": "enabled",
        "started": 1795377159.25,
        "changed": 1795377159.5,
    }


def test_a_unit_that_is_not_there_has_never_run() -> None:
    unit = mailhost_service.parse(MISSING)
    assert (unit["enabled"], unit["started"], unit["changed"]) == ("disabled", 0.0, 0.0)


@pytest.mark.parametrize(
    ("unit", "asked", "changes"),
    [
        ({}, {}, set()),
        ({"active": "inactive"}, {}, {"active"}),
        ({"active": "failed"}, {"restart": ["/f"]}, {"active"}),
        ({"enabled": "disabled"}, {}, {"enabled"}),
        ({"enabled": "disabled"}, {"enabled": False}, set()),
        ({"enabled": "static"}, {}, set()),
        ({"enabled": "masked", "active": "inactive"}, {}, {"enabled", "active"}),
        ({}, {"restart": ["/f"]}, {"restarted"}),
        ({}, {"reload": ["/f"]}, {"reloaded"}),
        ({}, {"restart": ["/f"], "reload": ["/g"]}, {"restarted"}),
        ({"active": "inactive", "startable": False}, {"restart": ["/f"]}, set()),
        ({"active": "inactive"}, {"brought": True, "restart": ["/f"]}, {"service"}),
        ({}, {"brought": True}, {"service"}),
    ],
)
def test_what_lets_a_unit_run(unit: dict[str, Any], asked: dict[str, Any], changes: set[str]) -> None:
    given = {"brought": False, "enabled": True, **asked}
    assert set(mailhost_service.plan_running({**RUNNING, **unit}, **given)) == changes


@pytest.mark.parametrize(
    ("unit", "changes"),
    [
        ({"enabled": "masked", "active": "inactive"}, set()),
        ({"enabled": "masked"}, {"active"}),
        ({}, {"enabled", "active"}),
        ({"active": "inactive", "enabled": "disabled"}, {"enabled"}),
    ],
)
def test_what_masks_a_unit(unit: dict[str, Any], changes: set[str]) -> None:
    assert set(mailhost_service.plan_masked({**RUNNING, **unit})) == changes


def test_a_file_counts_when_it_changed_later_or_would_change() -> None:
    assert mailhost_service.newer({"/old": 99.0, "/new": 101.0, "/planned": 5.0}, 100.0, ["/planned"]) == [
        "/new",
        "/planned",
    ]


def test_a_misspelt_unit_is_refused_unless_something_brings_it() -> None:
    missing = {**RUNNING, "load": "not-found", "startable": False}
    with pytest.raises(CommandExecutionError, match=r"x\.timer: no such unit"):
        mailhost_service.known("x.timer", missing, brought=False, forecast=["/etc/systemd/system/y.timer"])
    assert mailhost_service.known("x.timer", missing, brought=True, forecast=[])
    found = mailhost_service.known("x.timer", missing, brought=False, forecast=["/etc/systemd/system/x.timer"])
    assert found["startable"]
