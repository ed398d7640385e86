"""Who is answered, how often, and what browsers are told."""

from __future__ import annotations

import hmac
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine

from stock_assets.service.security import (
    CONTENT_SECURITY_POLICY,
    SECURITY_HEADERS,
    ClientRateLimiter,
    Guard,
    _client,
    _host_name,
)
from stock_assets.service.settings import ServiceSettings
from stock_assets_tests.service.conftest import begin_own

KEY = "the-key-of-these-tests"


def scope(path: str = "/tickers", client: str = "10.0.0.1", **headers: str) -> dict[str, Any]:
    told = [(k.replace("_", "-").encode(), v.encode("latin-1")) for k, v in headers.items()]
    return {
        **{"type": "http", "method": "GET", "path": path, "raw_path": path.encode()},
        **{"query_string": b"", "headers": told, "client": (client, 50000)},
    }


def status(guard: Guard, asked: dict[str, Any]) -> int:
    refused = guard._refusal(asked)
    return 200 if refused is None else refused.status_code


async def nobody(*_: Any) -> None:
    raise AssertionError


def guard(**settings: Any) -> Guard:
    return Guard(nobody, ServiceSettings(**settings))


def test_without_the_key_nothing_is_answered_but_the_probes():
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

    def noting(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", noting)
    assert status(guard(api_key=KEY), scope(host="localhost", x_api_key="no")) == 401
    assert compared == [(b"no", KEY.encode())]


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]", "[::1]:80"]
)
def test_the_names_of_this_machine_are_answered(host: str):
    assert status(guard(), scope(host=host)) == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost:x", "", "::1"]
)
def test_a_name_that_only_pretends_is_not(host: str):
    """A page elsewhere can point its own name at this machine: the name gives it away."""
    assert status(guard(), scope(host=host)) == 400


def test_beyond_this_machine_names_are_checked_if_they_are_given():
    assert status(guard(host="0.0.0.0"), scope(host="any.example")) == 200
    named = guard(host="0.0.0.0", allowed_hosts=("forecasts.example",))
    assert status(named, scope(host="forecasts.example:443")) == 200
    assert status(named, scope(host="localhost")) == 400


def test_who_asks_too_often_waits_and_others_do_not():
    limited = guard(host="0.0.0.0", requests_per_minute=3)
    assert [status(limited, scope()) for _ in range(5)] == [200, 200, 200, 429, 429]
    assert status(limited, scope(client="10.0.0.2")) == 200
    assert status(limited, scope("/healthz")) == 200
    refused = limited._refusal(scope())
    assert refused is not None
    assert 1 <= int(refused.headers["retry-after"]) <= 21


def test_wrong_keys_are_counted_too():
    limited = guard(host="0.0.0.0", api_key=KEY, requests_per_minute=2)
    assert [status(limited, scope(x_api_key="guess")) for _ in range(3)] == [401, 401, 429]


def test_an_allowance_fills_up_evenly_and_no_further():
    now = [0.0]
    pace = ClientRateLimiter(60, lambda: now[0])
    assert [pace.wait("me") for _ in range(60)] == [0.0] * 60
    assert pace.wait("me") == pytest.approx(1.0)
    now[0] += 0.75
    assert pace.wait("me") == pytest.approx(0.25)
    now[0] += 0.25
    assert pace.wait("me") == 0.0
    now[0] += 3600
    assert [pace.wait("me") for _ in range(61)].count(0.0) == 60


@given(st.lists(st.floats(0, 100), max_size=200), st.integers(1, 50))
def test_no_minute_sees_more_than_twice_the_allowance(steps: list[float], per_minute: int):
    now = [0.0]
    pace = ClientRateLimiter(per_minute, lambda: now[0])
    answered = []
    for step in steps:
        now[0] += step
        if pace.wait("me") == 0.0:
            answered.append(now[0])
    for start in answered:
        assert sum(start <= at < start + 60 for at in answered) <= 2 * per_minute


def test_only_so_many_clients_are_remembered():
    pace = ClientRateLimiter(1, lambda: 0.0)
    for number in range(20_000):
        pace.wait(str(number))
    assert len(pace._allowances) == 10_000


def test_a_client_with_a_whole_network_of_addresses_is_one_client():
    assert _client(scope(client="2001:db8:1:2:3::4")) == _client(scope(client="2001:db8:1:2:5::6"))
    assert _client(scope(client="2001:db8:1:2::4")) != _client(scope(client="2001:db8:1:3::4"))
    assert _client(scope(client="fe80::1%eth0")) == "fe80::/64"


@given(st.text(st.characters(codec="latin-1"), max_size=40))
def test_any_client_that_a_proxy_names_is_counted(client: str):
    assert status(guard(), scope(client=client, host="localhost")) == 200


@given(st.text(st.characters(codec="latin-1"), max_size=40))
def test_any_host_header_is_read(host: str):
    assert _host_name(host) == _host_name(host.upper()).lower() or not host.isascii()


def test_scripts_and_styles_come_from_here_alone():
    assert "default-src 'self'" in CONTENT_SECURITY_POLICY
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert not re.search(r"https?:|\*", CONTENT_SECURITY_POLICY)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "headers", "expected"),
    [
        ("/tickers", {}, 200),
        ("/tickers", {"If-None-Match": "*"}, 304),
        ("/none", {}, 404),
        ("/tickers?x=1", {}, 422),
        ("/tickers", {"Host": "evil.example"}, 400),
        ("/metrics", {}, 200),
        ("/healthz", {}, 200),
    ],
)
def test_every_answer_carries_the_headers(
    client: httpx.Client, path: str, headers: dict[str, str], expected: int
):
    answer = client.get(path, headers=headers)
    assert answer.status_code == expected
    for name, value in SECURITY_HEADERS.items():
        assert answer.headers[name] == value
    assert "server" not in answer.headers


@pytest.mark.slow
def test_a_service_with_a_key(engine: Engine, tmp_path: Path):
    settings = {"STOCK_ASSETS_API_KEY": KEY, "STOCK_ASSETS_REQUESTS_PER_MINUTE": "4"}
    with begin_own(engine, tmp_path, **settings) as service:
        with service.client() as client:
            refused = client.get("/tickers")
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == 'ApiKey header="X-API-Key"'
            assert refused.json()["title"] == "Unauthorized"
        with service.client(**{"X-API-Key": KEY}) as client:
            assert client.get("/tickers").status_code == 200
            # Whatever a stranger says of others that it asks for, it is counted as itself.
            for told in ("1.1.1.1", "2.2.2.2"):
                client.get("/tickers", headers={"X-Forwarded-For": told})
            limited = client.get("/tickers")
            assert limited.status_code == 429
            assert int(limited.headers["retry-after"]) >= 1
        assert KEY not in service.log.read_text()
