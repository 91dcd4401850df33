"""fail2ban: which jails are wanted, what a running one says, and what differs."""

import copy
import json
from typing import Any

import pytest

import compiled
import mailhost_fail2ban
import mailhost_forecast
import mailhost_pillar
from compiled import GOOD


def wanted(**sections: Any) -> dict[str, dict[str, Any]]:
    """Return the jails of the good pillar with sections added."""
    return mailhost_fail2ban.jails(mailhost_pillar.plain(mailhost_pillar.parse({**GOOD, **sections})))


# As `fail2ban-client -i` of Debian 13 (1.1.0-8) prints it for questions().
ANSWERS = """Fail2Ban v1.1.0 reads log file that contains password failure report
and bans the corresponding IP addresses using firewall rules.

fail2ban> Status
|- Number of jail:	2
`- Jail list:	recidive, sshd
fail2ban> 3
fail2ban> 600
fail2ban> 3600
fail2ban> These IP addresses/networks are ignored:
|- 127.0.0.0/8
|- 10.100.0.0/24
`- ::1
fail2ban> 2288,22
fail2ban> 3
fail2ban> 86400
fail2ban> 604800
fail2ban> These IP addresses/networks are ignored:
|- 127.0.0.0/8
|- 10.100.0.0/24
`- ::1
fail2ban> """
NOT_THERE = "Sorry but the jail 'sshd' does not exist"


def ruleset(hook: str = "prerouting", prio: int = -150, verdict: str = "drop", elements: tuple[str, ...] = ()) -> str:
    """Return what `nft -j list table` prints of a table with the sets of jail sshd."""
    objects: list[dict[str, Any]] = [
        {"metainfo": {"version": "1.1.3"}},
        {"table": {"family": "inet", "name": "f2b-table"}},
        {"chain": {"name": "f2b-prerouting", "type": "filter", "hook": hook, "prio": prio}},
    ]
    for name, protocol in (("addr-set-sshd", "ip"), ("addr6-set-sshd", "ip6")):
        mine = [address for address in elements if (":" in address) == (protocol == "ip6")]
        objects.append({"set": {"name": name, **({"elem": mine} if mine else {})}})
        source = {"payload": {"protocol": protocol, "field": "saddr"}}
        matches = [
            {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": "new"}},
            {"match": {"op": "==", "left": source, "right": f"@{name}"}},
        ]
        objects.append({"rule": {"chain": "f2b-prerouting", "expr": [*matches, {verdict: None}]}})
    return json.dumps({"nftables": objects})


def found(
    answers: str = ANSWERS, rules: str | None = None, banned: dict[str, list[str]] | None = None
) -> dict[str, Any]:
    jails = wanted()
    dropped = mailhost_fail2ban.dropped(ruleset() if rules is None else rules)
    # The sets of jail recidive look like those of sshd.
    dropped |= {name.replace("sshd", "recidive"): [] for name in dropped}
    return {"running": mailhost_fail2ban.parse(answers, jails), "dropped": dropped, "banned": banned or {}}


def test_the_numbers_of_the_pillar_in_seconds() -> None:
    jails = wanted(fail2ban={"findtime_minutes": 5, "recidive": {"maxretry": 4}}, ssh={"port": 2200})
    assert (jails["sshd"]["maxretry"], jails["sshd"]["findtime"], jails["sshd"]["bantime"]) == (3, 300, 3600)
    assert (jails["recidive"]["maxretry"], jails["recidive"]["bantime"]) == (4, 604800)
    assert jails["sshd"]["port"] == "2200,22"
    assert wanted(ssh={"port": 22})["sshd"]["port"] == "22"


def test_the_vpn_and_loopback_are_never_banned_whatever_the_pillar_says() -> None:
    vpn = {"address": "10.9.1.25/16", "address6": "fd00:100::25/64"}
    for jail in wanted(vpn=vpn, fail2ban={"ignore": ["203.0.113.7", "2001:db8::/32"]}).values():
        assert jail["ignoreip"] == sorted(
            ["127.0.0.0/8", "::1", "10.9.0.0/16", "fd00:100::/64", "203.0.113.7", "2001:db8::/32"]
        )


def test_one_question_an_answer() -> None:
    questions = mailhost_fail2ban.questions(wanted()).split("\n")
    assert questions[0] == "status"
    assert "get sshd action nftables port" in questions
    assert questions[-2:] == ["exit", ""]
    assert len(questions) - 2 == ANSWERS.count("fail2ban> ") - 1


def test_a_running_fail2ban_as_declared() -> None:
    assert mailhost_fail2ban.parse(ANSWERS, wanted()) == wanted()
    assert mailhost_fail2ban.plan(wanted(), found()) == {}


def test_a_server_that_does_not_answer_has_no_jails() -> None:
    assert mailhost_fail2ban.parse("Fail2Ban v1.1.0 …\n\nfail2ban> fail2ban> ", wanted()) == {}
    assert mailhost_fail2ban.parse("", wanted()) == {}


def test_a_jail_that_is_off_is_missed_and_the_other_still_read() -> None:
    answers = ANSWERS.replace("recidive, sshd", "recidive")
    for words in ("3\n", "600\n", "3600\n"):
        answers = answers.replace(f"> {words}", f"> {NOT_THERE}\n", 1)
    assert set(mailhost_fail2ban.parse(answers, wanted())) == {"recidive"}
    assert mailhost_fail2ban.plan(wanted(), found(answers)) == {"sshd": {"old": None, "new": "active"}}


def test_settings_changed_at_run_time_are_named() -> None:
    answers = ANSWERS.replace("> 3\n", "> 99\n", 1).replace("|- 10.100.0.0/24\n", "", 1)
    assert mailhost_fail2ban.plan(wanted(), found(answers)) == {
        "sshd": {
            "old": "maxretry 99, ignoreip 127.0.0.0/8 ::1",
            "new": "maxretry 3, ignoreip 10.100.0.0/24 127.0.0.0/8 ::1",
        }
    }


@pytest.mark.parametrize(
    "rules",
    ["", ruleset(hook="input"), ruleset(prio=-100), ruleset(verdict="accept")],
    ids=["no table", "chain of input", "after Docker's redirection", "accepted"],
)
def test_a_firewall_that_does_not_drop_in_time_is_a_change(rules: str) -> None:
    changes = mailhost_fail2ban.plan(wanted(), found(rules=rules))
    assert set(changes) == {"firewall"}
    assert "addr-set-sshd, addr6-set-recidive, addr6-set-sshd" in changes["firewall"]["new"]
    assert mailhost_fail2ban.sentences(changes)[0].startswith("firewall: missing, not drops addr-set-recidive")


def test_a_banned_address_that_comes_through_is_named() -> None:
    banned = {"sshd": ["203.0.113.7", "2001:db8::7"], "recidive": []}
    held = found(rules=ruleset(elements=("203.0.113.7", "2001:db8::7")), banned=banned)
    assert mailhost_fail2ban.not_held(held) == []
    half = found(rules=ruleset(elements=("203.0.113.7",)), banned=banned)
    assert mailhost_fail2ban.not_held(half) == ["2001:db8::7 is banned by sshd and not dropped"]


def test_who_is_banned_twice_counts_once() -> None:
    words = mailhost_fail2ban.evidence(wanted(), {"sshd": ["203.0.113.7"], "recidive": ["203.0.113.7"]})
    assert words.startswith("sshd 3 in 10 min = 60 min, recidive 3 in 1440 min = 10080 min")
    assert words.endswith("1 banned now")


def sentences(declared: dict[str, Any]) -> list[str]:
    pillar = {**copy.deepcopy(GOOD), "fail2ban": declared}
    with pytest.raises(mailhost_pillar.PillarErrors) as caught:
        mailhost_pillar.parse(pillar)
    return caught.value.sentences


@pytest.mark.parametrize(
    ("declared", "sentence"),
    [
        ({"ignore": "10.0.0.1"}, "fail2ban.ignore: is not a list of addresses and networks"),
        ({"ignore": ["example.org"]}, "fail2ban.ignore: 'example.org' is neither an address nor a network such as 198.51.100.0/24"),
        ({"ignore": ["10.1.2.3/24"]}, "fail2ban.ignore: '10.1.2.3/24' is neither an address nor a network such as 198.51.100.0/24"),
        ({"ignore": ["::/0"]}, "fail2ban.ignore: '::/0' is everybody"),
        ({"maxretry": 0}, "fail2ban.maxretry: 0 is not a number of failed logins from 1 to 100"),
        ({"bantime_minutes": "1h"}, "fail2ban.bantime_minutes: '1h' is not a number of minutes from 1 to 525600"),
        ({"recidive": {"maxretry": 1}}, "fail2ban.recidive.maxretry: 1 is not a number of bans from 2 to 100"),
        ({"recidive": {"bantime_minutes": 30}}, "fail2ban.recidive.bantime_minutes: is shorter than fail2ban.bantime_minutes"),
        ({"recidive": {"findtime_minutes": 180}}, "fail2ban.recidive.findtime_minutes: 3 bans take more than 180 minutes, so nobody would ever be banned again and again"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_path(declared: dict[str, Any], sentence: str) -> None:
    assert sentences(declared) == [sentence]


class Host:
    """A host with a fail2ban whose state the test sets; what is done to it is noted."""

    def __init__(self, now: dict[str, Any], *, after: dict[str, Any] | None = None, test: bool = False) -> None:
        self.now, self.after, self.done = now, after or found(), list[tuple[str, ...]]()
        module = compiled.loaded("_states/mailhost_fail2ban.py")
        salt = {"mailhost_fail2ban.look": lambda jails: self.now, "mailhost_service.act": self.act}
        self.context: dict[str, Any] = {}
        vars(module).update(__salt__=salt, __opts__={"test": test}, __context__=self.context)
        self.jails = module.jails

    def act(self, *words: str) -> None:
        self.done.append(words)
        self.now = self.after

    def run(self) -> dict[str, Any]:
        return self.jails("x", wanted())  # type: ignore[no-any-return]


STOPPED = {**found(), "running": {"recidive": wanted()["recidive"]}}


def test_a_jail_that_is_off_is_put_right_by_a_restart() -> None:
    host = Host(STOPPED)
    assert host.run()["changes"] == {"sshd": {"old": None, "new": "active"}}
    assert host.done == [("fail2ban.service", "restart")]


def test_a_dry_run_says_the_same_and_does_nothing() -> None:
    host = Host(STOPPED, test=True)
    result = host.run()
    assert (result["result"], result["changes"]) == (None, Host(STOPPED).run()["changes"])
    assert host.done == []


def test_a_dry_run_that_would_start_fail2ban_expects_it_to_be_right_then() -> None:
    host = Host({"running": {}, "banned": {}, "dropped": {}}, test=True)
    mailhost_forecast.note(host.context, "changed", "fail2ban.service", True)
    result = host.run()
    assert (result["result"], result["changes"]) == (True, {})


def test_what_a_restart_does_not_put_right_is_a_failure() -> None:
    result = Host(STOPPED, after=STOPPED).run()
    assert result["result"] is False
    assert result["comment"] == "sshd: missing, not active: is there another file in /etc/fail2ban/jail.d?"
