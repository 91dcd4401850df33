"""Vultr's API through libcloud, against the stand-in: what is found, what is refused, and every error as one sentence."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from salt.exceptions import CommandExecutionError

import compiled
import mailhost_instance
import mailhost_pillar
import mailhost_roster
import mailhost_vultr
from compiled import GOOD, KEY
from labkit.provider import KEY as API_KEY
from labkit.provider import PASSWORD, Provider

PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGN0p1r9mEmcFm0Vp5lZK2fPEk7E4iFxNqsp5LgmCd3a"


def loaded(kind: str, name: str, **dunders: Any) -> ModuleType:
    """Return a module or state of the tree with Salt's names in it."""
    opts = {"test": False, "mailhost_wait_seconds": 1, "mailhost_roster": "etc/salt/roster"}
    return compiled.loaded(f"_{kind}/{name}.py", __opts__=opts, __context__={}, **dunders)  # type: ignore[no-any-return]


class Workstation:
    """The operator's side: module and state, and the contact with the host replaced by one that says its key."""

    def __init__(self, provider: Provider) -> None:
        self.provider, self.pending, self.environment = provider, False, "dev"
        self.pillar: dict[str, Any] = mailhost_pillar.plain(mailhost_pillar.parse(GOOD))
        self.vultr = loaded("modules", "mailhost_vultr", __pillar__=self.pillar)
        vars(self.vultr)["POLL_SECONDS"] = 0.05
        salt: dict[str, Callable[..., Any]] = {
            f"mailhost_vultr.{name}": getattr(self.vultr, name) for name in self.vultr.__all__
        }
        salt["mailhost_contact.first_key"] = self.first_key
        salt["mailhost_contact.begun"] = lambda host: self.pending
        salt["mailhost_contact.meet"] = lambda host, environment, addresses, priv: PUBLIC
        salt["mailhost_contact.finish"] = self.finish
        self.state = loaded("states", "mailhost_instance", __salt__=salt)

    def first_key(self, host: str) -> tuple[str, str]:
        self.pending = True
        return "PRIVATE\nHALF\n", PUBLIC

    def finish(self, host: str) -> None:
        self.pending = False

    def present(self, test: bool = False, **provision: Any) -> dict[str, Any]:
        """Apply the state and return what it returns."""
        self.state.__opts__["test"] = test
        section = {**self.pillar["provision"], **provision}
        return dict(self.state.present("x", "mail", section, self.environment, [KEY], None))

    def absent(self, *typed: str, test: bool = False, host: str = "mail", **provision: Any) -> dict[str, Any]:
        self.state.__opts__["test"] = test
        section = {**self.pillar["provision"], **provision}
        return dict(self.state.absent("x", host, typed, section, self.environment))

    def kept(self, *typed: str, host: str = "mail", **provision: Any) -> str:
        """Ask for an instance's end, and return why not; nothing must have gone."""
        there = list(self.provider.instances), mailhost_roster.made("etc/salt/roster", host)
        dry, real = (self.absent(*typed, test=test, host=host, **provision) for test in (True, False))
        assert (dry["result"], real["result"]) == (False, False), (dry, real)
        assert dry["comment"] == real["comment"]
        assert (list(self.provider.instances), mailhost_roster.made("etc/salt/roster", host)) == there
        return str(real["comment"])

    def exact(self, **provision: Any) -> dict[str, Any]:
        """Apply, and return the changes, which a dry run must have said, and a second run must not have."""
        writes = len(self.provider.writes)
        dry = self.present(test=True, **provision)
        assert len(self.provider.writes) == writes, "a dry run only looks"
        real = self.present(**provision)
        assert real["result"] is True, real
        assert dry["changes"] == real["changes"]
        writes = len(self.provider.writes)
        for again in (self.present(**provision), self.present(test=True, **provision)):
            assert (again["result"], again["changes"]) == (True, {}), again
        assert len(self.provider.writes) == writes
        return dict(real["changes"])

    def refused(self, **provision: Any) -> str:
        """Apply, and return why not; nothing must have been asked for but looks."""
        writes = len(self.provider.writes)
        dry, real = self.present(test=True, **provision), self.present(**provision)
        assert (dry["result"], real["result"]) == (False, False), (dry, real)
        assert dry["comment"] == real["comment"]
        assert len(self.provider.writes) == writes
        assert "\n" not in real["comment"]
        return str(real["comment"])


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Provider]:
    """An account with nothing in it."""
    with Provider() as made:
        for name, value in made.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        (tmp_path / "etc/salt").mkdir(parents=True)
        yield made


@pytest.fixture
def desk(provider: Provider) -> Workstation:
    """The operator's side of it."""
    return Workstation(provider)


@pytest.fixture
def known(desk: Workstation) -> dict[str, Any]:
    """An instance of ours, ready, and known to the roster."""
    instance = desk.provider.add("mail-dev", features=["ipv6", "auto_backups"])
    desk.provider.schedules[instance["id"]] = {"enabled": True, "type": "daily"}
    entry = {"host": ["203.0.113.5", "2001:db8:5::1"], "environment": "dev", "host_key": PUBLIC}
    mailhost_roster.keep("etc/salt/roster", "mail", entry)
    assert desk.present()["changes"] == {}
    return instance


# --- ordered


def test_an_instance_is_ordered_once(desk: Workstation) -> None:
    changes = desk.exact()
    assert changes == {
        "ssh keys at Vultr": {"old": None, "new": "ada@example.org"},
        "instance": {
            "old": None,
            "new": "mail-dev: vc2-2c-4gb in dfw, Debian 13 x64 (trixie), backups daily, IPv6, tags mailhost",
        },
        "roster": {"old": None, "new": "its addresses and host key"},
    }
    (instance,) = desk.provider.instances.values()
    assert desk.provider.schedules[instance["id"]]["type"] == "daily"
    assert mailhost_roster.entries("etc/salt/roster") == {
        "mail": {"host": ["203.0.113.5", "2001:db8:5::1"], "environment": "dev", "host_key": PUBLIC}
    }


def test_what_is_ordered(desk: Workstation) -> None:
    desk.provider.groups["g"] = {"id": "g", "description": "mail hosts"}
    desk.present(firewall_group="mail hosts", backups=None, tags=["mail", "eu"], label="mx", region="ams")
    (order,) = [body for method, path, body in desk.provider.asked if (method, path) == ("POST", "/v2/instances")]
    (key,) = desk.provider.ssh_keys
    told = base64.b64decode(order.pop("user_data")).decode()
    assert order == {
        "label": "mx",
        "hostname": "mail",
        "region": "ams",
        "plan": "vc2-2c-4gb",
        "os_id": 2625,
        "sshkey_id": [key],
        "tags": ["mailhost", "mail", "eu"],
        "enable_ipv6": True,
        "backups": "disabled",
        "user_scheme": "root",
        "activation_email": False,
        "firewall_group_id": "g",
    }
    assert told == mailhost_instance.user_data("PRIVATE\nHALF\n", PUBLIC)


def test_the_user_data_is_what_cloud_init_reads() -> None:
    import yaml

    text = mailhost_instance.user_data("-----BEGIN-----\nabc=\n-----END-----\n", PUBLIC + "\n")
    assert text.startswith("#cloud-config\n")
    assert yaml.safe_load(text) == {
        "ssh_pwauth": False,
        "ssh_deletekeys": True,
        "ssh_keys": {"ed25519_private": "-----BEGIN-----\nabc=\n-----END-----\n", "ed25519_public": PUBLIC},
    }


def test_a_key_that_vultr_has_is_not_given_twice(desk: Workstation) -> None:
    desk.provider.ssh_keys["k"] = {"id": "k", "name": "of old", "ssh_key": f"{PUBLIC} otherwise named"}
    assert list(desk.exact()) == ["instance", "roster"]
    assert list(desk.provider.ssh_keys) == ["k"]


def test_keys_of_the_account_that_nobody_can_read_are_no_reason_to_stop(desk: Workstation) -> None:
    for number, text in enumerate(("", "nonsense", "sk-ssh-ed25519@openssh.com AAAA", "ssh-rsa !!!")):
        desk.provider.ssh_keys[str(number)] = {"id": str(number), "name": "x", "ssh_key": text}
    assert "instance" in desk.exact()


def test_lists_come_in_pages(desk: Workstation) -> None:
    desk.provider.page = 1
    for number in range(3):
        desk.provider.add(f"other-{number}")
    assert "instance" in desk.exact()
    assert "instance" not in desk.exact()


def test_a_slow_boot_is_waited_for(desk: Workstation, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.provider._seconds = 0.4
    monkeypatch.setitem(desk.vultr.__opts__, "mailhost_wait_seconds", 20)
    assert "instance" in desk.exact()


def test_a_boot_that_does_not_end_is_bounded_and_goes_on(desk: Workstation) -> None:
    done = threading.Event()

    def build(instance: dict[str, Any]) -> tuple[str, str]:
        done.wait(60)
        return "203.0.113.5", "2001:db8:5::1"

    desk.provider._build = build
    try:
        stopped = desk.present()
        assert stopped["result"] is False
        assert stopped["comment"] == "the instance is not ready after 1 s; run again, it goes on from there"
        dry = desk.present(test=True)
    finally:
        threading.Timer(0.3, done.set).start()
    real = desk.present()
    assert (real["result"], list(real["changes"])) == (True, ["roster"])
    assert real["changes"] == dry["changes"]
    assert desk.exact() == {}
    assert len(desk.provider.instances) == 1


def test_errors_while_waiting_are_waited_out(desk: Workstation) -> None:
    desk.provider.fail("GET", "/v2/instances/.*", 502, "<html>bad gateway</html>", times=3)
    with desk.provider.no_faults_left():
        assert "instance" in desk.exact()


# --- found


@pytest.mark.parametrize(
    ("provision", "spoilt", "changes"),
    [
        ({}, {"tags": ["mailhost", "x"]}, {}),
        ({"tags": ["mx"]}, {}, {"tags": {"old": "mailhost", "new": "mailhost, mx"}}),
        ({"tags": ["a, b"]}, {"tags": ["c, d", "mailhost"]}, {"tags": {"old": "c, d, mailhost", "new": "c, d, mailhost, a, b"}}),
        ({}, {"features": ["ipv6"]}, {"backups": {"old": None, "new": "daily"}}),
        ({"backups": "weekly"}, {}, {"backups": {"old": "daily", "new": "weekly"}}),
        ({"backups": None}, {}, {"backups": {"old": "daily", "new": None}}),
        ({"firewall_group": "front"}, {}, {"firewall group": {"old": None, "new": "front"}}),
        ({"firewall_group": "front"}, {"firewall_group_id": "2"}, {"firewall group": {"old": "back", "new": "front"}}),
        ({"firewall_group": "front"}, {"firewall_group_id": "1"}, {}),
        ({"plan": "vc2-4c-8gb", "resize": True, "snapshot": False}, {}, {"plan": {"old": "vc2-2c-4gb", "new": "vc2-4c-8gb"}}),
    ],
)  # fmt: skip
def test_what_differs_is_changed_in_place(
    desk: Workstation, known: dict[str, Any], provision: Any, spoilt: Any, changes: Any
) -> None:
    desk.provider.groups.update({"1": {"id": "1", "description": "front"}, "2": {"id": "2", "description": "back"}})
    known.update(spoilt)
    assert desk.exact(**provision) == changes
    assert list(desk.provider.instances) == [known["id"]], "never a second one, never another one"


def test_tags_with_commas_stay_what_they_are(desk: Workstation, known: dict[str, Any]) -> None:
    known["tags"] = ["c, d", "mailhost"]
    desk.present(tags=["a, b"])
    assert known["tags"] == ["c, d", "mailhost", "a, b"]


def test_ipv6_that_is_off_is_switched_on_and_the_roster_told(desk: Workstation, known: dict[str, Any]) -> None:
    known.update(features=["auto_backups"], v6_main_ip="")
    mailhost_roster.keep("etc/salt/roster", "mail", {"host": ["203.0.113.5"], "environment": "dev", "host_key": PUBLIC})
    assert list(desk.exact()) == ["IPv6", "roster"]
    assert mailhost_roster.made("etc/salt/roster", "mail")["host"] == ["203.0.113.5", "2001:db8:5::1"]


def test_a_resize_has_a_snapshot_before_it(desk: Workstation, known: dict[str, Any]) -> None:
    changes = desk.exact(plan="vc2-4c-8gb", resize=True)
    assert list(changes) == ["snapshot", "plan"]
    writes = [path for _, path in desk.provider.writes]
    assert writes.index("/v2/snapshots") < writes.index(f"/v2/instances/{known['id']}")


def test_a_changed_address_reaches_the_roster(desk: Workstation, known: dict[str, Any]) -> None:
    known["main_ip"] = "203.0.113.77"
    assert desk.exact() == {"roster": {"old": "203.0.113.5, 2001:db8:5::1", "new": "203.0.113.77, 2001:db8:5::1"}}


# --- refused


@pytest.mark.parametrize(
    ("provision", "words"),
    [
        ({"region": "dwf"}, "provision.region: Vultr has no 'dwf'; near it is dfw"),
        ({"region": "moon"}, "provision.region: Vultr has no 'moon'; there are ams, dfw, ewr"),
        ({"plan": "vc2-2c-4bg"}, "provision.plan: Vultr has no 'vc2-2c-4bg'; near it is vc2-2c-4gb or vc2-4c-8gb or vc2-1c-2gb"),
        ({"image": "Debian 13"}, "provision.image: Vultr has no 'Debian 13'; near it is Debian 13 x64 (trixie)"),
        ({"firewall_group": "x"}, "provision.firewall_group: Vultr has no 'x'; there are none"),
        ({"region": "ewr"}, "provision.plan: vc2-2c-4gb is not to be had in ewr now; it is in ams, dfw"),
        ({"plan": "vc2-1c-2gb"}, "provision.cpus: plan vc2-1c-2gb has 1, not 2; provision.memory_gb: plan vc2-1c-2gb has 2, not 4; provision.disk_gb: plan vc2-1c-2gb has 55, not 80"),
    ],
)  # fmt: skip
def test_names_that_vultr_does_not_have(desk: Workstation, provision: Any, words: str) -> None:
    assert desk.refused(**provision) == words


@pytest.mark.parametrize(
    ("provision", "spoilt", "words"),
    [
        ({"plan": "vc2-4c-8gb"}, {}, "provision.plan: the instance has vc2-2c-4gb, not vc2-4c-8gb: with provision.resize: true it is resized, which restarts it"),
        ({"resize": True}, {"plan": "vc2-4c-8gb", "disk": 160}, "provision.plan: Vultr can resize the instance to nothing, not to vc2-2c-4gb"),
        ({"region": "ams"}, {}, "provision.region: the instance is in dfw, and Vultr cannot move it"),
        ({}, {"os_id": 2136, "os": "Debian 12 x64 (bookworm)"}, "provision.image: the instance has Debian 12 x64 (bookworm); another image would erase it"),
        ({}, {"power_status": "stopped"}, "Vultr's instance mail-dev is switched off: start it at the provider"),
        ({}, {"status": "suspended"}, "Vultr's instance mail-dev is suspended: see to that at the provider"),
    ],
)  # fmt: skip
def test_what_is_never_done_by_itself(
    desk: Workstation, known: dict[str, Any], provision: Any, spoilt: Any, words: str
) -> None:
    known.update(spoilt)
    assert desk.refused(**provision) == words


def test_two_of_a_name_are_refused(desk: Workstation, known: dict[str, Any]) -> None:
    other = desk.provider.add("mail-dev")
    said = f"Vultr has 2 instances labelled mail-dev ({known['id']}, {other['id']}): relabel or destroy all but one"
    assert desk.refused() == said
    assert desk.absent("mail", "mail")["comment"] == said


def test_somebody_else_s_instance_is_not_ours(desk: Workstation) -> None:
    other = desk.provider.add("mail-dev", tags=["x"])
    assert f"Vultr's instance mail-dev ({other['id']}) has no tag mailhost" in desk.refused()
    assert "has no tag mailhost" in desk.absent("mail", "mail")["comment"]
    assert desk.provider.instances


def test_an_instance_whose_key_nobody_knows_is_not_entered(desk: Workstation) -> None:
    desk.provider.add("mail-dev")
    assert "its host key is not known here" in desk.refused()
    assert "make adopt HOST=203.0.113.5" in desk.refused()


def test_an_address_that_people_wrote_must_be_the_instance_s(desk: Workstation, known: dict[str, Any]) -> None:
    Path("etc/salt/roster").write_text("mail: {host: 198.51.100.9, environment: dev}\n")
    assert desk.refused() == (
        "etc/salt/roster: mail.host is 198.51.100.9, and Vultr's instance has 203.0.113.5, 2001:db8:5::1: take the line "
        "out, the addresses are kept in etc/salt/roster.d"
    )


def test_a_host_that_the_roster_knows_is_not_ordered_a_second_time(desk: Workstation, known: dict[str, Any]) -> None:
    """Relabelled in the console, or provision.label changed: whatever it is, no order takes its place in the roster."""
    there = "etc/salt/roster: mail is at 203.0.113.5, 2001:db8:5::1, and Vultr has no instance"
    what = "give another HOST=, correct provision.label, or, if that host is gone, remove etc/salt/roster.d/mail"
    assert desk.refused(label="mx") == f"{there} mx: {what}"
    known["label"] = "renamed"
    for pending in (False, True):
        desk.pending = pending
        assert desk.refused() == f"{there} mail-dev: {what}"
    mailhost_roster.forget("etc/salt/roster", "mail")
    Path("etc/salt/roster").write_text("mail: {host: 203.0.113.5, environment: dev}\n")
    assert desk.refused() == (
        "etc/salt/roster: mail is at 203.0.113.5, and Vultr has no instance mail-dev: give another HOST=, correct "
        "provision.label, or, if that host is gone, take mail.host out of etc/salt/roster"
    )
    Path("etc/salt/roster").write_text("mail: {environment: dev}\n")
    desk.pending = False
    assert "instance" in desk.exact()


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_host_stays_in_its_environment(desk: Workstation, known: dict[str, Any], by_hand: bool) -> None:
    if by_hand:
        mailhost_roster.forget("etc/salt/roster", "mail")
        Path("etc/salt/roster").write_text("mail: {environment: dev}\n")
    desk.environment = "staging"
    words = "etc/salt/roster: mail is of dev, and staging was asked for: give another HOST=, or ENV=dev"
    assert desk.refused() == words
    assert desk.kept("mail", "mail") == words
    known["label"] = "mx"
    assert desk.refused(label="mx") == words
    assert desk.kept("mail", "mx" if by_hand else "mail", label="mx") == words


def test_an_instance_elsewhere_than_the_roster_says_is_another_host(desk: Workstation, known: dict[str, Any]) -> None:
    known.update(main_ip="198.51.100.7", v6_main_ip="2001:db8:7::1")
    words = (
        "etc/salt/roster: mail is at 203.0.113.5, 2001:db8:5::1, and Vultr's instance mail-dev has 198.51.100.7, "
        "2001:db8:7::1: give another HOST=, correct provision.label, or, if it is the same host, remove "
        "etc/salt/roster.d/mail"
    )
    assert desk.refused() == words
    assert desk.kept("mail", "mail") == words
    known.update(main_ip="0.0.0.0", v6_main_ip="")
    assert "Vultr's instance mail-dev has no address yet" in desk.kept("mail", "mail")


# --- destroyed


def test_a_name_that_chooses_no_instance_destroys_none(desk: Workstation, known: dict[str, Any]) -> None:
    """provision.label is of an environment: the name typed twice is then that of any host."""
    known["label"] = "mx"
    assert desk.kept("mial", "mial", host="mial", label="mx") == (
        "mial is not destroyed: all its mail would go with it; the roster does not know it: type the label of its "
        "instance too, HOST=mial CONFIRM=mx"
    )
    entry = {"host": ["198.51.100.7"], "environment": "dev", "host_key": PUBLIC}
    mailhost_roster.keep("etc/salt/roster", "web", entry)
    assert "web is at 198.51.100.7, and Vultr's instance mx has 203.0.113.5" in desk.kept(
        "web", "web", host="web", label="mx"
    )
    assert desk.absent("mail", "mail", label="mx")["result"] is True
    assert not desk.provider.instances
    desk.provider.add("mx")
    assert desk.absent("mail", "mx", label="mx")["result"] is True
    assert not desk.provider.instances


def test_only_what_is_typed_twice_is_destroyed(desk: Workstation, known: dict[str, Any]) -> None:
    for typed in ((), ("mail",), ("mail", ""), ("", "mail"), ("mail", "Mail"), ("mail-dev", "mail-dev")):
        refused = desk.absent(*typed)
        assert refused["result"] is False
        assert "type its name twice, HOST=mail CONFIRM=mail" in refused["comment"]
    dry = desk.absent("mail", "mail", test=True)
    assert list(desk.provider.instances) == [known["id"]]
    real = desk.absent("mail", "mail")
    assert (dry["result"], dry["changes"]) == (None, real["changes"])
    assert real["changes"] == {
        "instance": {"old": f"mail-dev ({known['id']}), 203.0.113.5, 2001:db8:5::1", "new": None},
        "roster": {"old": "203.0.113.5, 2001:db8:5::1", "new": None},
    }
    assert not desk.provider.instances
    assert mailhost_roster.made("etc/salt/roster", "mail") == {}
    assert desk.absent("mail", "mail")["changes"] == {}


# --- what goes wrong at the other end


@pytest.mark.parametrize(
    ("code", "body", "words"),
    [
        (400, '{"error": "Invalid plan chosen.", "status": 400}', "Vultr refuses POST /v2/instances (400): Invalid plan chosen."),
        (403, '{"error": "Unauthorized IP address: 198.51.100.1", "status": 403}', "Vultr refuses the API key (403: Unauthorized IP address: 198.51.100.1): is it the right one, and does its access control list have this workstation's address?"),
        (500, '{"error": "Internal\\nServer Error"}', "Vultr refuses POST /v2/instances (500): Internal Server Error"),
        (502, "<html><h1>502</h1></html>", "Vultr refuses POST /v2/instances (502): Bad Gateway"),
        (503, "", "Vultr refuses POST /v2/instances (503): made to fail with 503"),
        (200, "<html>welcome</html>", "Vultr answers POST /v2/instances with something that is not JSON; whether it was done is not known: run again"),
        (0, "", "Vultr does not answer POST /v2/instances: remote end closed; whether it was done is not known: run again"),
    ],
)  # fmt: skip
def test_every_failure_is_one_sentence(desk: Workstation, code: int, body: str, words: str) -> None:
    desk.provider.fail("POST", "/v2/instances", code, body)
    with desk.provider.no_faults_left():
        assert desk.present()["comment"] == words
    assert not desk.provider.instances, "nothing that could order a second one is tried again"
    assert "instance" in desk.exact()


def test_an_order_whose_answer_was_lost_is_found_again(desk: Workstation, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = desk.provider.answer

    def lost(method: str, path: str, *rest: Any) -> Any:
        found = answer(method, path, *rest)
        if (method, path) == ("POST", "/v2/instances"):
            time.sleep(0.6)
        return found

    with monkeypatch.context() as slow:
        slow.setattr(desk.provider, "answer", lost)
        slow.setattr(mailhost_vultr.Connection, "timeout", 0.3)
        assert "whether it was done is not known: run again" in desk.present()["comment"]
    assert list(desk.exact()) == ["backups", "roster"], "what comes after the order, and no other order"
    assert len(desk.provider.instances) == 1


def test_too_many_requests_are_waited_out_by_libcloud(desk: Workstation) -> None:
    desk.provider.fail("GET", "/v2/plans", 429, Retry_After="1")
    begun = time.monotonic()
    with desk.provider.no_faults_left():
        assert desk.present(test=True)["result"] is None
    assert time.monotonic() - begun > 1


def test_an_order_that_was_one_too_many_is_placed_again_once(desk: Workstation) -> None:
    desk.provider.fail("POST", "/v2/instances", 429, Retry_After="1")
    with desk.provider.no_faults_left():
        assert "instance" in desk.exact()
    assert len(desk.provider.instances) == 1


def test_too_many_requests_for_too_long(desk: Workstation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailhost_vultr.Connection, "timeout", 2)
    desk.provider.fail("GET", "/v2/plans", 429, times=9, Retry_After="1")
    assert desk.present()["comment"] == (
        "Vultr takes no more requests from this address for now (429, GET /v2/plans): try again"
    )
    desk.provider.faults.clear()
    desk.provider.fail("GET", "/v2/plans", 429, Retry_After="3600")
    assert desk.present()["comment"] == "Vultr takes no requests for 3600 s (429): try again then"


def too_late(*request: Any) -> tuple[int, None]:
    """Answer when nobody waits any more: by the end of the connection."""
    time.sleep(0.6)
    return 0, None


def test_nobody_answers(desk: Workstation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(mailhost_vultr.STANDIN, "9")
    assert desk.present()["comment"] == "Vultr does not answer GET /v2/instances: connection refused"


def test_a_silent_one(desk: Workstation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailhost_vultr.Connection, "timeout", 0.2)
    monkeypatch.setattr(desk.provider, "answer", too_late)
    assert desk.present()["comment"] == "Vultr does not answer GET /v2/instances: nothing came in 0.2 s"


# --- the API key


def test_where_the_key_comes_from(desk: Workstation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The variable goes before the pillar, the pillar before the file."""
    file = tmp_path / "key"
    file.write_text(f"{API_KEY}\n")
    file.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    desk.pillar["provision"]["api_key_file"] = "~/key"
    desk.pillar["vultr_api_key"] = "of-the-pillar"
    assert desk.present(test=True)["result"] is None
    monkeypatch.delenv("VULTR_API_KEY")
    assert "refuses the API key (401: Invalid API token.)" in desk.present()["comment"]
    del desk.pillar["vultr_api_key"]
    assert desk.present(test=True)["result"] is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_file_that_others_may_read_is_refused(
    desk: Workstation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: int
) -> None:
    file = tmp_path / "key"
    file.write_text(API_KEY)
    file.chmod(mode)
    monkeypatch.delenv("VULTR_API_KEY")
    desk.pillar["provision"]["api_key_file"] = str(file)
    words = f"provision.api_key_file: {file} is not yours alone (mode {mode:04o}): chmod 600 it"
    assert desk.refused() == words
    assert desk.provider.asked == []


def test_no_key_and_keys_that_are_none(desk: Workstation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("VULTR_API_KEY")
    assert desk.refused() == (
        "there is no API key of Vultr: set VULTR_API_KEY, or vultr_api_key in provider.sls (encrypted), or "
        "provision.api_key_file"
    )
    desk.pillar["provision"]["api_key_file"] = str(tmp_path / "missing")
    assert desk.refused() == f"provision.api_key_file: {tmp_path}/missing: no such file or directory"
    for wrong in ("", "two words", "line\nbreak", "schlüssel"):
        monkeypatch.setenv("VULTR_API_KEY", wrong)
        said = desk.refused()
        assert said.startswith("the variable VULTR_API_KEY: is not an API key")
        assert not wrong or wrong not in said


def test_debugging_libcloud_does_not_write_the_key(
    desk: Workstation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import libcloud

    log = tmp_path / "debug.log"
    with log.open("w") as stream:
        libcloud.enable_debug(stream)
        try:
            assert "instance" in desk.exact()
        finally:
            libcloud.reset_debug()
    said = log.read_text()
    assert API_KEY not in said
    assert PASSWORD not in said


@pytest.mark.parametrize("port", ["127.0.0.1:80", "evil.example", "80@evil.example", "-1", "1e3", " 80", ""])
def test_the_stand_in_can_only_be_this_machine(port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(mailhost_vultr.STANDIN, port)
    with pytest.raises(mailhost_vultr.Refused, match="is not a port of this machine"):
        mailhost_vultr.driver("k")


def test_without_a_stand_in_it_is_vultr_with_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(mailhost_vultr.STANDIN, raising=False)
    connection = mailhost_vultr.driver("k").connection
    assert (connection.host, connection.port, connection.secure) == ("api.vultr.com", 443, 1)


def test_module_functions_raise_words(desk: Workstation) -> None:
    with pytest.raises(CommandExecutionError, match="Invalid ID"):
        desk.vultr.destroy("nothing")
