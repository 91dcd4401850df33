"""QEMU: the words that start a virtual machine, and whether this machine's KVM really runs one."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from .tools import require_programs, run

PROGRAM = "qemu-system-x86_64"
# Under QEMU 7.2 the kernel panics in kmalloc, at a CMPXCHG16B (seen). Without the instruction Linux has another way.
_EMULATED = ("-accel", "tcg,thread=single", "-cpu", "max,cx16=off", "-smp", "1")
# What a processor starts with, 16 bytes below its firmware's end: popcnt ax, ax; mov al, 16; out 0xf4, al; hlt. The
# device at that port ends QEMU with 2 * 16 + 1. A KVM that interprets kernels, for want of a processor's extensions,
# answers everything it is asked and knows few instructions: not the first of these (seen).
_FIRMWARE = b"\xf4" * 0xFFF0 + b"\xf3\x0f\xb8\xc0\xb0\x10\xe6\xf4\xf4" + b"\xf4" * 7
_SAID = 33


@functools.cache
def kvm() -> bool:
    """Return whether KVM lets the processor itself run a program here, by trying."""
    return Path("/dev/kvm").exists() and tried("-accel", "kvm", "-cpu", "host")


def tried(*words: str) -> bool:
    """Return whether a machine runs the firmware above. Params: words, what runs its processor."""
    require_programs(PROGRAM)
    with tempfile.NamedTemporaryFile() as firmware:
        firmware.write(_FIRMWARE)
        firmware.flush()
        rest = ["-machine", "q35", "-nodefaults", "-display", "none", "-bios", firmware.name]
        end = ["-device", "isa-debug-exit,iobase=0xf4,iosize=1"]
        # What cannot be run leaves QEMU waiting for somebody to look at it.
        return run(["timeout", "5", PROGRAM, *words, *rest, *end], check=False).returncode == _SAID


def words(disk: Path, console: Path, memory: int) -> list[str]:
    """Return the command of a machine with a disk and a serial console, and nothing else.

    Params: disk, a raw image; console, the file that it says everything in; memory in MiB.
    """
    return [
        PROGRAM,
        *(("-accel", "kvm", "-cpu", "host", "-smp", "2") if kvm() else _EMULATED),
        # GRUB does not come further without a screen.
        *("-machine", "q35", "-m", str(memory), "-nodefaults", "-display", "none", "-vga", "std"),
        *("-chardev", f"file,id=console,path={console},append=on", "-serial", "chardev:console"),
        # A power cut is a killed process: this machine's page cache survives it.
        *("-drive", f"file={disk},format=raw,if=none,id=disk,cache=unsafe,discard=unmap,detect-zeroes=unmap"),
        *("-device", "virtio-blk-pci,drive=disk,bus=pcie.0"),
        *("-device", "virtio-rng-pci"),
    ]


def link(tap: str, mac: str) -> list[str]:
    """Return the words for a network card, the first behind the first port: enp1s0, as Vultr's Debian names it."""
    return [
        *("-device", "pcie-root-port,id=port1,chassis=1"),
        *("-netdev", f"tap,id=net,ifname={tap},script=no,downscript=no"),
        *("-device", f"virtio-net-pci,netdev=net,mac={mac},bus=port1"),
    ]


def agent(socket: Path) -> list[str]:
    """Return the words for the serial port of the guest agent. Params: socket, where this machine talks to it."""
    return [
        *("-device", "virtio-serial-pci"),
        *("-chardev", f"socket,id=agent,path={socket},server=on,wait=off"),
        *("-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"),
    ]
