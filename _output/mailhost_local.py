"""How a run on the workstation itself is shown: what changed, or would, or why not."""

import mailhost_report


def output(data, **kwargs):
    """Return the text of the run.

    CLI Example:

    .. code-block:: bash

        make provision ENV=prod TEST=1
    """
    return "\n".join(mailhost_report.local(returned) for returned in data.values())
