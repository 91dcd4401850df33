"""Files, exact in a dry run: Salt's own file.managed names other changes in a test than it then makes."""

import os

import jinja2
from salt.exceptions import CommandExecutionError

import mailhost_file
import mailhost_forecast
from mailhost_result import explained, outcome

__all__ = ["managed"]


@explained
def managed(name, source, context=None, user="root", group="root", mode="0644", check=None, secret=False, package=None):
    """Let a file be as its template says.

    name
        The file's path.
    source
        The template, ``salt://…``; Jinja, where a variable that is not in ``context`` is an error.
    context
        The template's variables.
    user, group, mode
        Owner and mode; the mode as four octal digits.
    check
        The argument list of a program that must accept the new file before it is put in place; its path is added.
    secret
        Whether the content must not be shown.
    package
        The package that brings the file's directory, where this task installs it.
    """
    wanted = {"text": _rendered(source, context or {}), "user": user, "group": group, "mode": mode}
    changes = mailhost_file.plan(name, wanted, __salt__["mailhost_file.look"](name), secret)
    if changes and not os.path.isdir(os.path.dirname(name)):
        known = mailhost_forecast.applied(__context__, "directories", {})
        if os.path.dirname(name) not in known and package not in mailhost_forecast.brought(__context__):
            raise CommandExecutionError(f"{name}: its directory does not exist")
    if changes and check and __opts__["test"]:
        __salt__["mailhost_file.tried"](name, wanted["text"], check)

    def act():
        __salt__["mailhost_file.replace"](name, wanted["text"], user, group, mode, check)

    return outcome((__opts__, __context__), name, changes, act, "is as declared")


def _rendered(source, context):
    """Return the template's text with its variables filled in."""
    path = __salt__["cp.cache_file"](source)
    if not path:
        raise CommandExecutionError(f"{source}: does not exist")
    with open(path, encoding="utf-8") as stream:
        template = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True).from_string(
            stream.read()
        )
    try:
        return template.render(context)
    except jinja2.UndefinedError as error:
        raise CommandExecutionError(f"{source}: {error}") from None
