"""Access control, rate limits and security headers."""

from __future__ import annotations

import hmac
import re
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine

from stock_assets.service.app import create_app
from stock_assets.service.security import (
    CONTENT_SECURITY_POLICY,
    SECURITY_HEADERS,
    ClientRateLimiter,
    Guard,
    _client,
    _host_name,
)
from stock_assets.service.settings import ServiceSettings
from stock_assets_tests.service.conftest import send, state_for

KEY = "the-key-of-these-tests"


def scope(path: str = "/tickers", client: str = "10.0.0.1", **headers: str) -> dict[str, Any]:
    sent = [(k.replace("_", "-").encode(), v.encode("latin-1")) for k, v in headers.items()]
    return {
        **{"type": "http", "method": "GET", "path": path, "raw_path": path.encode()},
        **{"query_string": b"", "headers": sent, "client": (client, 50000)},
    }


def status(guard: Guard, request: dict[str, Any]) -> int:
    rejection = guard._rejection(request)
    return 200 if rejection is None else rejection.status_code


async def never_called(*_: Any) -> None:
    raise AssertionError


def guard(**settings: Any) -> Guard:
    return Guard(never_called, ServiceSettings(**settings))


def test_key_is_required_except_for_probes():
    keyed = guard(host="0.0.0.0", api_key=KEY)
    assert status(keyed, scope()) == 401
    assert status(keyed, scope(x_api_key=KEY[:-1])) == 401
    assert status(keyed, scope(x_api_key=KEY + "x")) == 401
    assert status(keyed, scope(x_api_key="ÿ" * 20)) == 401
    assert status(keyed, scope(x_api_key=KEY)) == 200
    assert status(keyed, scope("/metrics")) == 401
    for probe in ("/healthz", "/readyz"):
        assert status(keyed, scope(probe)) == 200


def test_keys_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch):
    compared: list[tuple[bytes, bytes]] = []
    real = hmac.compare_digest

    def spy(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", spy)
    assert status(guard(api_key=KEY), scope(host="localhost", x_api_key="no")) == 401
    assert compared == [(b"no", KEY.encode())]


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]", "[::1]:80"]
)
def test_names_of_this_machine_are_accepted(host: str):
    assert status(guard(), scope(host=host)) == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost:x", "", "::1"]
)
def test_other_host_names_are_rejected(host: str):
    """DNS rebinding: a foreign page can point its own name at this machine."""
    assert status(guard(), scope(host=host)) == 400


def test_public_address_checks_only_configured_host_names():
    assert status(guard(host="0.0.0.0"), scope(host="any.example")) == 200
    named = guard(host="0.0.0.0", allowed_hosts=("forecasts.example",))
    assert status(named, scope(host="forecasts.example:443")) == 200
    assert status(named, scope(host="localhost")) == 400


def test_rate_limit_applies_to_each_client_and_not_to_probes():
    limited = guard(host="0.0.0.0", requests_per_minute=3)
    assert [status(limited, scope()) for _ in range(5)] == [200, 200, 200, 429, 429]
    assert status(limited, scope(client="10.0.0.2")) == 200
    assert status(limited, scope("/healthz")) == 200
    rejection = limited._rejection(scope())
    assert rejection is not None
    assert 1 <= int(rejection.headers["retry-after"]) <= 60


def test_rate_limit_counts_wrong_keys():
    limited = guard(host="0.0.0.0", api_key=KEY, requests_per_minute=2)
    assert [status(limited, scope(x_api_key="guess")) for _ in range(3)] == [401, 401, 429]


@pytest.mark.parametrize("start", [0.0, 59.5, 1e7 + 0.1])
def test_rate_limit_refills_evenly(start: float):
    now = [start]
    limiter = ClientRateLimiter(60, lambda: now[0])
    assert [limiter.wait("a") for _ in range(60)] == [0.0] * 60
    assert limiter.wait("a") == pytest.approx(1.0)
    now[0] += 0.75
    assert limiter.wait("a") == pytest.approx(0.25)
    now[0] += 0.25
    assert limiter.wait("a") == 0.0
    now[0] += 3600
    assert [limiter.wait("a") for _ in range(61)].count(0.0) == 60


@given(st.integers(1, 2000), st.floats(0, 1e7))
def test_a_burst_is_exactly_the_limit(per_minute: int, start: float):
    limiter = ClientRateLimiter(per_minute, lambda: start)
    assert [limiter.wait("a") for _ in range(per_minute + 1)].count(0.0) == per_minute


def test_only_the_latest_clients_are_remembered():
    limiter = ClientRateLimiter(1, lambda: 0.0)
    for number in range(10_001):
        limiter.wait(str(number))
    assert len(limiter._full_at) == 10_000
    assert limiter.wait("10000") > 0
    assert limiter.wait("0") == 0.0


@given(st.lists(st.floats(0, 100), max_size=200), st.integers(1, 50))
def test_no_minute_exceeds_twice_the_limit(steps: list[float], per_minute: int):
    now = [0.0]
    limiter = ClientRateLimiter(per_minute, lambda: now[0])
    accepted = []
    for step in steps:
        now[0] += step
        if limiter.wait("a") == 0.0:
            accepted.append(now[0])
    for start in accepted:
        assert sum(start <= at < start + 60 for at in accepted) <= 2 * per_minute


def test_ipv6_network_is_one_client():
    assert _client(scope(client="2001:db8:1:2:3::4")) == _client(scope(client="2001:db8:1:2:5::6"))
    assert _client(scope(client="2001:db8:1:2::4")) != _client(scope(client="2001:db8:1:3::4"))
    assert _client(scope(client="fe80::1%eth0")) == "fe80::/64"


@given(st.text(st.characters(codec="latin-1"), max_size=40))
def test_any_client_address_is_accepted(client: str):
    assert status(guard(), scope(client=client, host="localhost")) == 200


@given(st.text(st.characters(codec="latin-1"), max_size=40))
def test_any_host_header_is_parsed(host: str):
    assert _host_name(host) == _host_name(host.upper()).lower() or not host.isascii()


def test_policy_allows_only_own_scripts_and_styles():
    assert "default-src 'self'" in CONTENT_SECURITY_POLICY
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert not re.search(r"https?:|\*", CONTENT_SECURITY_POLICY)


@pytest.mark.parametrize(
    ("path", "headers", "expected"),
    [
        ("/tickers", {}, 200),
        ("/none", {}, 404),
        ("/tickers?x=1", {}, 422),
        ("/tickers", {"Host": "evil.example"}, 400),
        ("/metrics", {}, 200),
        ("/healthz", {}, 200),
    ],
)
def test_every_response_has_the_security_headers(
    client: httpx.Client, path: str, headers: dict[str, str], expected: int
):
    response = client.get(path, headers=headers)
    assert response.status_code == expected
    for name, value in SECURITY_HEADERS.items():
        assert response.headers[name] == value
    assert "server" not in response.headers


def test_service_with_a_key(engine: Engine):
    app = create_app(state_for(engine, api_key=KEY))
    rejected = send(app, "/tickers")
    assert rejected.status_code == 401
    assert rejected.headers["www-authenticate"] == 'ApiKey header="X-API-Key"'
    assert rejected.headers["content-type"] == "application/problem+json"
    assert send(app, "/tickers", **{"X-API-Key": KEY}).status_code == 200
