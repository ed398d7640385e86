"""Rows of forecasts and scores that are not those of a model in shadow.

A row without a role was written before there were shadows.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement

OF_PRODUCTION = "role IS DISTINCT FROM 'shadow'"
"""Condition on ``predictions`` or ``model_performance_log``, as SQL."""


def of_production(columns: Any) -> ColumnElement[bool]:
    """Return the same condition on the columns of a table or of an alias."""
    condition: ColumnElement[bool] = columns.role.is_distinct_from("shadow")
    return condition
