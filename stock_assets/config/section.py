"""Base class of the sections of ``params.yaml``."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

PositiveInt = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, lt=1)]


class Section(BaseModel):
    """A section of ``params.yaml``: unknown keys are errors, and it is immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)
