"""What the kernel is told when it starts, and who may change that."""

from salt.exceptions import CommandExecutionError

import mailhost_boot
from mailhost_result import explained, outcome

__all__ = ["menu"]


@explained
def menu(name, values, password):
    """Let GRUB give the kernel words at the next start, beside those that it gives already, and guard its menu.

    name
        The file that adds them, which goes when there are none.
    values
        Values by word.
    password
        The hash of the one that an entry of the menu is changed with, None to ask for none; never shown.

    Where a host is started by something else nothing is done.
    """
    looked = __salt__["mailhost_boot.look"]()
    changes = mailhost_boot.plan(values, password, looked)

    def act():
        __salt__["mailhost_boot.write"](mailhost_boot.text(values), mailhost_boot.lock(password))
        if left := mailhost_boot.plan(values, password, __salt__["mailhost_boot.look"]()):
            raise CommandExecutionError(f"{mailhost_boot.MENU}: update-grub was run, but it lacks {', '.join(left)}")

    already = "is as declared" if looked["grub"] else "is not made: GRUB does not start this host"
    return outcome((__opts__, __context__), name, changes, act, already)
