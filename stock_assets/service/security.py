"""Who is answered, how often, and what browsers are told about every answer."""

from __future__ import annotations

import hmac
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stock_assets.service.problems import problem_response
from stock_assets.service.settings import ServiceSettings

KEY_HEADER = "X-API-Key"
PROBES = frozenset({"/healthz", "/readyz"})
"""Paths that supervisors ask, by any name and without a key; they tell nothing of the data."""

_LONGEST_ADDRESS = 8192
_CLIENTS = 10_000

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


class SecurityHeaders:
    """Middleware: every answer carries :data:`SECURITY_HEADERS`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and complete its answer."""

        async def complete(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers[name] = value
            await send(message)

        await self._app(scope, receive, complete)


class Guard:
    """Middleware: refuses what is not to be answered, before anything else looks at it."""

    def __init__(self, app: ASGIApp, settings: ServiceSettings) -> None:
        self._app = app
        self._hosts = settings.answered_hosts
        key = settings.api_key
        self._key = None if key is None else key.get_secret_value().encode()
        self._pace = ClientRateLimiter(settings.requests_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer with the problem that it has."""
        refused = self._refusal(scope) if scope["type"] == "http" else None
        await (refused or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if len(scope["raw_path"]) + len(scope["query_string"]) > _LONGEST_ADDRESS:
            return problem_response(414, f"an address has at most {_LONGEST_ADDRESS} characters")
        if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
            return problem_response(
                413, "nothing here takes a body", headers={"Connection": "close"}
            )
        if scope["path"] in PROBES:
            return None
        if self._hosts and _host_name(headers.get("host", "")) not in self._hosts:
            return problem_response(400, "this host is not known by that name")
        if (wait := self._pace.wait(_client(scope))) > 0:
            after = {"Retry-After": str(int(wait) + 1)}
            return problem_response(429, "too many requests", headers=after)
        if self._key is not None:
            given = headers.get(KEY_HEADER, "").encode("latin-1")
            if not hmac.compare_digest(given, self._key):
                challenge = {"WWW-Authenticate": f'ApiKey header="{KEY_HEADER}"'}
                return problem_response(
                    401, f"the header {KEY_HEADER} is needed", headers=challenge
                )
        return None


def _host_name(host: str) -> str:
    """Give a ``Host`` header without its port, in lower case."""
    name, separator, port = host.lower().rpartition(":")
    return name if separator and port.isdigit() and not name.endswith(":") else host.lower()


def _client(scope: Scope) -> str:
    """Say who asks: an IPv4 address, or the network that an IPv6 address was chosen from."""
    host: str = (scope.get("client") or ("",))[0]
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:  # as a proxy wrote it
        return host
    return host if address.version == 4 else str(ipaddress.ip_network((address, 64), strict=False))


@dataclass
class _Allowance:
    left: float
    at: float


class ClientRateLimiter:
    """What each client may still ask: an allowance that fills up evenly (a token bucket).

    Parameters
    ----------
    per_minute : int
        Requests that the allowance grows by in a minute, and the most that it holds.
    now : callable
        Seconds that never go back.
    """

    def __init__(self, per_minute: int, now: Callable[[], float] = time.monotonic) -> None:
        self._most, self._per_second = float(per_minute), per_minute / 60
        self._now = now
        self._allowances: OrderedDict[str, _Allowance] = OrderedDict()

    def wait(self, client: str) -> float:
        """Take one request from a client's allowance; seconds to wait where nothing is left."""
        now = self._now()
        allowance = self._allowances.setdefault(client, _Allowance(self._most, now))
        self._allowances.move_to_end(client)
        if len(self._allowances) > _CLIENTS:
            self._allowances.popitem(last=False)
        grown = allowance.left + (now - allowance.at) * self._per_second
        allowance.left, allowance.at = min(self._most, grown), now
        if allowance.left < 1:
            return (1 - allowance.left) / self._per_second
        allowance.left -= 1
        return 0.0
