"""A dry run says exactly what an apply then changes, whatever the host is like, and touches nothing itself."""

from __future__ import annotations

import pytest

from labkit import Host
from labkit.checkout import Checkout

from .conftest import Exact

pytestmark = pytest.mark.lab


def test_pristine_host(fresh: Host, checkout: Checkout, exact: Exact) -> None:
    found = exact("pristine", fresh, checkout)
    assert found.made


def test_converged_host(converged: Host, checkout: Checkout, exact: Exact) -> None:
    found = exact("converged", converged, checkout)
    assert not found.made
