"""What GRUB tells the kernel: read from its menu, and added to what a provider's image says already."""

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
    assert set(mailhost_boot.plan(words, looked)) == changes
