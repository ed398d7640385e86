"""From a template and what a page found to its HTML."""

from __future__ import annotations

import json
from functools import cache
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from stock_assets.service.app_state import AppState
from stock_assets.service.links import links_of
from stock_assets.service.pages import formatting
from stock_assets.service.pages.static_files import plotly_style_ids, static_files


def render(template: str, served: AppState, **found: Any) -> str:
    """Fill a template with what a page found."""
    return templates().get_template(template).render(links=links_of(served), **found)


@cache
def templates() -> Environment:
    """Give the templates: every value is escaped, and a missing one is an error."""
    environment = Environment(
        loader=PackageLoader("stock_assets.service"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= formatting.FILTERS | {"json": as_json}
    environment.globals |= {
        "static": {name: file.address for name, file in static_files().items()},
        "plotly_style_ids": plotly_style_ids(),
    }
    return environment


def as_json(value: Any) -> Markup:
    """Write a value as JSON that may stand in an element of a page; NaN is an error."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - nothing in it ends the element


def address(path: str, **parameters: Any) -> str:
    """Give the address of a page; parameters that are None are left out."""
    told = {name: value for name, value in parameters.items() if value is not None}
    return f"{path}?{urlencode(told)}" if told else path


def ticker_address(ticker: str, **parameters: Any) -> str:
    """Give the address of a ticker's page."""
    return address(f"/ticker/{quote(ticker, safe='')}", **parameters)
