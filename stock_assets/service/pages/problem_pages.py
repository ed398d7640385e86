"""Problems as pages: a person with a browser reads what a program is told."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stock_assets.service.app_state import AppState
from stock_assets.service.pages.rendering import render
from stock_assets.service.problems import PROBLEM, Problem
from stock_assets.service.response_cache import HTML


class ProblemPages:
    """Middleware: a problem becomes a page where HTML is asked for, as browsers do."""

    def __init__(self, app: ASGIApp, served: AppState) -> None:
        self._app, self._served = app, served

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and write a problem that comes back as a page."""
        if not _asks_for_a_page(scope):
            await self._app(scope, receive, send)
            return
        held: Message | None = None  # the beginning of a problem, until its body is there

        async def send_page(message: Message) -> None:
            nonlocal held
            if message["type"] == "http.response.start" and _is_problem(message):
                held = message
            elif held is None:
                await send(message)
            else:
                page = self._page(message["body"])
                headers = MutableHeaders(scope=held)
                headers["content-type"] = HTML
                headers["content-length"] = str(len(page))
                await send(held)
                await send({**message, "body": page})

        await self._app(scope, receive, send_page)

    def _page(self, problem: bytes) -> bytes:
        told = Problem.model_validate_json(problem)
        return render("problem.html", self._served, page="", problem=told).encode()


def _asks_for_a_page(scope: Scope) -> bool:
    """Whether it is a request of a browser's window, which names HTML among what it takes."""
    if scope["type"] != "http" or scope["method"] != "GET":
        return False
    return "text/html" in Headers(scope=scope).get("accept", "")


def _is_problem(start: Message) -> bool:
    return Headers(raw=start["headers"]).get("content-type") == PROBLEM
