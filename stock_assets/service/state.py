"""What every request is answered from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Query, Request
from pydantic import BaseModel, ConfigDict
from sqlalchemy import Engine

from stock_assets.config import Params
from stock_assets.service.answers import Answers
from stock_assets.service.settings import ServiceSettings


@dataclass(frozen=True)
class Served:
    """The running service: its database, parameters, settings and answers given before.

    ``engine`` is connected as a role that cannot write.
    """

    engine: Engine
    params: Params
    settings: ServiceSettings
    answers: Answers


async def served_by(request: Request) -> Served:
    """Give what the application of this request serves."""
    served: Served = request.app.state.served
    return served


ServedBy = Annotated[Served, Depends(served_by)]


class Asked(BaseModel):
    """Query parameters of a route; any that it does not name are refused.

    A route that takes some names a subclass, ``asked: Annotated[..., Query()]``; one that takes
    none has the dependencies :data:`TAKES_NOTHING`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


async def asked_nothing(asked: Annotated[Asked, Query()]) -> Asked:
    """Refuse every query parameter."""
    return asked


TAKES_NOTHING = [Depends(asked_nothing)]
"""For ``dependencies=`` of a route without query parameters."""
