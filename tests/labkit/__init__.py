"""Real Debian 13 hosts on this machine: `with Lab("name") as lab: host = lab.host("mail"); host.boot()`."""

from .base import base
from .host import Host
from .lab import Lab, Namespace
from .tools import LabError
from .tree import Entry
from .virtual import ASKED, Virtual

__all__ = ["ASKED", "Entry", "Host", "Lab", "LabError", "Namespace", "Virtual", "base"]
