"""A stand-in for Vultr on this machine: the part of its API v2 that the tree uses, written from the public reference.

It answers as the reference says (shapes, codes, paging), keeps what it is told, and can be made to fail. It is not
Vultr: what is undocumented, and what the reference gets wrong, it does not show.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

KEY = "CANARYKEYOFTHESTANDINCANARYKEY000001"
PASSWORD = "canary-root-password"
DEBIAN = 2625
Data = dict[str, Any]

REGIONS = [
    {"id": "ams", "city": "Amsterdam", "country": "NL", "continent": "Europe", "options": ["ddos_protection"]},
    {"id": "dfw", "city": "Dallas", "country": "US", "continent": "North America", "options": ["ddos_protection"]},
    {"id": "ewr", "city": "New Jersey", "country": "US", "continent": "North America", "options": []},
]
IMAGES = [
    {"id": 2136, "name": "Debian 12 x64 (bookworm)", "arch": "x64", "family": "debian"},
    {"id": DEBIAN, "name": "Debian 13 x64 (trixie)", "arch": "x64", "family": "debian"},
    {"id": 2284, "name": "Ubuntu 24.04 LTS x64", "arch": "x64", "family": "ubuntu"},
]


def _plan(name: str, cpus: int, ram: int, disk: int, cost: float, *locations: str) -> Data:
    """Return a plan as GET /v2/plans has it."""
    sizes = {"vcpu_count": cpus, "ram": ram, "disk": disk, "disk_count": 1, "bandwidth": 3072}
    return {"id": name, **sizes, "monthly_cost": cost, "type": "vc2", "locations": list(locations)}


PLANS = [
    _plan("vc2-1c-2gb", 1, 2048, 55, 10, "ams", "dfw", "ewr"),
    _plan("vc2-2c-4gb", 2, 4096, 80, 20, "ams", "dfw"),
    _plan("vc2-4c-8gb", 4, 8192, 160, 40, "ams", "dfw", "ewr"),
]


class Failure(Exception):
    """An answer that is no success: its code and what the body says."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code, self.words = code, words


@dataclass
class Fault:
    """Answers to give instead of the right ones."""

    method: str
    path: str
    code: int
    body: str
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 1


class Provider:
    """The account, and the server that speaks for it."""

    def __init__(self, build: Callable[[Data], tuple[str, str]] | None = None, seconds: float = 0) -> None:
        """Params: build, makes an instance real and returns its IPv4 and IPv6 address (else it gets ones of
        documentation networks); seconds, how long an instance is pending.
        """
        self.instances: dict[str, Data] = {}
        self.ssh_keys: dict[str, Data] = {}
        self.snapshots: dict[str, Data] = {}
        self.groups: dict[str, Data] = {}
        self.user_data: dict[str, str] = {}
        self.schedules: dict[str, Data] = {}
        self.faults: list[Fault] = []
        self.asked: list[tuple[str, str, Data]] = []
        self.page = 500
        self._build, self._seconds = build, seconds
        self._lock = threading.RLock()
        self._builders: list[threading.Thread] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def port(self) -> int:
        """The port of 127.0.0.1 that it answers on."""
        return int(self._server.server_address[1])

    @property
    def writes(self) -> list[tuple[str, str]]:
        """What was asked that is not only a look."""
        return [(method, path) for method, path, _ in self.asked if method != "GET"]

    def environment(self, **besides: str) -> dict[str, str]:
        """Return the environment variables that let the tree speak to it."""
        return {"MAILHOST_VULTR_STANDIN": str(self.port), "VULTR_API_KEY": KEY, "MAILHOST_ENV": "dev", **besides}

    def fail(self, method: str, path: str, code: int, body: str = "", times: int = 1, **headers: str) -> None:
        """Answer the next requests of this method and path otherwise. Params: path, a regular expression; code 0: the
        connection is closed without an answer; headers, with _ for -.
        """
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        said = body or json.dumps({"error": f"made to fail with {code}", "status": code})
        self.faults.append(Fault(method, path, code, said, named, times))

    @contextmanager
    def no_faults_left(self) -> Iterator[None]:
        """Fail unless all faults were met by the end."""
        yield
        assert not self.faults, self.faults

    def add(self, label: str, **fields: Any) -> Data:
        """Put an instance into the account, ready."""
        number = str(uuid.uuid4())
        plan = next(plan for plan in PLANS if plan["id"] == fields.get("plan", "vc2-2c-4gb"))
        self.instances[number] = {
            "id": number,
            "os": "Debian 13 x64 (trixie)",
            "ram": plan["ram"],
            "disk": plan["disk"],
            "main_ip": "203.0.113.5",
            "vcpu_count": plan["vcpu_count"],
            "region": "dfw",
            "plan": plan["id"],
            "date_created": "2026-11-22T22:00:00+00:00",
            "status": "active",
            "allowed_bandwidth": 3072,
            "netmask_v4": "255.255.254.0",
            "gateway_v4": "203.0.113.1",
            "power_status": "running",
            "server_status": "ok",
            "v6_network": "2001:db8:5::",
            "v6_main_ip": "2001:db8:5::1",
            "v6_network_size": 64,
            "label": label,
            "internal_ip": "",
            "kvm": "https://console.example/",
            "hostname": label,
            "os_id": DEBIAN,
            "app_id": 0,
            "image_id": "",
            "firewall_group_id": "",
            "features": ["ipv6"],
            "tags": ["mailhost"],
            "user_scheme": "root",
            **fields,
        }
        return self.instances[number]

    def close(self) -> None:
        """Stop answering, and wait for what is being built."""
        self._server.shutdown()
        self._server.server_close()
        for builder in self._builders:
            builder.join()

    def __enter__(self) -> Self:
        """Return the provider itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    # --- what is asked

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Data) -> tuple[int, Any]:
        """Return code and content of the answer to a request; raises Failure."""
        with self._lock:
            self.asked.append((method, path, body))
            for name, found in (("regions", REGIONS), ("plans", PLANS), ("os", IMAGES)):
                if (method, path) == ("GET", f"/v2/{name}"):
                    return 200, self._listed(name, found, query)
            kinds = {"ssh-keys": ("ssh_keys", self.ssh_keys), "instances": ("instances", self.instances)}
            kinds["firewalls"] = ("firewall_groups", self.groups)
            for where, (name, kept) in kinds.items():
                if (method, path) == ("GET", f"/v2/{where}"):
                    return 200, self._listed(name, list(kept.values()), query)
            if (method, path) == ("POST", "/v2/ssh-keys"):
                return 201, {"ssh_key": self._add_key(body)}
            if (method, path) == ("POST", "/v2/instances"):
                return 202, {"instance": self._create(body)}
            if (method, path) == ("POST", "/v2/snapshots"):
                return 201, {"snapshot": self._snapshot(body)}
            if method == "GET" and (matched := re.fullmatch("/v2/snapshots/([^/]+)", path)):
                return 200, {"snapshot": self._got(self.snapshots, matched[1])}
            if matched := re.fullmatch("/v2/instances/([^/]+)(/[a-z-]+)?", path):
                return self._instance(method, self._got(self.instances, matched[1]), matched[2] or "", body)
            raise Failure(404, "Not Found")

    def _instance(self, method: str, instance: Data, what: str, body: Data) -> tuple[int, Any]:
        number = instance["id"]
        match method, what:
            case "GET", "":
                return 200, {"instance": instance}
            case "PATCH", "":
                return 202, {"instance": self._patch(instance, body)}
            case "DELETE", "":
                del self.instances[number]
                return 204, None
            case "GET", "/upgrades":
                larger = [plan["id"] for plan in PLANS if plan["disk"] > instance["disk"]]
                return 200, {"upgrades": {"os": IMAGES, "applications": [], "plans": larger}}
            case "GET", "/backup-schedule":
                empty = {"enabled": False, "type": "", "hour": 0, "dow": 0, "dom": 0, "next_scheduled_time_utc": ""}
                return 200, {"backup_schedule": self.schedules.get(number, empty)}
            case "POST", "/backup-schedule":
                if "auto_backups" not in instance["features"]:
                    raise Failure(400, "Backups are not enabled on this server.")
                self.schedules[number] = {"enabled": True, "hour": 0, "dow": 0, "dom": 0, **body}
                return 200, {"status": 200}
        raise Failure(405, "Method Not Allowed")

    def _patch(self, instance: Data, body: Data) -> Data:
        if plan := next((plan for plan in PLANS if plan["id"] == body.get("plan")), None):
            if plan["disk"] <= instance["disk"]:
                raise Failure(400, "Unable to change plan: Cannot downgrade.")
            instance.update(plan=plan["id"], disk=plan["disk"], ram=plan["ram"], vcpu_count=plan["vcpu_count"])
        if "user_data" in body:
            self.user_data[instance["id"]] = base64.b64decode(body["user_data"], validate=True).decode()
        if "tags" in body:
            instance["tags"] = body["tags"]
        if "firewall_group_id" in body:
            instance["firewall_group_id"] = body["firewall_group_id"]
        if body.get("enable_ipv6"):
            instance.update(v6_main_ip="2001:db8:5::1", features=[*instance["features"], "ipv6"])
        if "backups" in body:
            self._backups(instance, body["backups"] == "enabled")
        return instance

    def _backups(self, instance: Data, on: bool) -> None:
        others = [name for name in instance["features"] if name != "auto_backups"]
        instance["features"] = [*others, "auto_backups"] if on else others
        self.schedules[instance["id"]] = {"enabled": on, "type": "weekly", "hour": 8, "dow": 6, "dom": 0}

    def _create(self, body: Data) -> Data:
        for name in ("region", "plan", "os_id"):
            if name not in body:
                raise Failure(400, f"Invalid {name}.")
        for key in body.get("sshkey_id", []):
            if key not in self.ssh_keys:
                raise Failure(400, "Invalid SSH key.")
        plain = {name: body[name] for name in ("region", "plan", "os_id", "tags", "hostname") if name in body}
        nothing = {"main_ip": "0.0.0.0", "v6_main_ip": "", "features": [], "server_status": "none"}
        instance = self.add(body.get("label", ""), status="pending", **nothing, **plain)
        self.user_data[instance["id"]] = base64.b64decode(body.get("user_data", ""), validate=True).decode()
        builder = threading.Thread(target=self._make, args=(instance, body))
        self._builders.append(builder)
        builder.start()
        # As the reference has it: only this one answer holds the root password.
        return {**instance, "default_password": PASSWORD}

    def _make(self, instance: Data, body: Data) -> None:
        """Build an instance, as it takes Vultr some minutes."""
        time.sleep(self._seconds)
        keys = [self.ssh_keys[number]["ssh_key"] for number in body.get("sshkey_id", [])]
        ordered = {**instance, "keys": keys, "user_data": self.user_data[instance["id"]]}
        ipv4, ipv6 = self._build(ordered) if self._build else ("203.0.113.5", "2001:db8:5::1")
        with self._lock:
            instance.update(main_ip=ipv4, status="active", server_status="ok", power_status="running")
            if body.get("enable_ipv6"):
                instance.update(v6_main_ip=ipv6, features=["ipv6"])
            if body.get("backups") == "enabled":
                self._backups(instance, True)

    def _add_key(self, body: Data) -> Data:
        key = {"id": str(uuid.uuid4()), "date_created": "2026-11-22T22:00:00+00:00", **body}
        self.ssh_keys[key["id"]] = key
        return key

    def _snapshot(self, body: Data) -> Data:
        number = str(uuid.uuid4())
        kept = {"id": number, "date_created": "2026-11-22T22:00:00+00:00", "status": "complete", "os_id": DEBIAN}
        self.snapshots[number] = {**kept, "size": 85899345920, "compressed_size": 0, "app_id": 0, **body}
        return self.snapshots[number]

    def _listed(self, name: str, found: list[Data], query: dict[str, list[str]]) -> Data:
        """Return a page of a list; the cursor is a position, which to the caller is only a word."""
        size = min(self.page, int(query.get("per_page", ["100"])[0]))
        start = int(base64.b64decode(query["cursor"][0])) if "cursor" in query else 0
        following = base64.b64encode(str(start + size).encode()).decode() if start + size < len(found) else ""
        meta = {"total": len(found), "links": {"next": following, "prev": ""}}
        return {name: found[start : start + size], "meta": meta}

    @staticmethod
    def _got(kept: dict[str, Data], number: str) -> Data:
        if number not in kept:
            raise Failure(404, "Invalid ID.")
        return kept[number]


def _handler(provider: Provider) -> type[BaseHTTPRequestHandler]:
    """Return the class that reads requests for a provider."""

    class Handler(BaseHTTPRequestHandler):
        """One connection."""

        protocol_version = "HTTP/1.1"
        wbufsize = -1  # one packet for head and body, or the client waits 40 ms for the second

        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            text = self.rfile.read(length)
            where = urlsplit(self.path)
            for fault in provider.faults:
                if fault.method == self.command and re.fullmatch(fault.path, where.path):
                    fault.times -= 1
                    if not fault.times:
                        provider.faults.remove(fault)
                    provider.asked.append((self.command, where.path, {}))
                    self._send(fault.code, fault.body.encode(), fault.headers)
                    return
            code, content = self._answer(where.path, parse_qs(where.query), text)
            self._send(code, b"" if content is None else json.dumps(content).encode(), {})

        def _answer(self, path: str, query: dict[str, list[str]], text: bytes) -> tuple[int, Any]:
            try:
                if self.headers.get("Authorization") != f"Bearer {KEY}":
                    raise Failure(401, "Invalid API token.")
                return provider.answer(self.command, path, query, json.loads(text) if text else {})
            except Failure as failure:
                return failure.code, {"error": failure.words, "status": failure.code}

        def _send(self, code: int, body: bytes, headers: dict[str, str]) -> None:
            if not code:
                self.close_connection = True
                return
            self.send_response(code)
            kind = "text/html" if body.startswith(b"<") else "application/json"
            for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PATCH = do_DELETE = _serve

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing: the tests look at ``asked``."""

    return Handler
