"""Templates and the values they show."""

from __future__ import annotations

import json
from functools import cache
from typing import Any
from urllib.parse import quote, urlencode

from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from stock_assets.service.app_state import AppState
from stock_assets.service.links import links_for
from stock_assets.service.pages import formatting
from stock_assets.service.pages.static_files import plotly_style_ids, static_addresses


def render(template: str, state: AppState, **values: Any) -> HTMLResponse:
    """Render a template as a page."""
    text = templates().get_template(template).render(links=links_for(state), **values)
    return HTMLResponse(text)


@cache
def templates() -> Environment:
    """Return the templates: values are escaped, and an undefined one is an error."""
    environment = Environment(
        loader=PackageLoader("stock_assets.service"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= formatting.FILTERS | {"json": as_json}
    environment.globals |= {
        "static": static_addresses(),
        "plotly_style_ids": plotly_style_ids(),
        "ticker_address": ticker_address,
    }
    return environment


def as_json(value: Any) -> Markup:
    """Format a value as JSON inside an element of a page; NaN is an error."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - no character of it can end the element


def address(path: str, **parameters: Any) -> str:
    """Return the address of a page; parameters that are None are omitted."""
    given = {name: value for name, value in parameters.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path


def ticker_address(ticker: str, **parameters: Any) -> str:
    """Return the address of the page of a ticker."""
    return address(f"/ticker/{quote(ticker, safe='')}", **parameters)
