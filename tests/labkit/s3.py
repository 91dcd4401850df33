"""An S3 server in a lab, with one bucket: moto's, which keeps what it gets in memory and checks each signature."""

from __future__ import annotations

import json
import logging
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import boto3

from .lab import Lab
from .tools import LabError, run

BUCKET, PORT, REGION = "mail", 9000, "eu-central-1"
_SECONDS = 60  # until it listens, on a busy machine
# It closes each connection, and must say so by TLS first: what ends without that is taken for cut off.
_SERVER = """
import contextlib, sys
from moto.moto_server.werkzeug_app import MotoRequestHandler
from moto.server import main
class Handler(MotoRequestHandler):
    def finish(self):
        super().finish()
        with contextlib.suppress(OSError, ValueError):
            self.connection.settimeout(2)
            self.connection.unwrap()
import moto.server
moto.server.MotoRequestHandler = Handler
main(sys.argv[1:])
"""
# Else a test that fails says every header.
logging.getLogger("botocore").setLevel(logging.WARNING)


class Bucket:
    """A bucket behind TLS, on both addresses of a namespace of its own; gone at the end."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        """Params: lab; directory for its certificate and log, which is there."""
        self.namespace, self._directory = lab.namespace("bucket"), directory
        self._process: subprocess.Popen[bytes] | None = None
        self.key = {"AccessKeyId": "", "SecretAccessKey": ""}

    def __enter__(self) -> Self:
        """Start it, with an account that may do anything with the bucket."""
        self._certify()
        files: list[str | Path] = ["-c", self._directory / "s3.crt", "-k", self._directory / "s3.key"]
        where = ["-H", "::", "-p", str(PORT)]
        # It ends with the process that began it.
        alone: list[str | Path] = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-c", _SERVER, *where, *files]
        with (self._directory / "s3.log").open("wb") as log:
            self._process = subprocess.Popen([*self.namespace.enter(), *alone], stdout=log, stderr=log)
        try:
            self._listening()
            self._begin()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        self.close()

    def close(self) -> None:
        """End it; doing it twice is fine."""
        self.reachable(True)
        if self._process:
            self._process.kill()
            self._process.wait()

    @property
    def ca(self) -> str:
        """The certificate of the authority that its own is from."""
        return (self._directory / "ca.crt").read_text()

    def pillar(self, **changes: Any) -> dict[str, Any]:
        """Return what backup.offsite says of it."""
        return {
            "type": "s3",
            "endpoint": f"[{self.namespace.ipv6}]:{PORT}",
            "bucket": BUCKET,
            "region": REGION,
            "key_id": self.key["AccessKeyId"],
            "key_secret": self.key["SecretAccessKey"],
            "ca": self.ca,
            "cipher_pass": "a-passphrase" * 4,
            **changes,
        }

    def names(self) -> list[str]:
        """Return the names of all that it has."""
        pages = self._client("s3").get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        return [row["Key"] for page in pages for row in page.get("Contents", ())]

    def begins(self, name: str) -> bytes:
        """Return the first bytes of what it has under a name."""
        return bytes(self._client("s3").get_object(Bucket=BUCKET, Key=name)["Body"].read(8))

    def reachable(self, yes: bool) -> None:
        """Let it refuse connections, or take them again."""
        for program in ("iptables", "ip6tables"):
            rule = ["INPUT", "-p", "tcp", "--dport", str(PORT), "-j", "REJECT", "--reject-with", "tcp-reset"]
            self.namespace.run([program, "-D" if yes else "-A", *rule], check=not yes)

    def _certify(self) -> None:
        """Make an authority, and a certificate of its own for both addresses."""
        place, address = self._directory, self.namespace
        (place / "s3.ext").write_text(f"subjectAltName=IP:{address.ipv4},IP:{address.ipv6}\n")
        made = ["openssl", "req", "-newkey", "rsa:2048", "-nodes"]
        authority = ["-x509", "-days", "2", "-subj", "/CN=lab", "-addext", "basicConstraints=critical,CA:true"]
        run([*made, *authority, "-keyout", place / "ca.key", "-out", place / "ca.crt"])
        run([*made, "-subj", "/CN=s3", "-keyout", place / "s3.key", "-out", place / "s3.csr"])
        signed: list[str | Path] = [
            "-CA",
            place / "ca.crt",
            "-CAkey",
            place / "ca.key",
            "-days",
            "2",
            "-extfile",
            place / "s3.ext",
        ]
        run(["openssl", "x509", "-req", "-in", place / "s3.csr", *signed, "-out", place / "s3.crt"])

    def _listening(self) -> None:
        """Wait until it takes connections."""
        until = time.monotonic() + _SECONDS
        while True:
            try:
                socket.create_connection((self.namespace.ipv4, PORT), timeout=1).close()
                return
            except OSError:
                if time.monotonic() > until:
                    said = (self._directory / "s3.log").read_text(errors="replace")
                    raise LabError(f"the S3 server does not come up: {said[-500:]}") from None
                time.sleep(0.2)

    def _begin(self) -> None:
        """Make account and bucket, and from then on let nobody in without a key."""
        iam, everything = self._client("iam"), {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
        iam.create_user(UserName="mail")
        policy = json.dumps({"Version": "2012-10-17", "Statement": [everything]})
        iam.put_user_policy(UserName="mail", PolicyName="bucket", PolicyDocument=policy)
        self.key = iam.create_access_key(UserName="mail")["AccessKey"]
        where = {"LocationConstraint": REGION}
        self._client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=where)
        asked = urllib.request.Request(
            f"{self._url}/moto-api/reset-auth", data=b"0", headers={"Content-Type": "text/plain"}
        )
        context = ssl.create_default_context(cafile=str(self._directory / "ca.crt"))
        urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)).open(
            asked
        ).close()

    @property
    def _url(self) -> str:
        return f"https://{self.namespace.ipv4}:{PORT}"

    def _client(self, service: str) -> Any:
        """Return a client of one of its services."""
        return boto3.client(
            service,
            endpoint_url=self._url,
            verify=str(self._directory / "ca.crt"),
            region_name=REGION,
            aws_access_key_id=self.key["AccessKeyId"] or "nobody",
            aws_secret_access_key=self.key["SecretAccessKey"] or "nothing",
        )
