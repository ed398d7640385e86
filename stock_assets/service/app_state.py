"""The state that every request handler reads, and the parameters that a route accepts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Query, Request
from pydantic import BaseModel, ConfigDict
from sqlalchemy import Engine

from stock_assets.config import Params
from stock_assets.service.settings import ServiceSettings


@dataclass(frozen=True)
class AppState:
    """State of the running application.

    Attributes
    ----------
    engine : Engine
        The ``stock_assets`` database, with a role that cannot write.
    params : Params
        The parameters of ``params.yaml``.
    settings : ServiceSettings
        Address, access and links.
    """

    engine: Engine
    params: Params
    settings: ServiceSettings

    @property
    def model_name(self) -> str:
        """The registered model in use, as for ``stock-assets status``."""
        return self.params.tracking.model_name


async def get_state(request: Request) -> AppState:
    """Return the state of the application that received a request."""
    state: AppState = request.app.state.service
    return state


StateDep = Annotated[AppState, Depends(get_state)]


class QueryParams(BaseModel):
    """Query parameters of a route; unknown ones are rejected.

    A route with parameters takes a subclass, ``query: Annotated[..., Query()]``; a route without
    parameters has the dependencies :data:`NO_PARAMS`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


async def _reject_params(query: Annotated[QueryParams, Query()]) -> QueryParams:
    return query


NO_PARAMS = [Depends(_reject_params)]
"""``dependencies=`` of a route without query parameters."""
