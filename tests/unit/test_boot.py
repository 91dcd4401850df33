"""What GRUB tells the kernel: read from its menu, and added to what a provider's image says already."""

import subprocess
from typing import Any

import pytest

import mailhost_boot

WORDS = {"apparmor": "1", "security": "apparmor"}
MENU = """
set default="0"
menuentry 'Debian GNU/Linux' {
	linux	/boot/vmlinuz-6.12 root=UUID=1 ro console=ttyS0,115200n8 apparmor=1 security=apparmor quiet
	initrd	/boot/initrd.img-6.12
}
menuentry 'Debian GNU/Linux (recovery mode)' {
	linux	/boot/vmlinuz-6.12 root=UUID=1 ro single console=ttyS0,115200n8 apparmor=1 security=apparmor
}
menuentry 'Memory test (memtest86+.bin)' {
	linux	/boot/memtest86+.bin
}
"""


HASH = f"grub.pbkdf2.sha512.10000.{'A1' * 64}.{'0F' * 64}"
ASKED = (
    MENU
    + """
set superusers="root"
password_pbkdf2 root HASH
menuentry_id_option="--unrestricted $menuentry_id_option"
export menuentry_id_option
""".replace("HASH", HASH)
)


def test_the_provider_s_own_words_stay() -> None:
    text = mailhost_boot.text(WORDS)
    assert text is not None
    assert text.endswith('GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX apparmor=1 security=apparmor"\n')
    assert mailhost_boot.text({}) is None


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("", "", "1"),
        ("apparmor=1 security=apparmor quiet", "security=apparmor quiet", None),
        ("apparmor=1", "apparmor=0", "0"),
        ("apparmor=1 security=apparmor quiet", "apparmor=1 apparmor=0 quiet", None),  # the last one counts
        ("linux\t", "multiboot\t", None),
    ],
)
def test_a_word_is_given_when_every_entry_gives_it(old: str, new: str, found: str | None) -> None:
    assert old in MENU
    assert mailhost_boot.found(MENU.replace(old, new), "apparmor") == found


def test_the_script_makes_the_menu_that_asks() -> None:
    script = mailhost_boot.lock(HASH)
    assert script is not None
    assert mailhost_boot.lock(None) is None
    said = subprocess.run(["sh"], input=script, capture_output=True, text=True, check=True).stdout
    assert mailhost_boot.password_of(said) == HASH
    # It would ask at each start.
    assert mailhost_boot.password_of(said.replace("--unrestricted ", "")) is None
    assert mailhost_boot.password_of(MENU) is None


@pytest.mark.parametrize(
    ("password", "lock", "menu", "old"),
    [
        (None, None, MENU, ""),
        (HASH, mailhost_boot.lock(HASH), ASKED, ""),
        (HASH, None, MENU, "none"),
        (HASH, mailhost_boot.lock(HASH), MENU, "none"),
        (HASH, "#!/bin/sh\n", ASKED, "as declared"),
        (HASH, mailhost_boot.lock(HASH), ASKED.replace("A1", "B2"), "another"),
        (None, mailhost_boot.lock(HASH), ASKED, "another"),
    ],
)
def test_the_menu_s_password(password: str | None, lock: str | None, menu: str, old: str) -> None:
    looked = {"grub": True, "file": None, "lock": lock, "menu": menu}
    new = "as declared" if password else "none"
    wanted = {"password of the menu": {"old": old, "new": new}} if old else {}
    assert mailhost_boot.plan({}, password, looked) == wanted
    assert HASH not in str(wanted)


@pytest.mark.parametrize(
    ("words", "looked", "changes"),
    [
        (WORDS, {"grub": False, "file": None, "menu": ""}, set()),
        (WORDS, {"grub": True, "file": mailhost_boot.text(WORDS), "menu": MENU}, set()),
        (WORDS, {"grub": True, "file": None, "menu": ""}, {"file", "apparmor", "security"}),
        (WORDS, {"grub": True, "file": "x", "menu": MENU}, {"file"}),
        (WORDS, {"grub": True, "file": mailhost_boot.text(WORDS), "menu": ""}, {"apparmor", "security"}),
        ({}, {"grub": True, "file": None, "menu": MENU}, set()),
        ({}, {"grub": True, "file": "x", "menu": MENU}, {"file"}),
    ],
)
def test_what_differs(words: dict[str, str], looked: dict[str, Any], changes: set[str]) -> None:
    assert set(mailhost_boot.plan(words, None, {"lock": None, **looked})) == changes
