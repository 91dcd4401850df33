"""Vultr's API v2 by apache-libcloud: its driver, with what the driver lacks, and every error as one sentence.

Runs on the workstation only. The API: https://www.vultr.com/api/
"""

import json
import os
import re
from collections.abc import Mapping
from typing import Any

import requests
from libcloud.common.exceptions import BaseHTTPError, RateLimitReachedError
from libcloud.common.types import LibcloudError
from libcloud.common.vultr import VultrConnectionV2, VultrResponseV2
from libcloud.compute.base import KeyPair, Node
from libcloud.compute.drivers.vultr import VultrNodeDriverV2
from libcloud.http import LibcloudConnection
from libcloud.utils.retry import MinimalRetry

# For tests: a port of this machine, spoken to without TLS instead of Vultr. It can only be loopback, so whoever sets it
# gets the key no further than to this machine, where he is you already.
STANDIN = "MAILHOST_VULTR_STANDIN"


class Refused(Exception):
    """Vultr did not do what was asked; the message is one sentence."""


class Response(VultrResponseV2):  # type: ignore[misc]
    """An answer. libcloud's own raises before it has looked for 429, so that nothing would ever be tried again."""

    def parse_error(self) -> str:
        """Return Vultr's words; an answer that is not Vultr's JSON (a proxy's page) has none worth repeating."""
        try:
            said = json.loads(self.body).get("error", "")
        except (ValueError, AttributeError):
            said = self.error
        wait = str(self.headers.get("retry-after", ""))
        if self.status == RateLimitReachedError.code and wait.isdigit() and int(wait) > self.connection.timeout:
            raise Refused(f"Vultr takes no requests for {wait} s (429): try again then")
        return " ".join(str(said).split()) or "no reason given"


class Connection(VultrConnectionV2):  # type: ignore[misc]
    """The way to the API."""

    responseCls = Response
    # What is asked too often is asked again, by libcloud; nothing else is: a second POST could order a second VPS.
    retryCls = MinimalRetry
    # Not the one that LIBCLOUD_DEBUG puts in: that writes the API key and the root password into a file.
    conn_class = LibcloudConnection
    timeout = 30

    def request(self, action: str, *arguments: Any, **named: Any) -> Any:
        """Ask, and return the answer; raises Refused with a sentence."""
        what = f"{named.get('method', 'GET')} {action}"
        try:
            return super().request(action, *arguments, retry_failed=True, **named)
        except RateLimitReachedError:
            raise Refused(f"Vultr takes no more requests from this address for now (429, {what}): try again") from None
        except BaseHTTPError as error:
            if error.code in (401, 403):
                raise Refused(
                    f"Vultr refuses the API key ({error.code}: {error.message}): is it the right one, and does its "
                    "access control list have this workstation's address?"
                ) from None
            raise Refused(f"Vultr refuses {what} ({error.code}): {error.message}") from None
        except requests.exceptions.RequestException as error:
            raise Refused(f"Vultr does not answer {what}: {_reason(error)}{_unknown(named)}") from None
        except LibcloudError:
            raise Refused(f"Vultr answers {what} with something that is not JSON{_unknown(named)}") from None


def _reason(error: Exception) -> str:
    """Return why a request failed, without the names of libraries' classes around it."""
    if isinstance(error, requests.exceptions.Timeout):
        return f"nothing came in {Connection.timeout} s"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not valid"
    found = re.search(r"\[Errno -?\d+\] ([^'\")]+)|(Remote end closed|Connection reset|reset by peer)", str(error))
    return (found[1] or found[2]).lower() if found else type(error).__name__


def _unknown(named: Mapping[str, Any]) -> str:
    """Return what is not known after a request without an answer."""
    return "" if named.get("method", "GET") == "GET" else "; whether it was done is not known: run again"


class Driver(VultrNodeDriverV2):  # type: ignore[misc]
    """libcloud's driver, and what it lacks: several tags, changes, backups, upgrades, firewall groups."""

    connectionCls = Connection

    def ex_create(self, fields: Mapping[str, Any]) -> Node:
        """Order an instance. The root password that Vultr answers with is not kept."""
        return self._to_node(self._ask("/v2/instances", "POST", fields)["instance"])

    def ex_update(self, node_id: str, fields: Mapping[str, Any]) -> None:
        """Change an instance."""
        self._ask(f"/v2/instances/{node_id}", "PATCH", fields)

    def ex_upgrades(self, node_id: str) -> list[str]:
        """Return the plans that an instance can be resized to."""
        return list(self._ask(f"/v2/instances/{node_id}/upgrades")["upgrades"].get("plans") or [])

    def ex_backup_schedule(self, node_id: str) -> str | None:
        """Return how often backups are made: daily, weekly, monthly, Vultr's other words, None when not."""
        schedule = self._ask(f"/v2/instances/{node_id}/backup-schedule").get("backup_schedule") or {}
        return str(schedule["type"]) if schedule.get("enabled") else None

    def ex_set_backup_schedule(self, node_id: str, kind: str) -> None:
        """Set how often backups are made; when, Vultr decides."""
        fields = {"type": kind, **({"dow": 1} if kind == "weekly" else {"dom": 1} if kind == "monthly" else {})}
        self._ask(f"/v2/instances/{node_id}/backup-schedule", "POST", fields)

    def ex_firewall_groups(self) -> dict[str, str]:
        """Return the ids of the firewall groups by description."""
        found = self._paginated_request("/v2/firewalls", "firewall_groups")
        return {group["description"]: group["id"] for group in found}

    def _ask(self, action: str, method: str = "GET", fields: Mapping[str, Any] | None = None) -> dict[str, Any]:
        data = json.dumps(fields) if fields is not None else None
        return self.connection.request(action, method=method, data=data).object or {}

    def _to_node(self, data: dict[str, Any]) -> Node:
        """Return an instance; the driver asks for fields that Vultr no longer documents, and leaves others out."""
        node = super()._to_node({"tag": "", "image_id": "", "app_id": 0, "internal_ip": "", **data})
        node.extra.update(tags=list(data.get("tags") or []), status=data["status"])
        return node

    def _to_key_pair(self, data: dict[str, Any]) -> KeyPair:
        """Return a key; the driver's fingerprint fails on keys that its library does not know (sk-ssh-…)."""
        return KeyPair(data["name"], data["ssh_key"], None, self, extra={"id": data["id"]})


def driver(key: str) -> Driver:
    """Return the driver for an API key, or one that asks the stand-in of a test.

    Raises Refused when the stand-in's port is not a port.
    """
    port = os.environ.get(STANDIN)
    if port is None:
        return Driver(key)
    if not re.fullmatch(r"[0-9]{1,5}", port):
        raise Refused(f"{STANDIN}: {port!r} is not a port of this machine")
    return Driver(key, secure=False, host="127.0.0.1", port=int(port))
