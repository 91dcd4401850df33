"""How a run is shown: what changed or failed, task by task, then the table of tasks."""

import mailhost_report


def output(data, **kwargs):
    """Return the text of one or more hosts' runs.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail state.apply test=True
    """
    return "\n".join(mailhost_report.text(host, returned) for host, returned in data.items())
