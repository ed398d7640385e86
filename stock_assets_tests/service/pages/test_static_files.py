"""Static files: cached forever by browsers, under an address that changes with the content."""

from __future__ import annotations

import re
from importlib.metadata import version

import httpx
import pytest

from stock_assets.service.pages.static_files import (
    OWN_FILES,
    PLOTLY,
    plotly_style_ids,
    static_addresses,
)


@pytest.mark.parametrize("name", [*OWN_FILES, PLOTLY])
def test_file_is_cached_forever(client: httpx.Client, name: str) -> None:
    response = client.get(static_addresses()[name])
    assert response.status_code == 200
    assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert response.headers["content-type"].startswith(
        ("text/css", "text/javascript", "application/javascript")
    )


def test_address_carries_a_digest_or_the_version() -> None:
    addresses = static_addresses()
    assert all(re.search(r"\?v=[0-9a-f]{12}$", addresses[name]) for name in OWN_FILES)
    assert addresses[PLOTLY].endswith(f"?v={version('plotly')}")


def test_style_ids_are_in_plotly(client: httpx.Client) -> None:
    script = client.get(static_addresses()[PLOTLY]).text
    assert plotly_style_ids()
    assert all(name in script for name in plotly_style_ids())


@pytest.mark.parametrize("path", ["/static/other.js", "/static/..%2fapp.py", "/static/"])
def test_other_paths_are_not_found(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 404
