"""Problems as pages, for browsers."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stock_assets.service.app_state import AppState
from stock_assets.service.pages.rendering import render
from stock_assets.service.problems import PROBLEM, Problem


class ProblemPages:
    """Middleware: renders a problem as a page where the client accepts HTML."""

    def __init__(self, app: ASGIApp, state: AppState) -> None:
        self._app, self._state = app, state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if not _accepts_html(scope):
            await self._app(scope, receive, send)
            return
        start: Message | None = None  # of a problem, until its body follows

        async def send_page(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and _is_problem(message):
                start = message
            elif start is None:
                await send(message)
            else:
                problem = Problem.model_validate_json(message["body"])
                page = render("problem.html", self._state, page="", problem=problem)
                headers = MutableHeaders(scope=start)
                headers["content-type"] = page.headers["content-type"]
                headers["content-length"] = page.headers["content-length"]
                await send(start)
                await send({**message, "body": page.body})

        await self._app(scope, receive, send_page)


def _accepts_html(scope: Scope) -> bool:
    """Whether a request comes from a browser window, which accepts HTML by name."""
    if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
        return False
    return "text/html" in Headers(scope=scope).get("accept", "")


def _is_problem(start: Message) -> bool:
    return Headers(raw=start["headers"]).get("content-type") == PROBLEM
