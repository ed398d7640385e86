"""Where the service listens and whom it answers: from the command line and the environment."""

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
    "cache_megabytes": "STOCK_ASSETS_CACHE_MEGABYTES",
    "dagster_ui": "STOCK_ASSETS_DAGSTER_UI",
    "mlflow_ui": "STOCK_ASSETS_MLFLOW_UI",
}
"""The environment variable of each setting that is not on the command line."""

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


class ServiceSettings(BaseModel):
    """How the service is offered.

    ``host`` and ``port`` come from the command line, each other field from its variable in
    :data:`VARIABLES`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field("127.0.0.1", description="address to listen on")
    port: Annotated[int, Field(ge=1, le=65535)] = Field(8000, description="port to listen on")
    api_key: SecretStr | None = Field(
        None,
        description="what every request must carry in the header `X-API-Key`, 16 characters or "
        "more; nothing is asked for when empty",
    )
    allowed_hosts: tuple[str, ...] = Field(
        (),
        description="names under which the service is reached, with commas between them; when "
        "empty, those of this machine on a loopback address, and any on others",
    )
    trusted_proxies: str = Field(
        "",
        description="addresses or networks, with commas between them, whose `X-Forwarded-For` is "
        "believed",
    )
    requests_per_minute: Annotated[int, Field(ge=1)] = Field(
        1200, description="what one client may ask; as many at once after a pause"
    )
    cache_megabytes: Annotated[int, Field(ge=1)] = Field(
        64, description="room for answers that are given again while nothing has changed"
    )
    dagster_ui: str | None = Field(
        None, description="address of the Dagster UI, for links; none are shown when empty"
    )
    mlflow_ui: str | None = Field(
        None, description="address of the MLflow UI, for links; none are shown when empty"
    )

    @field_validator("api_key")
    @classmethod
    def _is_long_enough(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and len(key.get_secret_value()) < 16:
            raise ValueError("a key needs 16 characters or more")
        if key is not None and not key.get_secret_value().isascii():
            raise ValueError("a key is made of ASCII characters, as headers are")
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
            except ValueError:  # "*" too: with it everyone could be whom they like
                raise ValueError("a proxy is an address or a network, as 10.0.0.0/8") from None
        return proxies

    @field_validator("dagster_ui", "mlflow_ui")
    @classmethod
    def _is_an_address(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("http://", "https://")):
            raise ValueError("an address begins with http:// or https://")
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
    def answered_hosts(self) -> frozenset[str]:
        """Names that a request may give in ``Host``, without a port; empty for any."""
        if self.allowed_hosts or not self.is_loopback:
            return frozenset(self.allowed_hosts)
        return frozenset({*LOOPBACK_NAMES, self.host})

    @property
    def address(self) -> str:
        """Where a browser finds the service."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


def find_settings(host: str, port: int, *, allow_anyone: bool) -> ServiceSettings:
    """Read the settings from the environment.

    Parameters
    ----------
    host, port
        Where to listen, from the command line.
    allow_anyone : bool
        Answer everyone who can reach an address beyond this machine.

    Raises
    ------
    StockAssetsError
        A variable is wrong, or the address is reachable from other machines and there is neither
        a key nor `allow_anyone`.
    """
    told = {
        name: value for name, variable in VARIABLES.items() if (value := os.environ.get(variable))
    }
    try:
        settings = ServiceSettings.model_validate({**told, "host": host, "port": port})
    except ValidationError as error:
        first = error.errors(include_input=False)[0]  # the input may be the key
        raise StockAssetsError(
            f"{VARIABLES[str(first['loc'][0])]}: {first['msg'].removeprefix('Value error, ')}",
            "Correct this variable; docs/configuration.md lists all of them",
        ) from None
    if not settings.is_loopback and settings.api_key is None and not allow_anyone:
        raise StockAssetsError(
            f"{host} can be reached from other machines, and no key is asked for",
            f"Set {VARIABLES['api_key']}, or say --allow-anyone",
        )
    return settings
