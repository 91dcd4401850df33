"""The table of tasks as Markdown: ``salt-ssh mail state.apply status --out=mailhost_markdown``."""

import mailhost_report


def output(data, **kwargs):
    """Return the tables of one or more hosts."""
    return "\n".join(mailhost_report.markdown(host, returned) for host, returned in data.items())
