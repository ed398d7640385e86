"""Settings of the service, from the command line and the environment."""

from __future__ import annotations

import ipaddress
import os
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from stock_assets.core.errors import StockAssetsError

VARIABLES = {
    "api_key": "STOCK_ASSETS_API_KEY",
    "allowed_hosts": "STOCK_ASSETS_ALLOWED_HOSTS",
    "trusted_proxies": "STOCK_ASSETS_TRUSTED_PROXIES",
    "requests_per_minute": "STOCK_ASSETS_REQUESTS_PER_MINUTE",
    "dagster_ui": "STOCK_ASSETS_DAGSTER_UI",
    "mlflow_ui": "STOCK_ASSETS_MLFLOW_UI",
}
"""The environment variable of each setting that is not on the command line."""

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


class ServiceSettings(BaseModel):
    """Settings of the service.

    ``host`` and ``port`` come from the command line, the others from :data:`VARIABLES`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field("127.0.0.1", description="address to listen on")
    port: Annotated[int, Field(ge=1, le=65535)] = Field(8000, description="port to listen on")
    api_key: SecretStr | None = Field(
        None,
        description="key that every request carries in the header `X-API-Key`, at least 16 ASCII "
        "characters; when empty, no key is required",
    )
    allowed_hosts: tuple[str, ...] = Field(
        (),
        description="accepted host names, comma-separated; when empty, those of this machine on "
        "a loopback address and any name on other addresses",
    )
    trusted_proxies: str = Field(
        "",
        description="addresses or networks whose `X-Forwarded-For` is trusted, comma-separated",
    )
    requests_per_minute: Annotated[int, Field(ge=1)] = Field(
        1200, description="requests that one client may send per minute"
    )
    dagster_ui: str | None = Field(
        None, description="address of the Dagster UI; when empty, links to it are not shown"
    )
    mlflow_ui: str | None = Field(
        None, description="address of the MLflow UI; when empty, links to it are not shown"
    )

    @field_validator("api_key")
    @classmethod
    def _is_long_enough(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and len(key.get_secret_value()) < 16:
            raise ValueError("a key has at least 16 characters")
        if key is not None and not key.get_secret_value().isascii():
            raise ValueError("a key has only ASCII characters")
        return key

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _is_split_at_commas(cls, hosts: object) -> object:
        if isinstance(hosts, str):
            return tuple(name.strip().lower() for name in hosts.split(",") if name.strip())
        return hosts

    @field_validator("trusted_proxies")
    @classmethod
    def _names_machines(cls, proxies: str) -> str:
        for proxy in filter(None, map(str.strip, proxies.split(","))):
            try:
                ipaddress.ip_network(proxy)
            except ValueError:  # "*" too: it would let any client choose its address
                raise ValueError("a proxy is an address or a network such as 10.0.0.0/8") from None
        return proxies

    @field_validator("dagster_ui", "mlflow_ui")
    @classmethod
    def _is_an_address(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("http://", "https://")):
            raise ValueError("an address starts with http:// or https://")
        return None if url is None else url.rstrip("/")

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def accepted_hosts(self) -> frozenset[str]:
        """Names accepted in ``Host``, without a port; empty for any."""
        if self.allowed_hosts or not self.is_loopback:
            return frozenset(self.allowed_hosts)
        return frozenset({*LOOPBACK_NAMES, self.host})

    @property
    def address(self) -> str:
        """URL of the service."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


def find_settings(host: str, port: int, *, allow_anyone: bool) -> ServiceSettings:
    """Read the settings from the environment.

    Parameters
    ----------
    host, port
        Address to listen on, from the command line.
    allow_anyone : bool
        Accept a public address without a key.

    Raises
    ------
    StockAssetsError
        A variable is invalid, or a public address has neither a key nor `allow_anyone`.
    """
    given = {
        name: value for name, variable in VARIABLES.items() if (value := os.environ.get(variable))
    }
    try:
        settings = ServiceSettings.model_validate({**given, "host": host, "port": port})
    except ValidationError as error:
        first = error.errors(include_input=False)[0]  # the input may be the key
        raise StockAssetsError(
            f"{VARIABLES[str(first['loc'][0])]}: {first['msg'].removeprefix('Value error, ')}",
            "Correct the variable; docs/configuration.md describes it",
        ) from None
    if not settings.is_loopback and settings.api_key is None and not allow_anyone:
        raise StockAssetsError(
            f"{host} is reachable from other machines and no key is set",
            f"Set {VARIABLES['api_key']} or add --allow-anyone",
        )
    return settings
