"""The registry of the loop."""

from __future__ import annotations

import pytest

from stock_assets.registry import Registry
from stock_assets_tests.conftest import Loop


@pytest.fixture
def registry(loop: Loop) -> Registry:
    return Registry(loop.platform.params.tracking)
