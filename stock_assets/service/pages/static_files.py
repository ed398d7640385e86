"""What browsers keep: the stylesheet, the scripts and plotly.js, under names that change with them.

An address holds a digest of its content (plotly.js its version), so that a browser may keep it for
good, and a new release is a new address.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.resources import files

from fastapi import APIRouter, HTTPException, Request, Response

from stock_assets.service.response_cache import accepts_gzip

PLOTLY = "plotly.min.js"

_OURS = ("site.css", "theme.js", "table.js", "charts.js")
_KEPT = "public, max-age=31536000, immutable"
_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}

# plotly.js brings the stylesheet of its maps along, and adds it to the page unless an element with
# this id, a digest of that stylesheet, is there already.
_STYLE_GUARD = re.compile(rb'document\.getElementById\("([0-9a-f]{64})"\)')

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True)
class StaticFile:
    """A file as it is sent: its address, type and bytes, plain and with gzip."""

    address: str
    media_type: str
    plain: bytes
    packed: bytes


@router.get("/static/{revision}/{name}")
def static_file(revision: str, name: str, request: Request) -> Response:
    """Send a static file, to be kept for good."""
    found = static_files().get(name)
    if found is None or found.address != f"/static/{revision}/{name}":
        raise HTTPException(404, "There is no such file")
    headers = {"Cache-Control": _KEPT, "Vary": "Accept-Encoding"}
    if not accepts_gzip(request.headers.get("accept-encoding", "")):
        return Response(found.plain, media_type=found.media_type, headers=headers)
    headers["Content-Encoding"] = "gzip"
    return Response(found.packed, media_type=found.media_type, headers=headers)


@cache
def static_files() -> dict[str, StaticFile]:
    """Read every static file once, by name."""
    folder = files("stock_assets.service") / "static"
    ours = {name: (folder / name).read_bytes() for name in _OURS}
    plotly = {PLOTLY: plotly_script()}
    revisions = {name: hashlib.sha256(content).hexdigest()[:12] for name, content in ours.items()}
    revisions[PLOTLY] = f"plotly-{version('plotly')}"
    return {
        name: StaticFile(
            address=f"/static/{revisions[name]}/{name}",
            media_type=_TYPES[name.rpartition(".")[2]],
            plain=content,
            packed=gzip.compress(content, mtime=0),
        )
        for name, content in (ours | plotly).items()
    }


@cache
def plotly_script() -> bytes:
    """Read plotly.js from the installed package, without importing it."""
    return (files("plotly") / "package_data" / PLOTLY).read_bytes()


@cache
def plotly_style_ids() -> tuple[str, ...]:
    """Ids under which plotly.js would add stylesheets that no chart here needs."""
    return tuple(sorted({found.decode() for found in _STYLE_GUARD.findall(plotly_script())}))
