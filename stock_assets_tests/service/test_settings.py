"""Settings of the service from the environment."""

from __future__ import annotations

import pytest

from stock_assets.core.errors import StockAssetsError
from stock_assets.service.settings import ServiceSettings, find_settings

KEY = "a key of length 18"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_address_needs_no_key(host: str):
    assert find_settings(host, 8000, allow_anyone=False).is_loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "forecasts.example"])
def test_public_address_needs_a_key(host: str, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(StockAssetsError) as caught:
        find_settings(host, 8000, allow_anyone=False)
    assert "STOCK_ASSETS_API_KEY" in caught.value.remedy
    assert "--allow-anyone" in caught.value.remedy
    assert find_settings(host, 8000, allow_anyone=True).api_key is None
    monkeypatch.setenv("STOCK_ASSETS_API_KEY", KEY)
    settings = find_settings(host, 8000, allow_anyone=False)
    assert settings.api_key is not None
    assert KEY not in repr(settings)


def test_settings_are_read_from_variables(monkeypatch: pytest.MonkeyPatch):
    for name, value in {
        "API_KEY": KEY,
        "ALLOWED_HOSTS": "Forecasts.Example, 10.0.0.1,",
        "TRUSTED_PROXIES": "10.0.0.1, 10.1.0.0/16,",
        "REQUESTS_PER_MINUTE": "60",
        "DAGSTER_UI": "https://dagster.example/",
        "MLFLOW_UI": "http://127.0.0.1:5000",
    }.items():
        monkeypatch.setenv(f"STOCK_ASSETS_{name}", value)
    found = find_settings("::1", 8001, allow_anyone=False)
    assert found.allowed_hosts == ("forecasts.example", "10.0.0.1")
    assert (found.trusted_proxies, found.requests_per_minute) == ("10.0.0.1, 10.1.0.0/16,", 60)
    assert found.dagster_ui == "https://dagster.example"
    assert found.mlflow_ui == "http://127.0.0.1:5000"
    assert found.address == "http://[::1]:8001"


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("API_KEY", "secret", "16 characters"),
        ("API_KEY", "schlüssel mit umlaut", "ASCII"),
        ("REQUESTS_PER_MINUTE", "0", "greater than or equal to 1"),
        ("REQUESTS_PER_MINUTE", "many", "valid integer"),
        ("MLFLOW_UI", "javascript:alert(1)", "http://"),
        ("TRUSTED_PROXIES", "*", "an address or a network"),
        ("TRUSTED_PROXIES", "10.0.0.1,10.0.0.1/8", "an address or a network"),
    ],
)
def test_invalid_variable_is_named_without_its_value(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, problem: str
):
    monkeypatch.setenv(f"STOCK_ASSETS_{name}", value)
    with pytest.raises(StockAssetsError, match=rf"STOCK_ASSETS_{name}: .*{problem}") as caught:
        find_settings("127.0.0.1", 8000, allow_anyone=False)
    assert "secret" not in str(caught.value)


def test_accepted_hosts_default_to_this_machine():
    assert ServiceSettings().accepted_hosts == {"localhost", "127.0.0.1", "[::1]"}
    given = ServiceSettings(allowed_hosts=("forecasts.example",))
    assert given.accepted_hosts == {"forecasts.example"}
    assert not ServiceSettings(host="0.0.0.0").accepted_hosts
