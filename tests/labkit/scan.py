"""Which ports of an address answer or let something through: run by exposure.py in a network namespace.

Which ports to try of which addresses comes on standard input. ``tcp`` connects to them and prints, by address, those
that accepted or refused: both were reached. ``udp`` sends datagrams to them and prints those that answered. ``reached``
prints the ports that such datagrams reached: it stands behind the firewall, for a raw socket is given what chain INPUT
has let through, whether or not anybody listens. ``arrived`` stands before it, for a packet socket is given what an
interface has taken (packet(7)), and prints the ports that a datagram or connection came for: what a full queue has
dropped on the way says nothing about a firewall.
"""

from __future__ import annotations

import errno
import json
import resource
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Mapping, Sequence

Ports = Mapping[str, Sequence[int]]
TOKEN = b"mailhost exposure"
# A lost SYN is sent again after a second.
CONNECT_SECONDS = 1.5
BATCH = 32768


def tcp(trying: Ports) -> dict[str, list[int]]:
    """Return the ports that a connection reached, by address."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    batch = min(BATCH, hard - 100)
    return {
        address: [
            port for first in range(0, len(ports), batch) for port in _connected(address, ports[first : first + batch])
        ]
        for address, ports in trying.items()
    }


def _connected(address: str, ports: Sequence[int]) -> list[int]:
    """Return those of some ports that accept or refuse a connection; all are tried at once."""
    waiting = {}
    poll = select.epoll()
    for number, port in enumerate(ports):
        connection = socket.socket(_family(address), socket.SOCK_STREAM)
        connection.setblocking(False)
        if connection.connect_ex((address, port)) == errno.EINPROGRESS:
            waiting[connection.fileno()] = (port, connection)
            poll.register(connection, select.EPOLLOUT)
        else:
            connection.close()  # this side had no room for it: nothing was sent
        if number % 100 == 99:
            time.sleep(0.002)  # more at once, and some queue on the way would drop many
    until = time.monotonic() + CONNECT_SECONDS
    found = []
    while waiting and (left := until - time.monotonic()) > 0:
        for number, _ in poll.poll(left):
            port, connection = waiting.pop(number)
            if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) in _ANSWERED:
                found.append(port)
            poll.unregister(connection)
            connection.close()
    for _, connection in waiting.values():
        connection.close()
    poll.close()
    return sorted(found)


def udp(trying: Ports) -> dict[str, list[int]]:
    """Send a datagram to each port, and return those that answered, by address."""
    answered: dict[str, set[int]] = {}
    for address, ports in trying.items():
        answered[address] = set()
        with socket.socket(_family(address), socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            for number, port in enumerate(ports):
                _send(sender, address, port)
                if number % 100 == 99:
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


def reached() -> None:
    """Watch which ports our datagrams reach behind the firewall."""
    sockets = [socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_UDP) for family in (_IPV4, _IPV6)]
    sockets[1].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    _watch(sockets, _datagram)


def arrived() -> None:
    """Watch which ports our datagrams, and connections, come for at an interface."""
    _watch([socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL))], _packet)


def _watch(sockets: Sequence[socket.socket], read: Callable[[socket.socket], tuple[str, int] | None]) -> None:
    """Print ``ready``, then until standard input ends watch; print, by destination address, the ports seen.

    Params: sockets; read, takes what a socket has and returns the address and the port that it was for, or None.
    """
    for source in sockets:
        source.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, 1 << 28)
    print("ready", flush=True)
    seen: dict[str, set[int]] = {}
    ended = False
    while True:
        ready, _, _ = select.select([*sockets, *([] if ended else [sys.stdin])], [], [], 0.5 if ended else None)
        if not ready:
            break
        for one in ready:
            if isinstance(one, socket.socket):
                if destination := read(one):
                    seen.setdefault(destination[0], set()).add(destination[1])
            else:
                ended = True
    print(json.dumps({address: sorted(ports) for address, ports in seen.items()}))


def _datagram(raw: socket.socket) -> tuple[str, int] | None:
    """Return where a datagram of ours was sent to, None of another's."""
    packet, ancillary, _, _ = raw.recvmsg(2048, 256)
    if raw.family == _IPV4:
        address = socket.inet_ntop(_IPV4, packet[16:20])
        packet = packet[4 * (packet[0] & 15) :]
    else:
        address = socket.inet_ntop(_IPV6, ancillary[0][2][:16])
    return (address, _port(packet)) if packet[8:] == TOKEN else None


def _packet(tap: socket.socket) -> tuple[str, int] | None:
    """Return where a datagram of ours, or a first segment of TCP, was sent to; None of all else and of what leaves."""
    packet, (_, kind, direction, _, _) = tap.recvfrom(2048)
    if direction != _PACKET_HOST or kind not in (_ETH_P_IP, _ETH_P_IPV6):
        return None
    if kind == _ETH_P_IP:
        protocol, address = packet[9], socket.inet_ntop(_IPV4, packet[16:20])
        packet = packet[4 * (packet[0] & 15) :]
    else:
        protocol, address = packet[6], socket.inet_ntop(_IPV6, packet[24:40])
        packet = packet[40:]
    ours = protocol == socket.IPPROTO_UDP and packet[8:] == TOKEN
    first = protocol == socket.IPPROTO_TCP and packet[13] & (_SYN | _ACK) == _SYN
    return (address, _port(packet)) if ours or first else None


def _port(packet: bytes) -> int:
    """Return the destination port of a datagram or segment."""
    port: int = struct.unpack("!H", packet[2:4])[0]
    return port


def _family(address: str) -> socket.AddressFamily:
    return _IPV6 if ":" in address else _IPV4


_IPV4, _IPV6 = socket.AF_INET, socket.AF_INET6
# How a connection ends that the other side has taken or refused; all else is a gateway's or this side's own word.
_ANSWERED = (0, errno.ECONNREFUSED, errno.ECONNRESET)
# What the module socket does not name: SO_RCVBUFFORCE, of packet(7), and the flags of TCP.
_RCVBUFFORCE = 33
_ETH_P_ALL, _ETH_P_IP, _ETH_P_IPV6, _PACKET_HOST = 0x0003, 0x0800, 0x86DD, 0
_SYN, _ACK = 0x02, 0x10

if __name__ == "__main__":
    name = sys.argv[1]
    if name in ("tcp", "udp"):
        print(json.dumps({"tcp": tcp, "udp": udp}[name](json.load(sys.stdin))))
    else:
        {"reached": reached, "arrived": arrived}[name]()
