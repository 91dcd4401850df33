"""Moments, as operators write them."""
