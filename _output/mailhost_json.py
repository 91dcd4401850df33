"""The table of tasks as JSON: ``salt-ssh mail state.apply status --out=mailhost_json``."""

import json

import mailhost_report


def output(data, **kwargs):
    """Return one JSON object: a list of tasks for each host."""
    return json.dumps({host: mailhost_report.rows(returned) for host, returned in data.items()}, indent=2)
