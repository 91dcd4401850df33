"""Tests that compile the tree with Salt itself."""
