"""What the kernel is told when it starts."""

from salt.exceptions import CommandExecutionError

import mailhost_boot
from mailhost_result import explained, outcome

__all__ = ["arguments"]


@explained
def arguments(name, values):
    """Let GRUB give the kernel words at the next start, beside those that it gives already.

    name
        The file that adds them, which goes when there are none.
    values
        Values by word.

    Where a host is started by something else nothing is done.
    """
    looked = __salt__["mailhost_boot.look"]()
    changes = mailhost_boot.plan(values, looked)

    def act():
        __salt__["mailhost_boot.write"](mailhost_boot.text(values))
        if left := mailhost_boot.plan(values, __salt__["mailhost_boot.look"]()):
            raise CommandExecutionError(f"{mailhost_boot.MENU}: update-grub was run, but it lacks {', '.join(left)}")

    already = "are given to the kernel" if looked["grub"] else "is not made: GRUB does not start this host"
    return outcome((__opts__, __context__), name, changes, act, already)
