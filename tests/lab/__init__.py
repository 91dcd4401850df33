"""Tests on real Debian 13 hosts."""
