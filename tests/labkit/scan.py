"""Which ports of an address answer or let something through: run by exposure.py in a network namespace.

``tcp ADDRESS…`` connects to every port and prints, by address, those that accepted or refused: both were reached.
``udp ADDRESS…`` sends datagrams to every port and prints those that answered. ``watch`` prints the ports that such
datagrams reached: it stands behind the firewall, for a raw socket is given what chain INPUT has let through, whether or
not anybody listens.
"""

from __future__ import annotations

import json
import resource
import select
import socket
import struct
import sys
import time

PORTS = range(1, 65536)
TOKEN = b"mailhost exposure"
# A lost SYN is sent again after a second.
CONNECT_SECONDS = 1.5
BATCH = 32768
ROUNDS = 2


def tcp(addresses: list[str]) -> dict[str, list[int]]:
    """Return the ports that a connection reached, by address."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    batch = min(BATCH, hard - 100)
    return {
        address: [
            port
            for first in range(PORTS.start, PORTS.stop, batch)
            for port in _connected(address, range(first, min(first + batch, PORTS.stop)))
        ]
        for address in addresses
    }


def _connected(address: str, ports: range) -> list[int]:
    """Return those of some ports that accept or refuse a connection; all are tried at once."""
    waiting = {}
    poll = select.epoll()
    for port in ports:
        connection = socket.socket(_family(address), socket.SOCK_STREAM)
        connection.setblocking(False)
        connection.connect_ex((address, port))
        waiting[connection.fileno()] = (port, connection)
        poll.register(connection, select.EPOLLOUT)
        if port % 100 == 0:
            time.sleep(0.002)  # more at once, and some queue on the way would drop some
    until = time.monotonic() + CONNECT_SECONDS
    found = []
    while waiting and (left := until - time.monotonic()) > 0:
        for number, _ in poll.poll(left):
            port, connection = waiting.pop(number)
            # Anything but a timeout has reached the host and was answered by it; "no route" is this side's own word.
            error = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error not in (_NO_ROUTE, _NO_NETWORK):
                found.append(port)
            poll.unregister(connection)
            connection.close()
    for _, connection in waiting.values():
        connection.close()
    poll.close()
    return sorted(found)


def udp(addresses: list[str]) -> dict[str, list[int]]:
    """Send to every port, and return those that answered, by address."""
    answered: dict[str, set[int]] = {}
    for address in addresses:
        answered[address] = set()
        with socket.socket(_family(address), socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            for _ in range(ROUNDS):
                for port in PORTS:
                    _send(sender, address, port)
                    if port % 100 == 0:
                        time.sleep(0.002)
                        answered[address] |= _answers(sender)
            time.sleep(0.5)
            answered[address] |= _answers(sender)
    return {address: sorted(ports) for address, ports in answered.items()}


def _send(sender: socket.socket, address: str, port: int) -> None:
    for _ in range(2):  # an ICMP error of an earlier datagram is reported by the next call
        try:
            sender.sendto(TOKEN, (address, port))
        except OSError:
            continue
        return


def _answers(sender: socket.socket) -> set[int]:
    found = set()
    while True:
        try:
            found.add(sender.recvfrom(2048)[1][1])
        except BlockingIOError:
            return found
        except OSError:
            continue


def watch() -> None:
    """Print ``ready``, then until standard input ends watch; print, by destination address, the ports reached."""
    sockets = []
    for family in (socket.AF_INET, socket.AF_INET6):
        raw = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_UDP)
        raw.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, 1 << 26)
        if family == socket.AF_INET6:
            raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        sockets.append(raw)
    print("ready", flush=True)
    reached: dict[str, set[int]] = {}
    ended = False
    while True:
        ready, _, _ = select.select([*sockets, *([] if ended else [sys.stdin])], [], [], 0.5 if ended else None)
        if not ready:
            break
        for one in ready:
            if isinstance(one, socket.socket):
                if destination := _destination(one):
                    reached.setdefault(destination[0], set()).add(destination[1])
            else:
                ended = True
    print(json.dumps({address: sorted(ports) for address, ports in reached.items()}))


def _destination(raw: socket.socket) -> tuple[str, int] | None:
    """Return where a datagram of ours was sent to, None of another's."""
    packet, ancillary, _, _ = raw.recvmsg(2048, 256)
    if raw.family == socket.AF_INET:
        address = socket.inet_ntop(socket.AF_INET, packet[16:20])
        packet = packet[4 * (packet[0] & 15) :]
    else:
        address = socket.inet_ntop(socket.AF_INET6, ancillary[0][2][:16])
    port: int = struct.unpack("!H", packet[2:4])[0]
    return (address, port) if packet[8:] == TOKEN else None


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


_NO_ROUTE, _NO_NETWORK = 113, 101  # EHOSTUNREACH, ENETUNREACH
_RCVBUFFORCE = 33  # SO_RCVBUFFORCE, which the module socket does not name

if __name__ == "__main__":
    if sys.argv[1] == "watch":
        watch()
    else:
        print(json.dumps({"tcp": tcp, "udp": udp}[sys.argv[1]](sys.argv[2:])))
