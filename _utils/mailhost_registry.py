"""The tasks: the only place that knows their order, what they need and what proves them.

The top file, ``mailhost_sls.task()``, the tracker, docs/tasks.md and the structural tests are all made from ``TASKS``.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """One row of the task table.

    ``sls`` is the state file that makes it true and ``check`` the function of ``mailhost_checks`` that proves it: both
    are empty while the task is not built. ``seed`` is the name of the automation that did it before; operators search
    for it.
    """

    id: str
    title: str
    needs: tuple[str, ...] = ()
    seed: str = ""
    sls: str = ""
    check: str = ""

    @property
    def built(self) -> bool:
        """Whether the tree has states for this task."""
        return bool(self.sls)


TASKS: tuple[Task, ...] = (
    Task(
        "1.1.1",
        "Provision Vultr VPS (2 CPU / 4 GB / 80 GB SSD), Debian 13",
        (),
        "terraform deploy.sh",
        sls="provision.vps",
        check="vps",
    ),
    Task(
        "1.2.1",
        "NOPASSWD for sudo users",
        ("1.1.1",),
        "modify_sudoers_nopasswd",
        sls="access.sudo",
        check="sudo_without_password",
    ),
    Task(
        "1.2.2",
        "Remove linuxuser",
        ("1.2.1",),
        "remove_linuxuser",
        sls="access.default_user_absent",
        check="default_user_absent",
    ),
    Task(
        "1.2.3",
        "Create phalkonadmin (uid 1000)",
        ("1.2.2",),
        "create_phalkonadmin",
        sls="access.admin",
        check="admin",
    ),
    Task(
        "1.2.4",
        "SSH key authentication: root disabled, admin enabled",
        ("1.2.3",),
        "setup_ssh_key_auth",
        sls="access.ssh_keys",
        check="ssh_keys",
    ),
    Task(
        "1.2.5",
        "Test the SSH connection",
        ("1.2.4",),
        "test_ssh_connection",
        sls="access.ssh_proven",
        check="ssh_proven",
    ),
    Task("1.2.6", "Docker Compose", ("1.2.4",), "install_docker", sls="docker.engine", check="docker"),
    Task(
        "1.2.7",
        "Post-configuration cleanup and verification",
        ("1.2.6",),
        "fix_user_uid + cleanup_main_sudoers",
        sls="access.cleaned_up",
        check="cleaned_up",
    ),
    Task(
        "1.3.1",
        "Basic system hardening",
        ("1.2.7",),
        "system_hardening",
        sls="hardening.baseline",
        check="hardening",
    ),
    Task("1.3.2", "WireGuard VPN", ("1.3.1",), "install_wireguard", sls="vpn.tunnel", check="vpn"),
    Task(
        "1.3.3",
        "Network interfaces and DNS",
        ("1.3.2",),
        "verify_network_interfaces",
        sls="network.interfaces",
        check="network",
    ),
    Task(
        "1.3.4",
        "SSH on the VPN only, start-up dependency",
        ("1.3.3",),
        "configure_ssh_vpn_only",
        sls="ssh.vpn_only",
        check="ssh_vpn_only",
    ),
    Task("1.3.5", "fail2ban", ("1.3.1",), "install_fail2ban", sls="fail2ban.jails", check="fail2ban"),
    Task(
        "1.4.1",
        "Mail directory structure",
        ("1.3.1",),
        "create_mail_directories",
        sls="storage.directories",
        check="directories",
    ),
    Task(
        "1.4.2",
        "Permissions and ownership",
        ("1.4.1",),
        "configure_directory_permissions",
        sls="storage.ownership",
        check="ownership",
    ),
    Task(
        "1.4.3",
        "Disk quotas for /var/mail/vmail (prepare only)",
        ("1.4.2",),
        "prepare_disk_quotas",
        sls="storage.quota",
        check="quota",
    ),
    Task(
        "1.5.1",
        "UFW firewall",
        ("1.3.1", "1.3.2"),
        "configure_ufw_firewall",
        sls="firewall.rules",
        check="firewall",
    ),
    Task(
        "2.1.1",
        "PostgreSQL Docker Compose configuration",
        ("1.4.2",),
        "deploy_postgresql_container",
        sls="postgres.container",
        check="postgres",
    ),
    Task(
        "2.1.2",
        "PostgreSQL for mail authentication",
        ("2.1.1",),
        "configure_mail_database",
        sls="database.schema",
        check="database_schema",
    ),
    Task(
        "2.1.3",
        "Backups and WAL archiving",
        ("2.1.2",),
        "configure_database_backups",
        sls="backup.ready",
        check="backups",
    ),
    Task(
        "2.1.4",
        "Verify container and connectivity",
        ("2.1.3",),
        sls="database.proven",
        check="database_proven",
    ),
)

_BY_ID = {task.id: task for task in TASKS}
_BY_SLS = {task.sls: task for task in TASKS if task.sls}


def by_id(task_id: str) -> Task:
    """Return the task with this id; KeyError if there is none."""
    return _BY_ID[task_id]


def by_sls(sls: str) -> Task:
    """Return the task whose state file this is; KeyError if it is nobody's."""
    return _BY_SLS[sls]


def built() -> tuple[Task, ...]:
    """Return the tasks the tree has states for, each after all it needs: milestone by milestone, as in the table."""
    done: list[Task] = []

    def visit(task: Task) -> None:
        for need in task.needs:
            visit(by_id(need))
        if task.built and task not in done:
            done.append(task)

    for task in TASKS:
        visit(task)
    return tuple(done)


def built_needs(task: Task) -> tuple[Task, ...]:
    """Return the nearest built tasks this one stands on, looking through those that are not built yet."""
    found: list[Task] = []
    for need in map(by_id, task.needs):
        for candidate in (need,) if need.built else built_needs(need):
            if candidate not in found:
                found.append(candidate)
    return tuple(found)
