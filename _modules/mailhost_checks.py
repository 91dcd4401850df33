"""The proofs, one function for each task: is it true of the host now?

Each looks at the host, never at what the tree wrote about it, and returns a proof: the tracker's mark and the evidence.
They read the pillar, so they work inside ``state.apply`` only.
"""

import datetime
import os
import time

import mailhost_access
import mailhost_accounts
import mailhost_backup
import mailhost_database
import mailhost_docker
import mailhost_fail2ban
import mailhost_file
import mailhost_firewall
import mailhost_hardening
import mailhost_mail
import mailhost_network
import mailhost_postgres
import mailhost_storage
import mailhost_sudo
import mailhost_vpn
import mailhost_vps
from mailhost_proof import DONE, OPEN, PARTLY, judged, proof

__all__ = [
    "admin",
    "backups",
    "cleaned_up",
    "database_proven",
    "database_schema",
    "default_user_absent",
    "directories",
    "docker",
    "fail2ban",
    "firewall",
    "hardening",
    "network",
    "ownership",
    "postgres",
    "quota",
    "ssh_keys",
    "ssh_proven",
    "ssh_vpn_only",
    "sudo_without_password",
    "vpn",
    "vps",
]


def vps():
    """Prove that the host is Debian 13 and as large as declared; a smaller one is named, and is no reason to stop."""
    found = __salt__["mailhost_vps.look"]()
    if not mailhost_vps.is_debian(found):
        return proof(OPEN, f"the host is {found['os']}; the tree is for Debian {mailhost_vps.DEBIAN}")
    smaller = mailhost_vps.smaller(__pillar__["provision"], found)
    said = mailhost_vps.said(found)
    return proof(PARTLY, f"{said}; {'; '.join(smaller)}") if smaller else proof(DONE, said)


def sudo_without_password():
    """Prove that sudo, as it reads its own files, asks members of group sudo for no password.

    What it reads does not tell which of several rules wins, so it is tried too, as the admin: once that is a member.
    """
    try:
        status = os.stat("/etc/sudoers.d/90-nopasswd-sudo")
    except FileNotFoundError:
        return proof(OPEN, "/etc/sudoers.d/90-nopasswd-sudo does not exist")
    failures = []
    if (status.st_uid, status.st_mode & 0o7777) != (0, 0o440):
        failures.append(f"/etc/sudoers.d/90-nopasswd-sudo has mode {status.st_mode & 0o7777:04o}, uid {status.st_uid}")
    allowed = __salt__["mailhost_sudo.passwordless"]()
    if "%sudo" not in allowed:
        failures.append("group sudo is asked for a password")
    evidence = "group sudo is not asked for a password, says cvtsudoers"
    admin, accounts = __pillar__["access"]["admin"]["name"], __salt__["mailhost_accounts.read"]()
    if admin in accounts["users"] and admin in accounts["groups"].get("sudo", {"members": []})["members"]:
        evidence += f"; {admin} has tried it"
        if words := __salt__["mailhost_sudo.refusal"](admin):
            failures.append(f"{admin} does not get root by sudo: {words}")
    return judged(failures, evidence)


def default_user_absent():
    """Prove that the provider's account and what it left are gone, and that its uid is free or the admin's."""
    name = __pillar__["access"]["default_user"]
    accounts = __salt__["mailhost_accounts.read"]()
    failures = [f"{kind} {name} exists" for kind in ("users", "groups") if name in accounts[kind]]
    failures += [f"{kind}: {', '.join(paths)}" for kind, paths in __salt__["mailhost_accounts.traces"](name).items()]
    failures += [f"rules in {path}" for path in mailhost_sudo.without_user(__salt__["mailhost_sudo.files"](), name)]
    admin = __pillar__["access"]["admin"]
    holder = [user for user, entry in accounts["users"].items() if entry["uid"] == admin["uid"]]
    if holder not in ([], [admin["name"]]):
        failures.append(
            f"uid {admin['uid']}, wanted for {admin['name']}, belongs to {holder[0]}: remove or move that account"
        )
    return judged(failures, f"no account, home, mail, crontab or sudo rule of {name}")


def admin():
    """Prove that the admin's account is as declared."""
    wanted = __pillar__["access"]["admin"]
    accounts = __salt__["mailhost_accounts.read"]()
    user = accounts["users"].get(wanted["name"])
    if user is None:
        return proof(OPEN, f"{wanted['name']} does not exist")
    failures = [
        f"{attribute} is {user[attribute]}, not {value}"
        for attribute, value in {"uid": wanted["uid"], "gid": wanted["uid"], "shell": wanted["shell"]}.items()
        if user[attribute] != value
    ]
    if wanted["name"] not in accounts["groups"].get("sudo", {"members": []})["members"]:
        failures.append("is not in group sudo")
    if not user["home_exists"]:
        failures.append(f"{user['home']} does not exist")
    elif user["home_uid"] != user["uid"]:
        failures.append(f"{user['home']} belongs to uid {user['home_uid']}")
    if left := mailhost_accounts.said(__salt__["mailhost_accounts.moves"](wanted["name"])):
        failures.append(f"files of {left} have not all followed")
    if wanted["password_hash"] is None and not user["locked"]:
        failures.append("has a password that nobody declared")
    password = "password locked" if user["locked"] else "password as declared"
    return judged(failures, f"{wanted['name']} has uid and gid {user['uid']}, {user['shell']}, group sudo, {password}")


def ssh_keys():
    """Prove that exactly the declared keys open the admin's account; done only once root's login is off."""
    wanted = __pillar__["access"]["admin"]
    user = __salt__["mailhost_accounts.read"]()["users"].get(wanted["name"])
    if user is None:
        return proof(OPEN, f"{wanted['name']} does not exist")
    found = __salt__["mailhost_access.keys"](user["home"])
    changes = mailhost_access.plan_keys(wanted["ssh_keys"], found["file"].get("text"))
    failures = [f"{what}: {keys}" for what, keys in changes.items()]
    for entry, mode in (("directory", "0700"), ("file", "0600")):
        if found[entry].get("mode") not in (None, mode) or found[entry].get("user") not in (None, wanted["name"]):
            failures.append(f"{entry} is {found[entry]['user']}'s with mode {found[entry]['mode']}")
    if failures:
        return proof(OPEN, "; ".join(failures))
    keys = f"{len(wanted['ssh_keys'])} declared key(s) and no other"
    root = __salt__["mailhost_sshd.effective"]("root")["permitrootlogin"][0]
    if root != "no":
        return proof(PARTLY, f"{keys}; root may still log in ({root})")
    return proof(DONE, f"{keys}; root cannot log in")


def ssh_proven():
    """Prove that the admin has been seen to log in by key and use sudo, and that sshd's own settings allow it."""
    wanted = __pillar__["access"]["admin"]
    evidence = __salt__["mailhost_access.login_evidence"](wanted["name"], wanted["ssh_keys"])
    if not evidence:
        return proof(OPEN, f"no login of {wanted['name']} by key, with sudo, since its keys changed")
    effective = __salt__["mailhost_sshd.effective"](wanted["name"])
    failures = []
    if effective["pubkeyauthentication"] != ["yes"]:
        failures.append("sshd takes no keys")
    if ".ssh/authorized_keys" not in " ".join(effective["authorizedkeysfile"]):
        failures.append(f"sshd reads keys from {effective['authorizedkeysfile'][0]}")
    return judged(failures, evidence)


def docker():
    """Prove that Docker and its Compose are there now and at boot, and that the daemon itself does what is declared."""
    unit = __salt__["mailhost_service.look"](mailhost_docker.UNIT)
    if unit["load"] == "not-found":
        return proof(OPEN, "Docker is not installed")
    if unit["active"] != "active":
        return proof(OPEN, f"{mailhost_docker.UNIT} is {unit['active']}, {unit['enabled']}")
    failures = [] if unit["enabled"] == "enabled" else [f"is {unit['enabled']} at boot"]
    compose = __salt__["mailhost_docker.compose_version"]()
    if compose is None:
        failures.append("docker compose is missing")
    found = __salt__["mailhost_docker.ask"]("/info")
    file = __salt__["mailhost_file.look"](mailhost_docker.CONFIG)
    failures += mailhost_docker.judge(found, mailhost_docker.parse(file.get("text")))
    wrong, besides = mailhost_docker.judge_bridge(__salt__["mailhost_docker.ask"]("/networks/bridge"))
    failures += wrong
    admin, wanted = __pillar__["access"]["admin"]["name"], __pillar__["docker"]["admin_in_group"]
    members = __salt__["mailhost_docker.members"]() or []
    if mailhost_docker.plan_group(admin, wanted, members):
        failures.append(f"{admin} is {'not in' if wanted else 'in'} group docker")
    if failures:
        return proof(OPEN, "; ".join(failures))
    running = f"Docker {found['ServerVersion']} and Compose {compose}; containers outlast the daemon"
    if others := sorted(set(members) - {admin}):
        besides.append(f"in group docker, which makes them root: {', '.join(others)}")
    if besides:
        return proof(PARTLY, "; ".join([running, *besides]))
    return proof(DONE, f"{running}; ports are published on {mailhost_docker.LOOPBACK} by default")


def cleaned_up():
    """Prove that the admin's uid is the declared one, and that nobody gets rights by sudo whom nobody declared."""
    wanted = __pillar__["access"]["admin"]
    user = __salt__["mailhost_accounts.read"]()["users"].get(wanted["name"])
    failures = []
    if user is None or user["uid"] != wanted["uid"]:
        failures.append(f"{wanted['name']} has uid {user and user['uid']}, not {wanted['uid']}")
    files = __salt__["mailhost_sudo.files"]()
    main = files.get(mailhost_sudo.MAIN, "")
    if mailhost_sudo.asking(main) != main:
        failures.append("/etc/sudoers has a rule with NOPASSWD")
    strays = __salt__["mailhost_sudo.unpackaged"](mailhost_sudo.strays(files, mailhost_sudo.OURS))
    failures += [f"/etc/sudoers.d/{stray} is a stray" for stray in strays]
    others = sorted(set(__salt__["mailhost_sudo.passwordless"]()) - {"%sudo"})
    failures += [f"{who} is asked for no password by sudo" for who in others]
    return judged(failures, f"uid {wanted['uid']}; nobody but group sudo has sudo without a password")


def hardening():
    """Prove each control of the hardening profile on the host; what is switched off is named with its reason."""
    on = mailhost_hardening.active(__pillar__["hardening"])
    wanted = mailhost_hardening.wanted(on, __pillar__)
    looked = __salt__["mailhost_hardening.facts"](wanted, __pillar__["access"]["admin"]["name"])
    holding, failing, missing = mailhost_hardening.judge(on, wanted, looked["found"], looked["absent"])
    out = mailhost_hardening.off(__pillar__["hardening"])
    evidence = [f"{len(holding)} controls hold"]
    if out:
        evidence.append(f"off: {', '.join(f'{name} ({reason})' for name, reason in out.items())}")
    if missing:
        evidence.append(f"not applicable here: {', '.join(missing)}")
    port = __salt__["mailhost_sshd.effective"]()["port"]
    if port != [str(__pillar__["ssh"]["port"])]:
        failing.append(f"sshd answers on port {', '.join(port)}")
    return judged(failing, ", ".join(evidence))


def vpn():
    """Prove that the tunnel is as declared, now and at boot, and that nothing else leads to the VPN.

    Done once a declared peer has shaken hands: until then the tunnel is only one that could work.
    """
    wanted = __pillar__["vpn"]
    found = __salt__["mailhost_vpn.look"](wanted["interface"])
    if found["file"]["kind"] is None and found["link"] is None:
        return proof(OPEN, f"there is no {wanted['interface']}")
    key = mailhost_vpn.private_key(found["file"].get("text"))
    changes = mailhost_vpn.plan({"vpn": wanted, "private_key": key, "source": "missing"}, found)
    failures = [f"{what} is not as declared" for what in changes]
    networks = mailhost_vpn.networks(mailhost_vpn.addresses(wanted))
    strays = set(networks) - set(__salt__["mailhost_vpn.unreachable"]())
    failures += [f"{network} would follow the default route without the tunnel" for network in sorted(strays)]
    if failures:
        return proof(OPEN, "; ".join(failures))
    own = ", ".join(mailhost_vpn.addresses(wanted))
    up = f"{wanted['interface']} is up as {own} with public key {found['device']['public_key']}"
    if not wanted["peers"]:
        return proof(PARTLY, f"{up}; no peer is declared in vpn.peers")
    last = mailhost_vpn.last_handshake(wanted, found["device"])
    if last is None:
        return proof(PARTLY, f"{up}; no peer has shaken hands yet")
    return proof(DONE, f"{up}; {last[0]} shook hands {mailhost_vpn.ago(time.time() - last[1])} ago")


def firewall():
    """Prove that ufw and the kernel let in what is declared, and that nothing else is let in."""
    seen = __salt__["mailhost_firewall.look"]()
    if not seen["installed"]:
        return proof(OPEN, "ufw is not installed")
    wanted = mailhost_firewall.declared(__pillar__)
    failures, besides = mailhost_firewall.judge(wanted, seen)
    if failures:
        return proof(OPEN, "; ".join(failures))
    return proof(PARTLY, "; ".join(besides)) if besides else proof(DONE, mailhost_firewall.said(wanted))


def ssh_vpn_only():
    """Prove that sshd listens on the VPN addresses only, and will after a boot: what it is bound to, and its unit."""
    vpn, port = __pillar__["vpn"], __pillar__["ssh"]["port"]
    wanted = {(address.split("/")[0], port) for address in mailhost_vpn.addresses(vpn)}
    unit = __salt__["mailhost_service.look"]("ssh.service")
    failures = []
    if unit["enabled"] != "enabled" or unit["active"] != "active":
        failures.append(f"ssh.service is {unit['active']}, {unit['enabled']}")
    after = __salt__["mailhost_run.program"](["systemctl", "show", "-P", "After", "-P", "Restart", "ssh.service"])
    if f"wg-quick@{vpn['interface']}.service" not in after or "always" not in after:
        failures.append("ssh.service does not wait for the tunnel, or is not started again when it dies")
    if failures:
        return proof(OPEN, "; ".join(failures))
    bound = __salt__["mailhost_sshd.listening"]()
    if bound != wanted:
        places = ", ".join(f"{address} port {number}" for address, number in sorted(bound))
        reason = "" if vpn["peers"] else "; no peer is declared in vpn.peers"
        return proof(PARTLY, f"sshd listens on {places}{reason}")
    return proof(
        DONE, f"sshd listens on {', '.join(sorted(address for address, _ in bound))} port {port} and nowhere else"
    )


def fail2ban():
    """Prove that fail2ban runs with the declared jails, and that the firewall drops whom it bans."""
    unit = __salt__["mailhost_service.look"](mailhost_fail2ban.UNIT)
    if unit["load"] == "not-found":
        return proof(OPEN, "fail2ban is not installed")
    failures = [] if unit["enabled"] == "enabled" else [f"is {unit['enabled']} at boot"]
    if unit["active"] != "active":
        return proof(OPEN, "; ".join([f"is {unit['active']}", *failures]))
    jails = mailhost_fail2ban.jails(__pillar__)
    found = __salt__["mailhost_fail2ban.look"](jails)
    failures += mailhost_fail2ban.sentences(mailhost_fail2ban.plan(jails, found))
    failures += mailhost_fail2ban.not_held(found)
    return judged(failures, mailhost_fail2ban.evidence(jails, found["banned"]))


def network():
    """Prove that the way out is up, that the declared resolvers are in use and answer, and that the names are right."""
    wanted, vpn_wanted = __pillar__["network"], __pillar__["vpn"]
    failures, evidence = [], []
    out = __salt__["mailhost_network.way_out"]()
    if out is None:
        return proof(OPEN, "there is no default route")
    evidence.append(f"{out['name']} is up with MTU {out['mtu']} by {out['gateway']}")
    if not out["up"]:
        failures.append(f"{out['name']}, which has the default route, is down")
    if wanted["mtu"] not in (None, out["mtu"]):
        failures.append(f"{out['name']} has MTU {out['mtu']}, not {wanted['mtu']}")
    there = __salt__["mailhost_network.look"]()
    declared = wanted["resolvers"] or there["resolvers"]
    if not mailhost_network.in_use(declared, there["resolvers"], there["owner"]):
        failures.append(f"lookups are answered by {', '.join(there['resolvers']) or 'nobody'}")
    probe = __salt__["mailhost_network.probe_name"]()
    if probe and not __salt__["mailhost_network.looked_up"](probe):
        failures.append(f"{probe} is not found")
    names = mailhost_network.names(wanted, there["hostname"])
    if names["hostname"] != there["hostname"]:
        failures.append(f"the host is called {there['hostname']}, not {names['hostname']}")
    said = __salt__["mailhost_network.full_name"]()
    if names["fqdn"] and said != names["fqdn"]:
        failures.append(f"hostname --fqdn says {said or 'nothing'}, not {names['fqdn']}")
    text = there["files"][mailhost_network.HOSTS].get("text") or ""
    if text != mailhost_network.hosts(text, names, vpn_wanted):
        failures.append(f"{mailhost_network.HOSTS} does not have the names of the VPN")
    if failures:
        return proof(OPEN, "; ".join(failures))
    dead = [
        f"{resolver}: {words}" for resolver in declared if (words := __salt__["mailhost_network.ask"](resolver, probe))
    ]
    evidence.append(f"{', '.join(declared)} answer{'s' if len(declared) == 1 else ''}")
    evidence.append(f"{said or there['hostname']}")
    return proof(PARTLY, "; ".join(dead)) if dead else proof(DONE, "; ".join(evidence))


def directories():
    """Prove that the directories of mail, databases and Compose projects are there."""
    looked = {path: __salt__["mailhost_file.look"](path, text=False)["kind"] for path in mailhost_storage.paths()}
    failures = [f"{path} is {kind or 'missing'}" for path, kind in looked.items() if kind != "directory"]
    return judged(failures, f"{', '.join(looked)}")


def ownership():
    """Prove that mail is vmail's and databases are the container's, and that nobody else has their ids."""
    uid = mailhost_storage.image_uid(__pillar__["postgres"]["image"])
    accounts = __salt__["mailhost_accounts.read"]()
    vmail_uid = __pillar__["storage"]["vmail_uid"]
    failures = mailhost_storage.clashes(accounts["users"], accounts["groups"], vmail_uid, uid)
    if mailhost_storage.VMAIL not in accounts["users"]:
        failures.append(f"{mailhost_storage.VMAIL} does not exist")
    wanted = mailhost_storage.owners(vmail_uid, uid)
    found = __salt__["mailhost_storage.access"](list(wanted))
    for path, access in wanted.items():
        now = found.get(path, {"access": "missing"})["access"]
        if now != access:
            failures.append(f"{path} is {now}, not {access}")
    return judged(failures, f"mail is {mailhost_storage.VMAIL}'s (uid {vmail_uid}), databases are uid {uid}'s")


def quota():
    """Prove that quotas for mail are prepared, or on where that is asked for."""
    tool = "/usr/local/sbin/mailhost-quota"
    if "quota" not in __salt__["mailhost_pkg.installed"]():
        return proof(OPEN, "quota is not installed")
    if __salt__["mailhost_file.look"](tool, text=False).get("mode") != "0755":
        return proof(OPEN, f"{tool} is missing, or has another mode")
    said = __salt__["mailhost_storage.quota"](tool, ["check"]).splitlines()[0]
    wanted = __pillar__["storage"]["quota"]["enabled"]
    failures = [said] if wanted and not said.endswith(" are on") else []
    return judged(failures, said if wanted else f"prepared; {said}")


def postgres():
    """Prove that PostgreSQL runs healthy in its container, on the VPN's addresses only, by TLS and scram."""
    container = __salt__["mailhost_postgres.container"]()
    unit = __salt__["mailhost_service.look"](mailhost_postgres.UNIT)
    if container is None:
        return proof(OPEN, f"there is no container {mailhost_postgres.CONTAINER}")
    if (container["status"], container["health"]) != ("running", "healthy"):
        return proof(OPEN, f"{mailhost_postgres.CONTAINER} is {container['status']}, {container['health']}")
    image = __salt__["mailhost_postgres.find_image"](mailhost_postgres.own_image(__pillar__["postgres"]["image"]))
    server = __salt__["mailhost_postgres.sql"](mailhost_postgres.QUESTION)
    sockets = __salt__["mailhost_run.program"](["ss", "-Hltn", "sport = :5432"])
    failures = mailhost_postgres.judge(__pillar__, server, sockets, __salt__["mailhost_postgres.cluster"]())
    if (unit["active"], unit["enabled"]) != ("active", "enabled"):
        failures.append(f"{mailhost_postgres.UNIT} is {unit['active']}, {unit['enabled']}")
    if image is None or image["id"] != container["image"]:
        failures.append(f"runs another image than that made of {__pillar__['postgres']['image']}")
    if failures:
        return proof(OPEN, "; ".join(failures))
    left = __salt__["mailhost_postgres.certificates"]()["days_left"]
    evidence, besides = mailhost_postgres.evidence(__pillar__, server, container, left)
    return proof(PARTLY, "; ".join([evidence, *besides])) if besides else proof(DONE, evidence)


def database_schema():
    """Prove that the mail database has its roles, migrations and rights, and that each service's files open it."""
    found = __salt__["mailhost_database.look"]()
    if found["state"] != "up" or not found["exists"]:
        return proof(OPEN, found["why"] or f"there is no database {mailhost_database.NAME}")
    passwords, failures = {}, []
    for role in mailhost_database.LOGINS:
        path = mailhost_database.pgpass_path(role)
        there = __salt__["mailhost_file.look"](path)
        passwords[role.name] = mailhost_database.password_in(there.get("text"))
        if passwords[role.name] is None:
            failures.append(f"{path} has no password")
        elif mailhost_file.access(there) != "root:root 0600":
            failures.append(f"{path} is {mailhost_file.access(there)}")
    failures += [f"role {what} is not as declared" for what in mailhost_database.plan_roles(found["roles"], passwords)]
    missing = [thing for thing in mailhost_database.OWNERS if thing not in found["owners"]]
    failures += [f"{thing} does not exist" for thing in missing]
    failures += [
        f"{thing} belongs to {change['old']}"
        for thing, change in mailhost_database.plan_owners(found["owners"]).items()
    ]
    failures += [f"{name} is not applied" for name in mailhost_database.MIGRATIONS if name not in found["migrations"]]
    granted, revoked = mailhost_database.plan_grants(map(tuple, found["grants"]))
    failures += [f"{role} lacks {privilege} on {thing}" for role, privilege, thing in granted]
    failures += [f"{role} has {privilege} on {thing}" for role, privilege, thing in revoked]
    asked = __pillar__["database"]["test_data"]
    if not failures and not asked and __salt__["mailhost_mail.of"](mailhost_mail.TEST_DOMAIN):
        return proof(PARTLY, f"{mailhost_mail.TEST_DOMAIN} is there, and database.test_data does not ask for it")
    return judged(
        failures,
        f"{mailhost_database.MIGRATIONS[-1]}, {len(mailhost_database.GRANTS)} rights and no other,"
        f" {', '.join(role.name for role in mailhost_database.LOGINS)} have their limits and files",
    )


def backups():
    """Prove that WAL and base backups go into every repository; done only while a drill has restored them of late."""
    found = __salt__["mailhost_database.look"]()
    if found["state"] != "up":
        return proof(OPEN, found["why"])
    server = __salt__["mailhost_postgres.sql"](mailhost_backup.QUESTION)
    image = mailhost_postgres.own_image(__pillar__["postgres"]["image"])
    uid = mailhost_storage.image_uid(__pillar__["postgres"]["image"])
    info = __salt__["mailhost_backup.info"](image, uid)
    units = [*mailhost_backup.TIMERS, *([mailhost_backup.RECEIVER] if __pillar__["backup"]["tail"]["enabled"] else [])]
    timers = {unit: __salt__["mailhost_service.look"](unit) for unit in units}
    drills, now = __salt__["mailhost_backup.drills"](), datetime.datetime.now(datetime.UTC)
    failures, besides, evidence = mailhost_backup.judge(__pillar__["backup"], server, info, timers, drills, now)
    if failures:
        return proof(OPEN, "; ".join(failures))
    return proof(PARTLY, "; ".join([evidence, *besides])) if besides else proof(DONE, evidence)


def database_proven():
    """Prove each claim about the mail database by trying it; done only when backups and their drill are built too."""
    found = __salt__["mailhost_database.look"]()
    if found["state"] != "up" or not found["exists"]:
        return proof(OPEN, found["why"] or f"there is no database {mailhost_database.NAME}")
    address = mailhost_vpn.addresses(__pillar__["vpn"])[0].split("/")[0]
    wrong, missing, holding = mailhost_database.judge_claims(__salt__["mailhost_database.claims"](address))
    if wrong:
        return proof(OPEN, "; ".join(wrong))
    evidence = f"{holding} claims hold, in {mailhost_database.REPORT}"
    if missing:
        return proof(PARTLY, f"{evidence}; not built yet: {', '.join(missing)}")
    return proof(DONE, evidence)
