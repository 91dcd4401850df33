"""Files, exact in a dry run: Salt's own file.managed names other changes in a test than it then makes."""

import os

import jinja2
from salt.exceptions import CommandExecutionError

import mailhost_file
import mailhost_forecast
from mailhost_result import explained, outcome

__all__ = ["absent", "access", "directories", "managed", "settings", "together"]


@explained
def absent(name, paths):
    """Let files be gone.

    paths
        Their paths.
    """
    there = [path for path in paths if __salt__["mailhost_file.look"](path)["kind"]]
    changes = {path: {"old": "there", "new": None} for path in there}

    def act():
        for path in there:
            __salt__["mailhost_file.remove"](path)

    return outcome((__opts__, __context__), name, changes, act, "are not there")


@explained
def access(name, paths, packages=None):
    """Let files and directories that are there belong to whom they should, with the mode they should have.

    paths
        ``owner:group mode`` by path, the mode as four octal digits. A path that is not there is passed over.
    packages
        The packages that bring some of them, by path, where this task installs them.
    """
    brought = mailhost_forecast.brought(__context__)
    changes = {}
    for path, wanted in paths.items():
        # The run that brings the package is like the dry run before it, in which there was nothing.
        come = (packages or {}).get(path) in brought
        found = {"kind": None} if come else __salt__["mailhost_file.look"](path, text=False)
        old = mailhost_file.access(found) if found["kind"] else None
        if come or (old and old != wanted):
            changes[path] = {"old": old, "new": wanted}

    def act():
        __salt__["mailhost_file.give_all"]({path: paths[path] for path in changes})

    return outcome((__opts__, __context__), name, changes, act, f"{len(paths)} paths are as declared")


@explained
def directories(name, paths):
    """Let directories be there.

    paths
        ``owner:group mode`` by path, the mode as four octal digits. Missing ones above are made too, root's, 0755.
    """
    changes = {}
    for path, wanted in paths.items():
        found = __salt__["mailhost_file.look"](path)
        if found["kind"] not in (None, "directory"):
            raise CommandExecutionError(f"{path}: is a {found['kind']}, not a directory; move it away and apply again")
        old = mailhost_file.access(found) if found["kind"] else None
        if old != wanted:
            changes[path] = {"old": old, "new": wanted}
            if __opts__["test"]:
                mailhost_forecast.note(__context__, "directories", path, True)

    def act():
        for path in changes:
            owners, mode = paths[path].split(" ")
            __salt__["mailhost_file.make_directory"](path, *owners.split(":"), mode)

    return outcome((__opts__, __context__), name, changes, act, "are there")


@explained
def settings(name, values, separator=" ", package=None):
    """Let lines of a file that is a package's own say ``key<separator>value``; its other lines stay.

    values
        Values by key. A key that stands, commented out or not, is changed in place; else it is added at the end.
    separator
        What stands between key and value.
    package
        The package that brings the file, where this task installs it.
    """
    found = __salt__["mailhost_file.look"](name)
    if not values:
        return outcome((__opts__, __context__), name, {}, None, "nothing is asked of it")
    brought = package in mailhost_forecast.brought(__context__)
    if found["kind"] != "file" and not (brought and __opts__["test"]):
        raise CommandExecutionError(
            f"{name}: is not there" if found["kind"] is None else f"{name}: is a {found['kind']}"
        )
    # What a package brings is not there in a dry run: then, and in the run that brings it, the lines alone are shown.
    old = "" if brought else found["text"]
    shown = mailhost_file.with_settings(old, values, separator)
    changes = {"content": mailhost_file.diff(old, shown)} if shown != old else {}

    def act():
        wanted = mailhost_file.with_settings(found["text"], values, separator)
        __salt__["mailhost_file.replace"](name, wanted, found["user"], found["group"], found["mode"])

    return outcome((__opts__, __context__), name, changes, act, "is as declared")


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
        The package that brings the file's directory, or the file, where this task installs it.
    """
    wanted = {"text": _rendered(source, context or {}), "user": user, "group": group, "mode": mode}
    there = __salt__["mailhost_file.look"](name)
    # The run that brings the package is like the dry run before it, in which there was nothing.
    brought = package in mailhost_forecast.brought(__context__) and there["kind"] in (None, "file")
    changes = mailhost_file.plan(name, wanted, {"kind": None} if brought else there, secret)
    if changes and not os.path.isdir(os.path.dirname(name)):
        known = mailhost_forecast.applied(__context__, "directories", {})
        if os.path.dirname(name) not in known and not brought:
            raise CommandExecutionError(f"{name}: its directory does not exist")
    if changes and check and __opts__["test"] and mailhost_forecast.runs(__context__):
        __salt__["mailhost_file.tried"](name, wanted["text"], check)

    def act():
        __salt__["mailhost_file.replace"](name, wanted["text"], user, group, mode, check)

    return outcome((__opts__, __context__), name, changes, act, "is as declared")


@explained
def together(name, sources, context=None, mode="0644", check=None, verbatim=False):
    """Let files of root's in one directory be as their templates say: files that one program reads together.

    They are tried together too, on a copy of the directory: one by one, each would fail on what is wrong in another,
    and the one that puts it right could never be put in place. Directories that are missing are made.

    name
        The directory's path.
    sources
        Their templates, ``salt://…``, by path below the directory.
    context
        The templates' variables.
    mode
        Their mode as four octal digits.
    check
        The argument list of a program that must accept the directory with the new files; its path is added.
    verbatim
        Whether the sources are no templates but the files themselves: a program's, too long to read as a difference.
    """
    texts = {path: _text(source) if verbatim else _rendered(source, context or {}) for path, source in sources.items()}
    differing = {}
    for path, text in texts.items():
        wanted = {"text": text, "user": "root", "group": "root", "mode": mode}
        current = __salt__["mailhost_file.look"](f"{name}/{path}")
        if changes := mailhost_file.plan(f"{name}/{path}", wanted, current, secret=verbatim):
            differing[path] = changes
            if __opts__["test"]:
                mailhost_forecast.note(__context__, "changed", f"{name}/{path}", True)
    if differing and check and mailhost_forecast.runs(__context__):
        __salt__["mailhost_file.tried_together"](name, texts, check)

    def act():
        for path in differing:
            directory = os.path.dirname(f"{name}/{path}")
            if not os.path.isdir(directory):
                __salt__["mailhost_file.make_directory"](directory)
            __salt__["mailhost_file.replace"](f"{name}/{path}", texts[path], mode=mode)

    changes = {f"{path}: {what}": change for path, found in differing.items() for what, change in found.items()}
    return outcome((__opts__, __context__), name, changes, act, f"{', '.join(sources)} as declared")


def _text(source):
    """Return the text of a file of the tree's."""
    path = __salt__["cp.cache_file"](source)
    if not path:
        raise CommandExecutionError(f"{source}: does not exist")
    with open(path, encoding="utf-8") as stream:
        return stream.read()


def _rendered(source, context):
    """Return the template's text with its variables filled in."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    template = environment.from_string(_text(source))
    try:
        return template.render(context)
    except jinja2.UndefinedError as error:
        raise CommandExecutionError(f"{source}: {error}") from None
