"""Static files: kept for good by the browser, because a change is another address."""

from __future__ import annotations

import gzip
from importlib.metadata import version

import httpx
import pytest

from stock_assets.service.pages.static_files import (
    PLOTLY,
    plotly_script,
    plotly_style_ids,
    static_files,
)


@pytest.mark.parametrize("name", ["site.css", "theme.js", "table.js", "charts.js", PLOTLY])
def test_a_file_may_be_kept_for_good(client: httpx.Client, name: str) -> None:
    file = static_files()[name]
    answered = client.get(file.address)
    assert answered.status_code == 200
    assert answered.content == file.plain
    assert answered.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answered.headers["content-encoding"] == "gzip"
    assert gzip.decompress(file.packed) == file.plain
    plain = client.get(file.address, headers={"Accept-Encoding": "identity"})
    assert plain.content == file.plain


def test_plotly_comes_from_the_installed_package_under_its_version() -> None:
    assert static_files()[PLOTLY].address == f"/static/plotly-{version('plotly')}/plotly.min.js"


def test_what_plotly_would_put_into_a_style_element_is_known() -> None:
    assert plotly_style_ids()
    assert all(plotly_script().count(name.encode()) >= 1 for name in plotly_style_ids())


@pytest.mark.parametrize(
    "path",
    [
        "/static/000000000000/site.css",
        "/static/x/other.js",
        "/static/..%2f..%2fapp.py",
        "/static/x/..%2f..%2fapp.py",
    ],
)
def test_there_is_nothing_else(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 404
