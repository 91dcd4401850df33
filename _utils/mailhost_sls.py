"""High data for the state files: the only place that knows its shape.

Salt reads each element of a state's argument list as a dict of one key: a dict of several loses requisites without a
word, a second ``require`` replaces the first, and a misspelt requisite compiles. Nobody else writes that list by hand.
"""

from typing import Any

import mailhost_registry

State = dict[str, list[dict[str, Any]]]


def state(function: str, **arguments: Any) -> State:
    """Return the body of one state, e.g. ``state("mailhost_pkg.installed", packages=["sudo"])``."""
    return {function: [{name: value} for name, value in arguments.items()]}


def task(sls: str, states: dict[str, State]) -> dict[str, Any]:
    """Return the high data of a task: what it needs, its states, and its proof.

    Each task begins with a state that takes the run's lock and tells the operator how far the run is, and ends with one
    that proves on the host that the task is done. The states in between stand one after the other. A task that fails
    stops those that need it, however they were asked for.

    sls
        The state file's ``__sls__``.
    states
        Bodies made by ``state()``, by state id.
    """
    this = mailhost_registry.by_sls(sls)
    needs = [need.sls for need in mailhost_registry.built_needs(this)]
    begin, proven = f"{this.id} begins", f"{this.id} is proven"
    bodies = {
        begin: state("mailhost_task.begins", task=this.id, require=[{"sls": need} for need in needs]),
        **states,
        proven: state("mailhost_task.proven", task=this.id, check=this.check),
    }
    previous = None
    for body in bodies.values():
        if previous:
            _require(body, previous)
        previous = next(name for name in bodies if bodies[name] is body)
    return {**({"include": needs} if needs else {}), **bodies}


def _require(body: State, state_id: str) -> None:
    """Let a state need another one, besides what it needs already."""
    (arguments,) = body.values()
    for argument in arguments:
        if "require" in argument:
            argument["require"] = [*argument["require"], {"id": state_id}]
            return
    arguments.append({"require": [{"id": state_id}]})
