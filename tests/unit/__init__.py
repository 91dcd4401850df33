"""Tests of pure functions, and of states with their modules replaced."""
