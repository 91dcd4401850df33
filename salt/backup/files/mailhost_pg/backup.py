"""Make a base backup in every repository."""

from __future__ import annotations

import argparse
from datetime import datetime

from . import container, heartbeat, pgbackrest, restore
from .config import Config, Failed, Refused, alone

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--type", choices=("full", "diff"), help="which one; else by the day and what there is")
    parser.add_argument("--repository", type=int, choices=(1, 2), help="only in this one; else in all")
    parser.add_argument("--dry-run", action="store_true", help="only say which one it would be")
    parser.add_argument("--scheduled", action="store_true", help="as the timer does: wait for another job to end")


def kind(weekday: int, full_weekday: str, there: list[pgbackrest.Backup], started: datetime) -> str:
    """Return which backup is due: a full one on its day, once, and where there is none of this week.

    Params: weekday, today's (0: Monday); full_weekday, its name; there, the backups of the cluster in the repository;
    started, when today began.
    """
    full = [backup for backup in there if backup.kind == "full" and not backup.damaged]
    if not full or (started - full[-1].stop).days >= 7:
        return "full"
    return "full" if DAYS[weekday] == full_weekday and full[-1].stop < started else "diff"


def main(config: Config, asked: argparse.Namespace) -> int:
    """Make it; a repository that fails does not keep the other from getting its own."""
    if asked.repository and asked.repository not in config.repositories:
        raise Refused(f"there is no repository {asked.repository}: backup.offsite.type is null")
    numbers = (asked.repository,) if asked.repository else config.repositories
    failures = []
    with alone(wait=asked.scheduled):
        if not asked.dry_run:
            restore.tidy(config)
            try:
                container.sql(config, heartbeat.beat_sql("backup"), config.database)
            except Failed as error:
                # A backup is worth more than what it is measured by.
                failures.append(f"the heartbeat: {error}")
        # A restore that was brought to its end may have changed it.
        cluster = config.marker.read_text(encoding="utf-8").strip()
        found = pgbackrest.info(config)
        now = datetime.now().astimezone()
        today = now.replace(hour=0, minute=0, second=0, microsecond=0)
        for number in numbers:
            wanted = asked.type or kind(now.weekday(), config.full_weekday, found.of(cluster, number), today)
            if asked.dry_run:
                print(f"would make a {wanted} backup in repository {number}")
                continue
            try:
                pgbackrest.run(config, f"--repo={number}", f"--type={wanted}", "backup")
                made = pgbackrest.info(config).of(cluster, number)
                if not made:
                    raise Failed(f"the backup that was made is not among those of cluster {cluster}")
            except Failed as error:
                failures.append(f"repository {number}: {error}")
                continue
            print(f"repository {number}: {made[-1].label}, {made[-1].repository_size} bytes of {made[-1].size}")
    if failures:
        raise Failed("; ".join(failures))
    return 0
