"""The front door: Salt's own state functions for salt-ssh, which follow the run and cannot end green when nothing ran.

salt-ssh finds this module before its own of the same name. Salt's functions do the work; here the run is followed
(which task, and logins that it asks for), and what comes back is judged: Salt exits 0 when the host got no states or
when two runs met.
"""

import salt.client.ssh.wrapper.state as stock
import salt.utils.functools
from salt.client.ssh.wrapper import SSHCommandExecutionError
from salt.defaults.exitcodes import EX_PILLAR_FAILURE, EX_STATE_FAILURE

import mailhost_follow
import mailhost_pillar

__func_alias__ = {"apply_": "apply"}

# Salt's own functions, made to see this module's __opts__, __salt__ and so on; those defined below replace three of
# them.
for _name, _function in list(vars(stock).items()):
    if getattr(_function, "__module__", None) == stock.__name__:
        globals()[_name] = salt.utils.functools.namespaced_function(_function, globals())
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

    CLI Example:

    .. code-block:: bash

        salt-ssh mail state.apply test=True
    """
    return sls(mods, **kwargs) if mods else highstate(**kwargs)


def highstate(test=None, **kwargs):
    """Apply the whole state tree: what ``state.apply`` does without arguments.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail state.highstate test=True
    """
    return _entered(_stock_highstate, test=test, **kwargs)


def sls(mods, saltenv="base", test=None, exclude=None, **kwargs):
    """Apply the state files named and what they need.

    CLI Example:

    .. code-block:: bash

        salt-ssh mail state.sls access.admin
    """
    return _entered(_stock_sls, mods, saltenv=saltenv, test=test, exclude=exclude, **kwargs)


def _entered(function, *args, **kwargs):
    """Follow a run and judge what comes back."""
    errors = _override_errors(kwargs.get("pillar"))
    if errors:
        __context__["retcode"] = EX_PILLAR_FAILURE
        return ["pillar= cannot be used", *errors]
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


def _override_errors(override):
    """Return what is wrong with a pillar given on the command line: it comes after the check of the pillar files."""
    if not override:
        return []
    merged = {name: value for name, value in __pillar__.value().items() if name != "environment"}
    try:
        mailhost_pillar.parse(_merged(merged, override))
    except mailhost_pillar.PillarErrors as error:
        return error.sentences
    return []


def _merged(base, over):
    """Return nested dicts laid over each other."""
    both = {
        name: _merged(base[name], over[name])
        for name in over
        if isinstance(over[name], dict) and isinstance(base.get(name), dict)
    }
    return {**base, **over, **both}
