"""Which environment's pillar a run uses: dev, staging or prod, and nothing else."""

from collections.abc import Mapping, Sequence
from typing import Any

ENVIRONMENTS = ("dev", "staging", "prod")
VARIABLE = "MAILHOST_ENV"
GRAIN = "mailhost_environment"


class UnknownEnvironment(ValueError):
    """The environment asked for does not exist; the message says who asked and what there is."""


def of_run(opts: Mapping[str, Any], environ: Mapping[str, str], grains: Mapping[str, Any]) -> str:
    """Return the environment of a run of salt-ssh, or of one on the workstation itself, whose grains are not a host's.

    Raises UnknownEnvironment. Params: ``__opts__``, the environment variables, ``__grains__``.
    """
    grain = grains.get(GRAIN)
    if opts.get("mailhost_workstation"):
        # The host has no need of this.
        import mailhost_roster

        grain = mailhost_roster.environment(opts["mailhost_roster"], opts["id"])
    return chosen(opts.get("argv") or [], environ, grain)


def chosen(argv: Sequence[object], environ: Mapping[str, str], grain: str | None) -> str:
    """Return the environment a run uses.

    The first of these that is given counts: ``pillarenv=`` on the command line, the variable ``MAILHOST_ENV``, the
    environment of the host in the roster. Salt itself would merge the environments or fall back to another one without
    a word when the name is misspelt, so a name that is not in ``ENVIRONMENTS`` raises UnknownEnvironment.

    argv
        The command line after the target, as Salt keeps it in ``__opts__["argv"]``.
    environ
        The workstation's environment variables.
    grain
        The environment the roster names, or None.
    """
    given = [("pillarenv", str(word).partition("=")[2]) for word in argv if str(word).startswith("pillarenv=")][-1:]
    if VARIABLE in environ:
        given.append((VARIABLE, environ[VARIABLE]))
    if grain is not None:
        given.append(("etc/salt/roster: environment", grain))
    if not given:
        raise UnknownEnvironment(
            f"pillarenv: no environment is named: give pillarenv={'|'.join(ENVIRONMENTS)} (make: ENV=) or set it in "
            "etc/salt/roster"
        )
    source, name = given[0]
    if name not in ENVIRONMENTS:
        raise UnknownEnvironment(f"{source}: {name!r} is no environment; there are {', '.join(ENVIRONMENTS)}")
    return name
