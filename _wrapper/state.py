"""The front door: Salt's own state functions for salt-ssh, which follow the run and cannot end green when nothing ran.

salt-ssh finds this module before its own of the same name. Salt's functions do the work; here what was typed is looked
at, the run is followed (which task, and logins that it asks for), and what comes back is judged: Salt exits 0 when the
host got no states or when two runs met.
"""

import functools
import inspect

import salt.client.ssh.wrapper.state as stock
import salt.utils.functools
from salt.client.ssh.wrapper import SSHCommandExecutionError
from salt.defaults.exitcodes import EX_PILLAR_FAILURE, EX_STATE_COMPILER_ERROR, EX_STATE_FAILURE

import mailhost_follow
import mailhost_pillar
import mailhost_typed

__func_alias__ = {"apply_": "apply"}

# What Salt's functions that change a host read of the arguments that they do not name; None: they are the state's own.
_PILLAR = {"pillar", "pillarenv"}
_READ = {
    "high": {*_PILLAR, "saltenv"},
    "low": {"pillarenv"},
    "single": None,
    "sls_id": {*_PILLAR, "saltenv"},
    "top": {*_PILLAR, "saltenv"},
}


def _checked(read):
    """Return a decorator: the function refuses arguments that it has no use for, and gets its pillar= parsed."""

    def decorate(function):
        signature = inspect.signature(function)
        known = None if read is None else {*signature.parameters, *read} - {"kwargs"}

        @functools.wraps(function)
        def checked(*args, **kwargs):
            given = signature.bind(*args, **kwargs).arguments
            unnamed = given.pop("kwargs", {})
            if errors := mailhost_typed.refusals({**given, **unnamed}, known):
                __context__["retcode"] = EX_STATE_COMPILER_ERROR
                return errors
            if "pillar" in kwargs:
                try:
                    kwargs["pillar"] = mailhost_typed.pillar(__pillar__.value(), kwargs["pillar"])
                except mailhost_pillar.PillarErrors as error:
                    __context__["retcode"] = EX_PILLAR_FAILURE
                    return ["pillar= cannot be used", *error.sentences]
            return function(*args, **kwargs)

        return checked

    return decorate


# Salt's own functions, made to see this module's __opts__, __salt__ and so on; those defined below replace three of
# them.
for _name, _function in list(vars(stock).items()):
    if getattr(_function, "__module__", None) == stock.__name__:
        _own = salt.utils.functools.namespaced_function(_function, globals())
        globals()[_name] = _checked(_READ[_name])(_own) if _name in _READ else _own
_stock_highstate = salt.utils.functools.namespaced_function(stock.highstate, globals())
_stock_sls = salt.utils.functools.namespaced_function(stock.sls, globals())


def apply_(mods=None, **kwargs):
    """Apply the state tree, or the state files named, to the host.

    mods
        State files, comma separated; all of the top file without it.
    test
        True only says what would change.
    pillarenv
        dev, staging or prod; else the environment that the roster names for the host.
    pillar
        Sections of the pillar for this run alone, as a mapping.
    exclude
        State files to leave out of those named.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail state.apply test=True
    """
    return sls(mods, **kwargs) if mods else highstate(**kwargs)


@_checked({*_PILLAR, "saltenv"})
def highstate(test=None, **kwargs):
    """Apply the whole state tree: what ``state.apply`` does without arguments.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail state.highstate test=True
    """
    return _entered(_stock_highstate, test=test, **kwargs)


@_checked(_PILLAR)
def sls(mods, saltenv="base", test=None, exclude=None, **kwargs):
    """Apply the state files named and what they need.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail state.sls access.admin
    """
    return _entered(_stock_sls, mods, saltenv=saltenv, test=test, exclude=exclude, **kwargs)


def _entered(function, *args, **kwargs):
    """Follow a run and judge what comes back."""
    with mailhost_follow.Follower(__salt__.kwargs, __opts__["id"]):
        try:
            result = function(*args, **kwargs)
        except SSHCommandExecutionError as error:
            if error.parsed and isinstance(error.parsed.get("local"), dict):
                _dressed(error.parsed["local"])
            raise
    returned = result.get("local", {}).get("return") if isinstance(result, dict) else result
    if isinstance(returned, dict) and returned:
        _dressed(result["local"])
        return result
    __context__["retcode"] = __context__.get("retcode") or EX_STATE_FAILURE
    if returned:
        return result
    return [
        "no state was run: another run took the host's place while this one was sent, or it never arrived; run it again"
    ]


def _dressed(local):
    """Let the run's result be shown by our outputter; ``--out`` still wins."""
    if isinstance(local.get("return"), dict):
        local["out"] = "mailhost"
