"""The firewall: ufw's files read, compared with what is declared, and what is then done; on files of real hosts."""

import copy
import dataclasses
import pathlib
from typing import Any

import pytest
from salt.exceptions import CommandExecutionError

import mailhost_chains
import mailhost_docker
import mailhost_firewall
import mailhost_iptables
import mailhost_pillar
import mailhost_ufw
from compiled import GOOD
from mailhost_ufw import Rule

CASES = pathlib.Path(__file__).parent / "ufw_files"
NAMES = {path: path.rpartition("/")[2] for path in mailhost_firewall.FILES} | {mailhost_firewall.DEFAULTS: "default"}
PILLAR = mailhost_pillar.plain(mailhost_pillar.parse(GOOD))
WANTED = mailhost_firewall.declared(PILLAR)
SSHD_FRESH = [["0.0.0.0", 22], ["::", 22]]
SSHD_MOVED = [["0.0.0.0", 2288], ["::", 2288]]
SSHD_ON_VPN = [["10.100.0.25", 2288]]


def case(name: str, file: str) -> str:
    """Return a file of a case; where it has none of its own, that of a fresh installation."""
    path = CASES / name / file
    return (path if path.exists() else CASES / "fresh-install" / file).read_text(encoding="utf-8")


def seen(name: str, ssh: list[list[Any]] | None = None, **more: Any) -> dict[str, Any]:
    """Return what mailhost_firewall.look finds on the host of a case."""
    packaged = {path: case("fresh-install", file) for path, file in NAMES.items() if not file.startswith("before")}
    files = {path: case(name, file) if path in packaged else "" for path, file in NAMES.items()}
    kernel = {}
    if (CASES / name / "iptables-save").exists():
        kernel = {4: case(name, "iptables-save"), 6: case(name, "ip6tables-save")}
    found = {
        "installed": True,
        "files": files,
        "packaged": packaged,
        "edited": [],
        "boot": True,
        "kernel": kernel,
        "nat": "",
        "docker": False,
        "ssh": (SSHD_MOVED if name == "as-declared" else SSHD_FRESH) if ssh is None else ssh,
        "addresses": {4: ["192.0.2.10"], 6: ["2001:db8::10"]},
    }
    return copy.deepcopy(found | more)


def wanted(**more: Any) -> dict[str, Any]:
    return WANTED | more


# ufw's rules file.


def test_rules_are_read_as_ufw_wrote_them() -> None:
    rules = mailhost_ufw.parse(case("all-kinds-of-rules", "user.rules"))
    assert rules == [
        Rule("reject", in_interface="eth1"),
        Rule("allow", dport="22"),
        Rule("allow", "tcp", "5432", in_interface="wg0", comment="PostgreSQL, für alle"),
        Rule("limit", "tcp", "587", comment="submission"),
        Rule("allow", "tcp", "22", dapp="OpenSSH"),
        Rule("allow", "udp", "8000:8010", src="10.1.2.0/24"),
        Rule("deny", src="192.0.2.7"),
        Rule("allow", "tcp", "80", dst="172.17.0.2", in_interface="wg0", out_interface="docker0", route=True),
        Rule("allow", "tcp", "25", log="log"),
        Rule("allow", dport="53", direction="out"),
    ]


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("allow tcp 25 0.0.0.0/0 any 0.0.0.0/0", Rule("allow", "tcp", "25")),  # of old versions, without direction
        ("allow any 80,443 ::/0 any ::/0 WWW%20Full - in", Rule("allow", dport="80,443", dapp="WWW Full")),
        ("deny any any 0.0.0.0/0 any 0.0.0.0/0 out_eth9", Rule("deny", direction="out", out_interface="eth9")),
        ("allow_log-all tcp 1 ::1 2 ::2 in", Rule("allow", "tcp", "1", "::1", "2", "::2", log="log-all")),
    ],
)
def test_rare_rules(line: str, rule: Rule) -> None:
    assert mailhost_ufw.parse(f"### tuple ### {line}\n") == [rule]


@pytest.mark.parametrize("line", ["allow tcp 25", "allow tcp 25 0.0.0.0/0 any 0.0.0.0/0 a b c d e"])
def test_a_line_that_ufw_skips_is_skipped(line: str) -> None:
    assert mailhost_ufw.parse(f"### tuple ### {line}\n") == []


@pytest.mark.parametrize(
    ("rule", "command", "removal"),
    [
        (
            Rule("allow", "tcp", "5432", in_interface="wg0", comment="PostgreSQL"),
            "allow in on wg0 proto tcp from any to any port 5432 comment PostgreSQL",
            "--force delete allow in on wg0 proto tcp from any to any port 5432",
        ),
        (
            Rule("allow", "tcp", "80", dst="172.17.0.2", in_interface="wg0", out_interface="docker0", route=True),
            "route allow in on wg0 out on docker0 proto tcp from any to 172.17.0.2 port 80",
            "--force route delete allow in on wg0 out on docker0 proto tcp from any to 172.17.0.2 port 80",
        ),
        (
            Rule("allow", "tcp", "22", dapp="OpenSSH", log="log"),
            "allow in log from any to any app OpenSSH",
            "--force delete allow in log from any to any app OpenSSH",
        ),
        (
            Rule("deny", direction="out", dport="53"),
            "deny out from any to any port 53",
            "--force delete deny out from any to any port 53",
        ),
    ],
)
def test_a_rule_in_the_words_of_ufw(rule: Rule, command: str, removal: str) -> None:
    assert " ".join(rule.command()) == command
    assert " ".join(rule.removal()) == removal


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (Rule("allow", "tcp", "25", comment="SMTP"), "allow 25/tcp (SMTP)"),
        (Rule("limit", "tcp", "22", in_interface="wg0"), "limit 22/tcp on wg0"),
        (Rule("allow", dport="22"), "allow 22"),
        (Rule("deny", src="192.0.2.7"), "deny in from 192.0.2.7 to any"),
    ],
)
def test_a_rule_for_people(rule: Rule, text: str) -> None:
    assert str(rule) == text


def test_the_line_of_a_rule_is_read_as_that_rule() -> None:
    rule = Rule("allow", "tcp", "2288", in_interface="wg0", comment="SSH, für alle")
    assert mailhost_ufw.parse(rule.line()) == [rule]


@pytest.mark.parametrize(
    ("rules", "admitted"),
    [
        ([], False),
        ([Rule("allow", "tcp", "22")], True),
        ([Rule("allow", dport="20:25")], True),
        ([Rule("limit", "tcp", "22")], True),
        ([Rule("allow", "udp", "22")], False),
        ([Rule("allow", "tcp", "22", in_interface="wg0")], False),
        ([Rule("deny", dport="1:100"), Rule("allow", "tcp", "22")], False),
        ([Rule("deny", in_interface="eth1"), Rule("allow")], True),
    ],
)
def test_ufws_first_match_decides(rules: list[Rule], admitted: bool) -> None:
    assert mailhost_ufw.admits("".join(rule.line() for rule in rules), "tcp", 22, "") is admitted


# What differs.


def test_a_fresh_installation_gets_everything() -> None:
    plan = mailhost_firewall.plan(wanted(), seen("fresh-install"))
    assert list(plan.changes) == [
        "own sysctl file",
        "containers and VPN address, IPv4",
        "containers and VPN address, IPv6",
        "rules added",
        "enabled",
    ]
    assert plan.changes["rules added"].splitlines() == [
        "allow 51820/udp (WireGuard)",
        "allow 2288/tcp on wg0 (SSH)",
        "allow 25/tcp (SMTP)",
        "allow 465/tcp (submission by TLS)",
        "limit 587/tcp (submission)",
        "allow 80/tcp (certificates by ACME)",
        "allow 993/tcp on wg0 (IMAP by TLS)",
        "allow 443/tcp on wg0 (web mail)",
        "allow 5432/tcp on wg0 (PostgreSQL)",
        "allow 22/tcp (SSH, until it is on the VPN only)",
    ]
    assert plan.enable
    assert not plan.reload
    assert set(plan.files) == {"/etc/default/ufw", "/etc/ufw/after.rules", "/etc/ufw/after6.rules"}


def test_a_dry_run_without_ufw_says_the_same_as_one_on_a_fresh_installation() -> None:
    nothing = dict.fromkeys(mailhost_firewall.FILES)
    without = seen("fresh-install", installed=False, files=nothing, packaged={})
    assert (
        mailhost_firewall.plan(wanted(), without).changes
        == mailhost_firewall.plan(wanted(), seen("fresh-install")).changes
    )


def test_nothing_differs_on_a_host_that_is_as_declared() -> None:
    plan = mailhost_firewall.plan(wanted(), seen("as-declared"))
    assert (plan.changes, plan.files, plan.commands, plan.reload) == ({}, {}, [], False)


def test_the_providers_rule_for_ssh_is_replaced_by_ours_and_goes_last() -> None:
    plan = mailhost_firewall.plan(wanted(), seen("provider-image-with-ssh-open"))
    assert plan.changes["rules removed"] == "allow 22"
    assert plan.commands[-1] == ["--force", "delete", "allow", "in", "from", "any", "to", "any", "port", "22"]
    assert "enabled" not in plan.changes
    assert plan.reload


def test_ssh_is_closed_to_the_public_once_sshd_is_on_the_vpn_only() -> None:
    plan = mailhost_firewall.plan(wanted(), seen("as-declared", ssh=SSHD_ON_VPN))
    assert plan.changes == {"rules removed": "allow 2288/tcp (SSH, until it is on the VPN only)"}
    assert not plan.only_opens


def test_no_rule_for_ssh_goes_when_nobody_knows_where_sshd_listens() -> None:
    assert mailhost_firewall.plan(wanted(), seen("as-declared", ssh=[])).changes == {}


def test_ssh_on_two_ports_stays_open_on_both() -> None:
    plan = mailhost_firewall.plan(wanted(), seen("as-declared", ssh=[*SSHD_FRESH, *SSHD_MOVED]))
    assert plan.changes == {"rules added": "allow 22/tcp (SSH, until it is on the VPN only)"}
    assert plan.only_opens


def test_no_rule_of_ssh_is_ever_limited() -> None:
    plan = mailhost_firewall.plan(wanted(), seen("fresh-install", ssh=[*SSHD_FRESH, *SSHD_MOVED]))
    ssh = [command for command in plan.commands if "2288" in command or "22" in command]
    assert [command[0] for command in ssh] == ["allow"] * 3


@pytest.mark.parametrize(
    ("file", "old", "new", "changes"),
    [
        ("default", "IPV6=yes", "IPV6=no", {"IPv6": {"old": "no", "new": "yes"}}),
        (
            "default",
            'DEFAULT_FORWARD_POLICY="DROP"',
            'DEFAULT_FORWARD_POLICY="ACCEPT"',
            {"default routed": {"old": "ACCEPT", "new": "DROP"}},
        ),
        (
            "default",
            "MANAGE_BUILTINS=no",
            "MANAGE_BUILTINS=yes",
            {"flushing of others' rules": {"old": "yes", "new": "no"}},
        ),
        ("ufw.conf", "LOGLEVEL=low", "LOGLEVEL=off", {"logging": {"old": "off", "new": "low"}}),
        ("ufw.conf", "ENABLED=yes", "ENABLED=no", {"enabled": {"old": "no", "new": "yes"}}),
        (
            "user.rules",
            "### tuple ### allow tcp 80 ",
            "### tuple ### deny tcp 80 ",
            {"rules changed": "deny 80/tcp (certificates by ACME) -> allow 80/tcp (certificates by ACME)"},
        ),
        ("user6.rules", "### tuple ### allow tcp 25 ", "#", {"rules added": "allow 25/tcp (SMTP)"}),
        (
            "after.rules",
            "-A DOCKER-USER -j DROP\n",
            "",
            {
                "containers and VPN address, IPv4": "+ -A DOCKER-USER -j DROP",
                "rules of the kernel": "loaded again, they were not those of ufw's files",
            },
        ),
        (
            "user.rules",
            "--dport 465 ",
            "--dport 466 ",
            {"rules of the kernel": "loaded again, they were not those of ufw's files"},
        ),
    ],
)
def test_what_was_tampered_with_is_named(file: str, old: str, new: str, changes: dict[str, Any]) -> None:
    host = seen("as-declared")
    (path,) = [path for path, name in NAMES.items() if name == file]
    assert old in host["files"][path]
    host["files"][path] = host["files"][path].replace(old, new)
    if file == "default" and "POLICY" in old:
        host["kernel"] = {
            family: text.replace(":FORWARD DROP", ":FORWARD ACCEPT") for family, text in host["kernel"].items()
        }
    assert mailhost_firewall.plan(wanted(), host).changes == changes


def test_a_setting_is_set_in_its_place_or_added() -> None:
    assert mailhost_firewall.with_setting("A=1\nIPV6=no\nB=2\n", "IPV6", "yes") == "A=1\nIPV6=yes\nB=2\n"
    assert mailhost_firewall.with_setting("A=1\n", "IPV6", "yes") == "A=1\nIPV6=yes\n"
    assert mailhost_firewall.setting("IPV6=no\nIPV6='yes'\n", "IPV6") == "yes"


def test_files_that_are_gone_are_put_back_before_anything_else() -> None:
    host = seen("as-declared")
    host["files"]["/etc/ufw/user6.rules"] = None
    plan = mailhost_firewall.plan(wanted(), host)
    assert plan.changes["files put back"] == "/etc/ufw/user6.rules"
    assert plan.files == {"/etc/ufw/user6.rules": case("fresh-install", "user6.rules")}
    assert plan.reload


def test_undeclared_rules_are_reported_and_removed_only_when_asked() -> None:
    host = seen("as-declared")
    host["files"]["/etc/ufw/user.rules"] += "### tuple ### allow tcp 8080 0.0.0.0/0 any 0.0.0.0/0 in\n"
    plan = mailhost_firewall.plan(wanted(), host)
    assert (plan.changes, plan.undeclared) == ({}, ["allow 8080/tcp"])
    pruned = mailhost_firewall.plan(wanted(prune=True), host)
    assert (pruned.changes, pruned.undeclared) == ({"rules removed": "allow 8080/tcp"}, [])


@pytest.mark.parametrize("ssh", [SSHD_MOVED, SSHD_ON_VPN])
def test_a_rule_that_would_keep_the_operator_out_is_refused(ssh: list[list[Any]]) -> None:
    host = seen("as-declared", ssh=ssh)
    text = host["files"]["/etc/ufw/user6.rules"]
    rule = "### tuple ### deny tcp 20:3000 ::/0 any ::/0 in\n"
    host["files"]["/etc/ufw/user6.rules"] = text.replace("### RULES ###\n", f"### RULES ###\n{rule}")
    with pytest.raises(CommandExecutionError, match=r"deny 20:3000/tcp.*would keep SSH out.*ufw delete deny in proto"):
        mailhost_firewall.plan(wanted(), host)
    assert mailhost_firewall.plan(wanted(prune=True), host).changes["rules removed"].endswith("deny 20:3000/tcp")


def test_a_denial_in_the_place_of_sshs_own_rule_is_turned_into_it() -> None:
    host = seen("as-declared")
    path = "/etc/ufw/user.rules"
    host["files"][path] = host["files"][path].replace(
        "### tuple ### allow tcp 2288 0.0.0.0/0 any 0.0.0.0/0 in ",
        "### tuple ### deny tcp 2288 0.0.0.0/0 any 0.0.0.0/0 in ",
    )
    assert mailhost_firewall.plan(wanted(), host).changes["rules changed"].startswith("deny 2288/tcp (")


def test_where_others_than_the_vpn_reach_a_socket() -> None:
    listening = [("127.0.0.1", 1), ("::1", 2), ("10.100.0.25", 3), ("0.0.0.0", 4), ("::", 5), ("192.0.2.10", 6)]
    assert mailhost_firewall.public_ports(listening, ["10.100.0.25/24"]) == [4, 5, 6]


@pytest.mark.parametrize(
    ("ssh", "came", "way"),
    [
        (SSHD_FRESH, ("192.0.2.10", 22), (["192.0.2.10"], 22)),
        (SSHD_ON_VPN, ("10.100.0.25", 2288), (["10.100.0.25"], 2288)),
        (SSHD_ON_VPN, ("192.0.2.10", 22), (["10.100.0.25"], 2288)),
        (SSHD_MOVED, ("192.0.2.10", 22), (["192.0.2.10", "2001:db8::10"], 2288)),
    ],
)
def test_the_login_that_confirms_comes_where_sshd_listens(
    ssh: list[list[Any]], came: tuple[str, int], way: tuple[list[str], int]
) -> None:
    found = mailhost_firewall.way_in(wanted(), seen("as-declared", ssh=ssh), {"address": came[0], "port": came[1]})
    assert (found["addresses"], found["port"]) == way


# The kernel.


@pytest.mark.parametrize("name", ["provider-image-with-ssh-open", "all-kinds-of-rules", "as-declared"])
@pytest.mark.parametrize("family", [4, 6])
def test_what_ufw_loaded_is_recognised(name: str, family: int) -> None:
    host = seen(name)
    user, after = host["files"][mailhost_firewall.RULES[family]], host["files"][mailhost_firewall.AFTER[family]]
    assert mailhost_iptables.loaded(family, user, after, ("DROP", "DROP"), host["kernel"][family])


@pytest.mark.parametrize(
    "line",
    [
        "-A ufw-user-input -p tcp -m tcp --dport 25 -j ACCEPT",
        "-A INPUT -j ufw-before-input",
        "-A ufw-before-input -j ufw-user-input",
        "-A DOCKER-USER -j DROP",
        "-A ufw-before-input -d 10.100.0.25/32 -j mailhost-vpn",
        "-A mailhost-vpn -j DROP",
    ],
)
def test_a_rule_missing_in_the_kernel_is_seen(line: str) -> None:
    host = seen("as-declared")
    assert f"{line}\n" in host["kernel"][4]
    host["kernel"][4] = host["kernel"][4].replace(f"{line}\n", "")
    assert "rules of the kernel" in mailhost_firewall.plan(wanted(), host).changes


@pytest.mark.parametrize(
    "line", ["-A ufw-user-input -p tcp -m tcp --dport 8080 -j ACCEPT", "-A ufw-user-input -j ACCEPT"]
)
def test_a_rule_that_only_the_kernel_has_is_seen(line: str) -> None:
    host = seen("as-declared")
    host["kernel"][4] = host["kernel"][4].replace("COMMIT", f"{line}\nCOMMIT")
    assert "rules of the kernel" in mailhost_firewall.plan(wanted(), host).changes


def test_hooks_that_are_gone_are_put_back_in_ufws_order_and_nothing_else_is_touched() -> None:
    kernel = case("as-declared", "iptables-save").replace("-A INPUT -j ufw-before-input\n", "")
    assert mailhost_iptables.hooks(4, kernel).splitlines() == [
        "*filter",
        "-D INPUT -j ufw-before-logging-input",
        "-D INPUT -j ufw-after-input",
        "-D INPUT -j ufw-after-logging-input",
        "-D INPUT -j ufw-reject-input",
        "-D INPUT -j ufw-track-input",
        "-A INPUT -j ufw-before-logging-input",
        "-A INPUT -j ufw-before-input",
        "-A INPUT -j ufw-after-input",
        "-A INPUT -j ufw-after-logging-input",
        "-A INPUT -j ufw-reject-input",
        "-A INPUT -j ufw-track-input",
        "COMMIT",
    ]
    assert mailhost_iptables.hooks(4, case("as-declared", "iptables-save")) == ""
    assert mailhost_iptables.hooks(4, "*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n") == ""


@pytest.mark.parametrize("family", [4, 6])
def test_rules_that_ufw_loads_from_its_files_again(family: int) -> None:
    """As a dry run foresees it where ufw gives one rule the place of another."""
    name = {4: "ufw-user-input", 6: "ufw6-user-input"}[family]
    save, file = {4: ("iptables-save", "user.rules"), 6: ("ip6tables-save", "user6.rules")}[family]
    kernel, rules = case("as-declared", save), case("as-declared", file)
    edited = "\n".join(line for line in rules.splitlines() if "--dport 465 " not in line)
    assert mailhost_iptables.chain(kernel, name) != mailhost_iptables.chain(edited, name)
    after = mailhost_iptables.users_loaded(family, edited, kernel)
    assert mailhost_iptables.chain(after, name) == mailhost_iptables.chain(edited, name)
    begin = f"-A {name.replace('-user-', '-before-')}"
    assert [line for line in after.splitlines() if line.startswith(begin)]
    stopped = kernel.replace(f":{name} ", ":other ")
    assert mailhost_iptables.users_loaded(family, edited, stopped) == stopped


def test_sockets_of_proc_net_tcp() -> None:
    assert mailhost_iptables.socket_address("0100007F:0016") == ("127.0.0.1", 22)
    assert mailhost_iptables.socket_address("00000000000000000000000001000000:08F0") == ("::1", 2288)


# Docker.


def test_docker_takes_over_the_chain_that_ufw_made() -> None:
    kernel = case("with-docker", "iptables-save")
    assert mailhost_iptables.chain(kernel, "DOCKER-USER")[-2:] == ["-j DROP", "-j RETURN"]
    assert mailhost_iptables.guarded(case("as-declared", "after.rules"), kernel)
    assert not mailhost_iptables.bypassed(kernel)
    assert mailhost_iptables.containers_first(kernel) == ""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("-A FORWARD -j DOCKER-USER\n", ""),
        ("-A FORWARD -j DOCKER-USER\n", "-A FORWARD -o docker0 -j ACCEPT\n-A FORWARD -j DOCKER-USER\n"),
        ("-A FORWARD -j DOCKER-USER\n", "-A FORWARD -j DOCKER-FORWARD\n-A FORWARD -j DOCKER-USER\n"),
    ],
)
def test_a_way_around_the_chain_is_seen(old: str, new: str) -> None:
    kernel = case("with-docker", "iptables-save")
    assert old in kernel
    changed = kernel.replace(old, new)
    assert mailhost_iptables.bypassed(changed)
    lines = ["*filter", *(["-D FORWARD -j DOCKER-USER"] if new else []), "-I FORWARD -j DOCKER-USER", "COMMIT", ""]
    assert mailhost_iptables.containers_first(changed).split("\n") == lines
    assert mailhost_iptables.hooks(4, changed).split("\n")[-4:] == lines[-4:]


def test_isolation_before_the_chain_is_no_way_around_it() -> None:
    """So it stands after a restart of Docker with live-restore."""
    kernel = case("with-docker", "iptables-save")
    user, isolation = "-A FORWARD -j DOCKER-USER\n", "-A FORWARD -j DOCKER-ISOLATION-STAGE-1\n"
    assert user in kernel
    assert isolation in kernel
    moved = kernel.replace(isolation, "").replace(user, isolation + user)
    assert not mailhost_iptables.bypassed(moved)


@pytest.mark.parametrize(
    ("line", "guarded"), [("-A DOCKER-USER -j f2b-docker", True), ("-A DOCKER-USER -i eth0 -j ACCEPT", False)]
)
def test_what_others_put_before_the_chains_rules(line: str, guarded: bool) -> None:
    kernel = case("with-docker", "iptables-save").replace("-A DOCKER-USER", f"{line}\n-A DOCKER-USER", 1)
    assert mailhost_iptables.guarded(case("as-declared", "after.rules"), kernel) is guarded


def test_a_container_is_reached_only_by_declared_ports_aimed_at_the_hosts_public_address() -> None:
    services = [
        {"port": 25, "protocol": "tcp", "from": "public", "limited": False},
        {"port": 587, "protocol": "tcp", "from": "public", "limited": True},
        {"port": 5432, "protocol": "tcp", "from": "vpn", "limited": False},
    ]
    rules = [
        line.removeprefix("-A DOCKER-USER ").replace(" -m conntrack --ctstate DNAT", "")
        for line in mailhost_chains.block(4, services, "wg0", [], ["192.0.2.1"]).splitlines()
        if line.startswith("-A DOCKER-USER")
    ]
    assert rules == [
        "-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN",
        "-i docker+ -j RETURN",
        "-i br-+ -j RETURN",
        "-i wg0 -p tcp --ctorigdstport 25 -j RETURN",
        "-i wg0 -p tcp --ctorigdstport 587 -m recent --name container-587 --set",
        "-i wg0 -p tcp --ctorigdstport 587 -m recent --name container-587 --update --seconds 30 --hitcount 6 -j DROP",
        "-i wg0 -p tcp --ctorigdstport 587 -j RETURN",
        "-i wg0 -p tcp --ctorigdstport 5432 -j RETURN",
        "! -i wg0 -p tcp --ctorigdst 192.0.2.1 --ctorigdstport 25 -j RETURN",
        "! -i wg0 -p tcp --ctorigdst 192.0.2.1 --ctorigdstport 587 -m recent --name container-587 --set",
        "! -i wg0 -p tcp --ctorigdst 192.0.2.1 --ctorigdstport 587 -m recent --name container-587 --update "
        "--seconds 30 --hitcount 6 -j DROP",
        "! -i wg0 -p tcp --ctorigdst 192.0.2.1 --ctorigdstport 587 -j RETURN",
        "-j DROP",
    ]


def test_the_block_is_put_once_and_replaced_in_its_place() -> None:
    block = mailhost_chains.block(4, [], "wg0", ["10.100.0.25"], [])
    packaged = case("fresh-install", "after.rules")
    once = mailhost_chains.put(packaged, block)
    assert mailhost_chains.put(once, block) == once
    assert mailhost_chains.without(once) == packaged
    other = mailhost_chains.block(4, [], "wg1", ["10.100.0.25"], [])
    changed = mailhost_chains.put(f"{once}# somebody's\n", other)
    assert mailhost_chains.found(changed) == other
    assert changed.endswith("# somebody's\n")
    assert mailhost_chains.put(block + packaged + block, other) == f"{packaged}\n{other}"


def test_the_vpns_address_is_reached_through_the_tunnel_only() -> None:
    four = mailhost_chains.block(4, [], "wg0", ["10.100.0.25"], []).splitlines()
    assert [line for line in four if "mailhost-vpn" in line] == [
        ":mailhost-vpn - [0:0]",
        "-A mailhost-vpn -i lo -j RETURN",
        "-A mailhost-vpn -i docker+ -j RETURN",
        "-A mailhost-vpn -i br-+ -j RETURN",
        "-A mailhost-vpn -i wg0 -j RETURN",
        "-A mailhost-vpn -j DROP",
        "-I ufw-before-input -d 10.100.0.25 -j mailhost-vpn",
    ]
    six = mailhost_chains.block(6, [], "wg0", ["fd00:100::25"], [])
    assert "-I ufw6-before-input -d fd00:100::25 -j mailhost-vpn\n" in six


# The proof.


def test_the_proof_names_what_is_let_in_besides() -> None:
    failures, besides = mailhost_firewall.judge(wanted(), seen("as-declared", edited=["/etc/ufw/before.rules"]))
    assert failures == []
    assert besides == [
        "SSH comes in from everywhere while sshd listens on port 2288 there",
        "/etc/ufw/before.rules is not the package's",
    ]


def test_the_proof_fails_where_docker_passes_by() -> None:
    host = seen("as-declared")
    host["kernel"][4] = case("with-docker", "iptables-save").replace("-A FORWARD -j DOCKER-USER\n", "")
    failures, _ = mailhost_firewall.judge(wanted(), host)
    assert failures[-1] == "Docker's ports pass by DOCKER-USER, IPv4"


NAT = (
    "*nat\n:PREROUTING ACCEPT [5:300]\n:DOCKER - [0:0]\n-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\nCOMMIT\n"
)
ISOLATION = "-A FORWARD -j DOCKER-ISOLATION-STAGE-1\n"


@pytest.mark.parametrize(
    ("old", "new", "nat", "hooked"),
    [
        ("", "", NAT, True),
        (ISOLATION, "-A FORWARD -j DOCKER-FORWARD\n", NAT, True),  # since Docker 28
        (ISOLATION, "", NAT, False),
        ("", "", "*nat\n:PREROUTING ACCEPT [5:300]\n:DOCKER - [0:0]\nCOMMIT\n", False),
        ("", "", "", False),
    ],
)
def test_dockers_own_rules_are_missed_while_it_runs_and_makes_them(old: str, new: str, nat: str, hooked: bool) -> None:
    kernel = case("with-docker", "iptables-save")
    assert old in kernel
    host = seen("as-declared", nat=nat)
    host["kernel"][4] = kernel.replace(old, new)
    assert not mailhost_firewall.unhooked(host)
    host["docker"] = True
    assert mailhost_firewall.unhooked(host) is not hooked
    failures, _ = mailhost_firewall.judge(wanted(), host)
    assert ("Docker's own rules are not in the kernel" in failures) is not hooked


@pytest.mark.parametrize(
    ("settings", "makes"),
    [({}, True), ({"iptables": True}, True), ({"iptables": False}, False), ({"firewall-backend": "nftables"}, False)],
)
def test_docker_may_be_told_to_leave_the_rules_alone(settings: dict[str, Any], makes: bool) -> None:
    assert mailhost_docker.makes_rules(settings) is makes


def test_a_rule_in_front_of_ufws_chains_is_named() -> None:
    host = seen("as-declared")
    host["kernel"][6] = host["kernel"][6].replace("-A INPUT", "-A INPUT -i eth1 -j ACCEPT\n-A INPUT", 1)
    _, besides = mailhost_firewall.judge(wanted(), host)
    assert "nobody declared -i eth1 -j ACCEPT in chain INPUT, IPv6" in besides


# The pillar.


def parsed(rules: Any) -> list[str]:
    try:
        mailhost_pillar.parse(GOOD | {"firewall": {"rules": rules}})
    except mailhost_pillar.PillarErrors as errors:
        return errors.sentences
    return []


@pytest.mark.parametrize(
    ("rules", "sentence"),
    [
        ("25", "is not a list of rules such as {port: 25, from: public, comment: SMTP}"),
        (["25"], "rule 1: '25' is not a mapping such as {port: 25, from: public, comment: SMTP}"),
        ([{"port": 25, "comment": "x"}], "rule 1: from: is missing"),
        ([{"port": 0, "from": "vpn", "comment": "x"}], "rule 1: port: 0 is not a port number from 1 to 65535"),
        ([{"port": 1, "from": "lan", "comment": "x"}], "rule 1: from: 'lan' is not public or vpn"),
        (
            [{"port": 1, "from": "vpn", "comment": "x", "source": "y"}],
            "rule 1: source: no such key; here are port, protocol, from, limited, comment",
        ),
        (
            [{"port": 1, "from": "vpn", "comment": "it's"}],
            "rule 1: comment: \"it's\" is not a comment of 60 characters at most, without quotes",
        ),
        ([{"port": 1, "from": "vpn", "comment": "x"}, {"port": 1, "from": "public", "comment": "y"}], "names port 1/tcp twice"),
        ([{"port": 2288, "from": "public", "comment": "x"}], "port 2288/tcp is ssh.port, let in by the VPN"),
        (
            [{"port": 22, "from": "vpn", "comment": "x"}],
            "port 22/tcp is SSH's first port, open while sshd listens there",
        ),
        (
            [{"port": 51820, "protocol": "udp", "from": "vpn", "comment": "x"}],
            "port 51820/udp is vpn.port, let in already",
        ),
    ],
)  # fmt: skip
def test_rules_that_cannot_be_are_refused(rules: Any, sentence: str) -> None:
    assert parsed(rules) == [f"firewall.rules: {sentence}"]


def test_one_port_may_have_both_protocols() -> None:
    assert parsed([{"port": 443, "protocol": name, "from": "public", "comment": "x"} for name in ("tcp", "udp")]) == []


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["limit tcp 22 0.0.0.0/0 any 0.0.0.0/0 in"], ["limit 22/tcp"]),
        (["limit any 22 0.0.0.0/0 any 0.0.0.0/0 in"], ["limit 22"]),
        (["limit tcp 22 0.0.0.0/0 any 0.0.0.0/0 OpenSSH - in"], ["limit in from any to any app OpenSSH"]),
        (["allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in", "limit tcp 587 0.0.0.0/0 any 0.0.0.0/0 in"], []),
        (["limit tcp 22 0.0.0.0/0 any 192.0.2.0/24 in"], []),
    ],
)
def test_rules_that_limit_logins(lines: list[str], found: list[str]) -> None:
    text = "".join(f"### tuple ### {line}\n" for line in lines)
    there = seen("fresh-install", SSHD_FRESH)
    there["files"][mailhost_firewall.RULES[4]] = text
    there["kernel"][4] = case("as-declared", "iptables-save")
    there["files"][mailhost_firewall.CONF] = "ENABLED=no\n"
    assert mailhost_firewall.limiting(there) == []
    there["files"][mailhost_firewall.CONF] = "ENABLED=yes\n"
    limits = mailhost_firewall.limiting(there)
    assert list(map(str, limits)) == found
    # ufw takes no rule while its chains are away.
    stopped = {**there, "kernel": {4: there["kernel"][4].replace(":ufw-user-input ", ":other ")}}
    assert mailhost_firewall.limiting(stopped) == []
    # As a dry run foresees it: the rule that lets them in is in the place of the one that limits them.
    allowed = {rule: dataclasses.replace(rule, action="allow") for rule in limits}
    new = mailhost_ufw.Rule(action="allow", protocol="tcp", dport="2288")
    after = mailhost_ufw.parse(mailhost_ufw.with_rules(text, [*(rule.line() for rule in allowed.values()), new.line()]))
    assert after == [*(allowed.get(rule, rule) for rule in mailhost_ufw.parse(text)), new]
