"""The hardening controls: a table without holes, what is on for a pillar, and how a host is judged."""

from typing import Any

import pytest

import mailhost_baseline
import mailhost_hardening
import mailhost_pillar
from compiled import GOOD, ROOT

STRICT: dict[str, Any] = {"profile": "strict", "disabled": None, "enabled": None, "boot_password": None}
BOOT_PASSWORD = f"grub.pbkdf2.sha512.10000.{'A1' * 64}.{'0F' * 64}"


def pillar(**hardening: Any) -> dict[str, Any]:
    return mailhost_pillar.plain(mailhost_pillar.parse({**GOOD, "hardening": hardening}))


@pytest.mark.parametrize("control", mailhost_hardening.CONTROLS, ids=lambda control: control.id)
def test_every_control_says_what_it_means_and_where_it_comes_from(control: mailhost_hardening.Control) -> None:
    assert control.means and control.source
    assert control.priority in mailhost_hardening.PROFILES.values()
    assert control.sets and all(control.sets.values())


def test_ids_are_unique_and_in_order() -> None:
    assert len(set(mailhost_hardening.IDS)) == len(mailhost_hardening.IDS)


def test_no_two_controls_set_the_same_thing_to_different_values() -> None:
    for kind in mailhost_hardening.KINDS:
        seen: dict[str, str] = {}
        for control in mailhost_hardening.CONTROLS:
            for name, value in control.sets.get(kind, {}).items():
                assert seen.setdefault(name, value) == value, f"{control.id}: {kind} {name}"


def test_what_others_need_stays() -> None:
    """Docker, WireGuard and PostgreSQL on the same host."""
    everything = mailhost_hardening.CONTROLS
    sysctl = mailhost_hardening.settings(everything, "sysctl")
    assert sysctl["net.ipv4.ip_forward"] == "1"
    assert not {"kernel.modules_disabled", "user.max_user_namespaces", "kernel.io_uring_disabled"} & set(sysctl)
    modules = set(mailhost_hardening.settings(everything, "module"))
    assert not {"overlay", "veth", "br_netfilter", "wireguard", "vfat", "nf_tables", "tun"} & modules
    assert mailhost_hardening.settings(everything, "apt")["Unattended-Upgrade::Automatic-Reboot"] == "false"


def test_profiles_hold_each_other() -> None:
    strict = {control.id for control in mailhost_hardening.active(STRICT)}
    basic = {control.id for control in mailhost_hardening.active({**STRICT, "profile": "basic"})}
    assert basic < strict
    assert strict == set(mailhost_hardening.IDS) - {"N13", "K07"}


def test_a_control_is_off_with_its_reason_and_sets_nothing() -> None:
    hardening = {**STRICT, "disabled": {"A07": "its users share files", "A05": "no passwords"}}
    on = mailhost_hardening.active(hardening)
    assert "A07" not in {control.id for control in on}
    out = mailhost_hardening.off(hardening)
    assert (out["A07"], out["A05"]) == ("its users share files", "no passwords")
    assert "/etc/profile.d/90-mailhost.sh" in mailhost_baseline.unwanted_files(on)
    assert "UMASK" not in mailhost_hardening.settings(on, "logindefs")
    enabled, disabled = mailhost_baseline.profiles(on)
    assert ("unix" in enabled, "mailhost-unix" in disabled, "pwquality" in enabled + disabled) == (True, True, False)


def test_a_control_that_is_off_by_itself_can_be_asked_for() -> None:
    assert "N13" in mailhost_hardening.off(STRICT)
    asked = {**STRICT, "enabled": ["N13"]}
    assert "N13" not in mailhost_hardening.off(asked)
    assert "N13" in {control.id for control in mailhost_hardening.active(asked)}


def test_the_boot_menu_s_password_comes_with_its_control() -> None:
    given = {**STRICT, "boot_password": BOOT_PASSWORD}
    assert "K07" in {control.id for control in mailhost_hardening.active(given)}
    assert mailhost_hardening.off({**given, "disabled": {"K07": "a test"}})["K07"] == "a test"


@pytest.mark.parametrize(
    ("hardening", "sentence"),
    [
        ({"profile": "paranoid"}, "hardening.profile: 'paranoid' is not one of strict, basic"),
        ({"disabled": {"Q99": "x"}}, "hardening.disabled: 'Q99' is no control"),
        ({"disabled": {"A07": " "}}, "hardening.disabled: A07 has no reason"),
        ({"disabled": {"A07": None}}, "hardening.disabled: A07 has no reason"),
        ({"disabled": ["A07"]}, "hardening.disabled: ['A07'] is not a section of controls and reasons"),
        ({"enabled": "N13"}, "hardening.enabled: 'N13' is not a list of controls"),
        ({"enabled": ["N13"], "disabled": {"N13": "x"}}, "hardening.enabled: N13 is in hardening.disabled too"),
        ({"enabled": ["K07"]}, "hardening.enabled: K07 needs hardening.boot_password"),
        ({"boot_password": "secret"}, "hardening.boot_password: is not a hash as grub-mkpasswd-pbkdf2 prints it"),
        ({"boot_password": BOOT_PASSWORD.lower()}, "hardening.boot_password: is not a hash"),
    ],
)
def test_a_pillar_that_makes_no_sense_is_refused(hardening: dict[str, Any], sentence: str) -> None:
    with pytest.raises(mailhost_pillar.PillarErrors) as error:
        pillar(**hardening)
    assert any(said.startswith(sentence) for said in error.value.sentences), error.value.sentences


def test_sshd_gets_the_admin_and_the_vpn() -> None:
    settings = {keyword: value for keyword, value, _ in mailhost_hardening.sshd(pillar())}
    assert settings["AllowUsers"] == "phalkonadmin"
    assert settings["PerSourcePenaltyExemptList"] == "10.100.0.0/24"
    assert "Port" not in settings and "ListenAddress" not in settings
    assert not any("{" in value for value in settings.values())


def test_sshd_gets_nothing_of_a_control_that_is_off() -> None:
    settings = mailhost_hardening.sshd(pillar(disabled={"S05": "an old client"}))
    assert "S05" not in {control for _, _, control in settings}
    assert "KexAlgorithms" not in {keyword for keyword, _, _ in settings}


def test_every_template_is_some_file_s_and_every_file_some_control_s() -> None:
    templates = {path.name for path in (ROOT / "salt/hardening/files").iterdir()}
    assert templates == {file.template for file in mailhost_baseline.FILES}
    for file in mailhost_baseline.FILES:
        assert file.kind in ("", *mailhost_hardening.KINDS)
        assert set(file.controls) <= set(mailhost_hardening.IDS)
        assert bool(file.kind) != bool(file.controls), file.path
    assert {service.control for service in mailhost_baseline.SERVICES} <= set(mailhost_hardening.IDS)


def test_every_unit_of_a_control_is_let_run_by_a_state() -> None:
    units = set(mailhost_hardening.settings(mailhost_hardening.CONTROLS, "unit"))
    assert units <= {service.unit for service in mailhost_baseline.SERVICES}


CONTROL = mailhost_hardening.Control(
    "X1", 1, "m", "s", sets={"sysctl": {"a": "1", "b": "2"}, "mount": {"/x": "noexec"}}
)


@pytest.mark.parametrize(
    ("facts", "absent", "judgement"),
    [
        ({"a": "1", "b": "2"}, {}, (["X1"], [], [])),
        ({"a": "1", "b": "0"}, {}, ([], ["X1: b is 0, not 2"], [])),
        ({"a": "1"}, {}, ([], ["X1: b is not set, not 2"], [])),
        ({"a": "1", "b": "0"}, {"sysctl:b": "no such key"}, (["X1"], [], ["X1 in part (no such key)"])),
        ({"a": "0", "b": "0"}, {"sysctl:b": "no such key"}, ([], ["X1: a is 0, not 1"], [])),
        (
            {},
            {"sysctl:a": "no such key", "sysctl:b": "no such key", "mount:/x": "not mounted"},
            ([], [], ["X1 (no such key, not mounted)"]),
        ),
    ],
)
def test_a_host_is_judged_control_by_control(
    facts: dict[str, str | None], absent: dict[str, str], judgement: tuple[list[str], list[str], list[str]]
) -> None:
    found: dict[str, dict[str, str | None]] = {"sysctl": facts, "mount": {"/x": "noexec"}}
    values = {kind: dict(held) for kind, held in CONTROL.sets.items()}
    assert mailhost_hardening.judge([CONTROL], values, found, absent) == judgement


def test_only_directories_of_files_that_are_wanted_are_made() -> None:
    assert mailhost_baseline.directories([]) == []
    everything = mailhost_baseline.directories(mailhost_hardening.CONTROLS)
    assert everything == list(mailhost_baseline.DIRECTORIES)
