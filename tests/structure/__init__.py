"""Tests that hold the registry, the disk and the documents together."""
