"""Access control, rate limits and security headers."""

from __future__ import annotations

import hmac
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stock_assets.service.problems import problem_response
from stock_assets.service.settings import ServiceSettings

KEY_HEADER = "X-API-Key"
PROBES = frozenset({"/healthz", "/readyz"})
"""Paths that supervisors request under any host name and without a key; they expose no data."""

_MAX_ADDRESS_LENGTH = 8192
_MAX_CLIENTS = 10_000

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' data:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class ResponseHeaders:
    """Middleware: adds :data:`SECURITY_HEADERS`, and ``Cache-Control`` where a route sets none."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(SECURITY_HEADERS)
                headers.setdefault("Cache-Control", "no-cache")
            await send(message)

        await self._app(scope, receive, send_with_headers)


class Guard:
    """Middleware: rejects requests that must not reach a route."""

    def __init__(self, app: ASGIApp, settings: ServiceSettings) -> None:
        self._app = app
        self._hosts = settings.accepted_hosts
        key = settings.api_key
        self._key = None if key is None else key.get_secret_value().encode()
        self._limiter = ClientRateLimiter(settings.requests_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        rejection = self._rejection(scope) if scope["type"] == "http" else None
        await (rejection or self._app)(scope, receive, send)

    def _rejection(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if len(scope["raw_path"]) + len(scope["query_string"]) > _MAX_ADDRESS_LENGTH:
            return problem_response(414, f"an address has at most {_MAX_ADDRESS_LENGTH} characters")
        if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
            return problem_response(
                413, "requests must not have a body", headers={"Connection": "close"}
            )
        if scope["path"] in PROBES:
            return None
        if self._hosts and _host_name(headers.get("host", "")) not in self._hosts:
            return problem_response(400, "the host name is not accepted")
        if (wait := self._limiter.wait(_client(scope))) > 0:
            return problem_response(
                429, "too many requests", headers={"Retry-After": str(int(wait) + 1)}
            )
        if self._key is not None:
            given = headers.get(KEY_HEADER, "").encode("latin-1")
            if not hmac.compare_digest(given, self._key):
                challenge = {"WWW-Authenticate": f'ApiKey header="{KEY_HEADER}"'}
                return problem_response(
                    401, f"the header {KEY_HEADER} is required", headers=challenge
                )
        return None


def _host_name(host: str) -> str:
    """Return the name of a ``Host`` header in lower case, without the port."""
    name, separator, port = host.lower().rpartition(":")
    return name if separator and port.isdigit() and not name.endswith(":") else host.lower()


def _client(scope: Scope) -> str:
    """Return the IPv4 address of a client, or the /64 network of its IPv6 address."""
    host: str = (scope.get("client") or ("",))[0]
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:  # not an address
        return host
    return host if address.version == 4 else str(ipaddress.ip_network((address, 64), strict=False))


class ClientRateLimiter:
    """Limits each client to a rate, after a burst of one minute's requests (a token bucket).

    The state of a client is the time at which its bucket is full again (the generic cell rate
    algorithm, ITU-T I.371). Only the 10,000 clients that sent a request last are remembered.

    Parameters
    ----------
    per_minute : int
        Requests of one client per minute, and at once after a pause.
    now : callable
        Monotonic seconds.
    """

    def __init__(self, per_minute: int, now: Callable[[], float] = time.monotonic) -> None:
        self._interval, self._now = 60 / per_minute, now
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def wait(self, client: str) -> float:
        """Count a request; return the seconds to wait, 0 where it may be answered."""
        now = self._now()
        full_at = max(self._full_at.pop(client, now), now)
        wait = full_at + self._interval - now - 60
        accepted = wait < self._interval / 100  # of rounding errors
        self._full_at[client] = full_at + self._interval if accepted else full_at
        if len(self._full_at) > _MAX_CLIENTS:
            self._full_at.popitem(last=False)
        return 0.0 if accepted else wait
