"""The state tree as Salt itself compiles it, without a host."""

import importlib.util
import pathlib
from collections.abc import Mapping
from typing import Any

import salt.config
import salt.state

import mailhost_pillar

ROOT = pathlib.Path(__file__).parents[1]
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGN0p1r9mEmcFm0Vp5lZK2fPEk7E4iFxNqsp5LgmCd3a ada@example.org"
GOOD: dict[str, Any] = {"access": {"admin": {"ssh_keys": [KEY]}}}


def loaded(path: str, **dunders: Any) -> Any:
    """Return a file of the tree, such as ``_states/mailhost_file.py``, as Salt loads it, with Salt's names in it."""
    spec = importlib.util.spec_from_file_location(path.replace("/", "_").removesuffix(".py"), ROOT / path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    vars(module).update(dunders)
    return module


def chunks(cache: pathlib.Path, pillar: Mapping[str, Any] = GOOD) -> list[dict[str, Any]]:
    """Return the low chunks of the whole tree for a pillar.

    cache
        A directory that Salt may write to.
    """
    opts = salt.config.minion_config(None)
    opts.update(
        id="mail",
        root_dir=str(cache),
        cachedir=str(cache / "cache"),
        extension_modules=str(cache / "extmods"),
        file_client="local",
        file_roots={"base": [str(ROOT / "salt")]},
        module_dirs=[str(ROOT)],
        utils_dirs=[str(ROOT / "_utils")],
        grains={"id": "mail", "os_family": "Debian"},
        pillar={**mailhost_pillar.plain(mailhost_pillar.parse(pillar)), "environment": "dev"},
        state_top="top.sls",
    )
    tree = salt.state.HighState(opts, initial_pillar=opts["pillar"])
    tree.push_active()
    try:
        found = tree.compile_low_chunks()
    finally:
        tree.pop_active()
    assert all(isinstance(chunk, dict) for chunk in found), found
    return list(found)
