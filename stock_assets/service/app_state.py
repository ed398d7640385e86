"""What every request is answered from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Query, Request
from pydantic import BaseModel, ConfigDict
from sqlalchemy import Engine

from stock_assets.config import Params
from stock_assets.service.response_cache import ResponseCache
from stock_assets.service.settings import ServiceSettings


@dataclass(frozen=True)
class AppState:
    """The running service: its database, parameters, settings and answers given before.

    ``engine`` is connected as a role that cannot write.
    """

    engine: Engine
    params: Params
    settings: ServiceSettings
    answers: ResponseCache


async def served_by(request: Request) -> AppState:
    """Give what the application of this request serves."""
    served: AppState = request.app.state.served
    return served


AppStateDependency = Annotated[AppState, Depends(served_by)]


class QueryParams(BaseModel):
    """Query parameters of a route; any that it does not name are refused.

    A route that takes some names a subclass, ``asked: Annotated[..., Query()]``; one that takes
    none has the dependencies :data:`TAKES_NOTHING`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


async def asked_nothing(asked: Annotated[QueryParams, Query()]) -> QueryParams:
    """Refuse every query parameter."""
    return asked


TAKES_NOTHING = [Depends(asked_nothing)]
"""For ``dependencies=`` of a route without query parameters."""
