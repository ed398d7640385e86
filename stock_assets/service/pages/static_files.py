"""Static files: the stylesheet, the scripts and plotly.js.

An address carries a digest of its file (of plotly.js the version), so browsers cache it forever.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Response
from starlette.staticfiles import StaticFiles

OWN_FILES = ("site.css", "theme.js", "table.js", "charts.js")
PLOTLY = "plotly.min.js"

# plotly.js adds the stylesheet of its maps to a page, in an element with this id, a digest of the
# stylesheet, unless such an element exists.
_STYLE_ID = re.compile(rb'document\.getElementById\("([0-9a-f]{64})"\)')


class _CachedFiles(StaticFiles):
    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response


def mount_static_files(app: FastAPI) -> None:
    """Serve the files of this package and of plotly."""
    app.mount("/static/plotly", _CachedFiles(packages=[("plotly", "package_data")]))
    app.mount("/static", _CachedFiles(packages=[("stock_assets.service", "static")]))


@cache
def static_addresses() -> dict[str, str]:
    """Return the address of each file by name."""
    folder = files("stock_assets.service") / "static"
    digests = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()[:12] for name in OWN_FILES
    }
    own = {name: f"/static/{name}?v={digest}" for name, digest in digests.items()}
    return {**own, PLOTLY: f"/static/plotly/{PLOTLY}?v={version('plotly')}"}


@cache
def plotly_style_ids() -> tuple[str, ...]:
    """Return the ids of the stylesheets that plotly.js would add and no chart here needs.

    The content security policy forbids such stylesheets.
    """
    script = (files("plotly") / "package_data" / PLOTLY).read_bytes()
    return tuple(sorted({found.decode() for found in _STYLE_ID.findall(script)}))
