"""The two ways the graph is divided: trading days and datasets."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, date, datetime, time, timedelta
from itertools import count

import dagster as dg

from stock_assets.config import Params, load_params
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.locations import find_locations
from stock_assets.market import calendar

NEW_YORK = "America/New_York"
DATE_FORMAT = "%Y-%m-%d"

datasets = dg.DynamicPartitionsDefinition(name="datasets")
"""Keys are dataset ids: ``YYYYMMDD_HHMMSS``, the as-of session and the UTC time of the request."""


def _trading_days(params: Params) -> dg.TimeWindowPartitionsDefinition:
    """One partition per exchange session since ``prices.first_session``, today's included."""
    first, (_, horizon) = params.prices.first_session, calendar.HORIZON
    closed = calendar.closures(first, horizon)
    return dg.TimeWindowPartitionsDefinition(
        cron_schedule="0 0 * * *",
        start=datetime.combine(first, time()),
        fmt=DATE_FORMAT,
        timezone=NEW_YORK,
        end_offset=1,
        exclusions=["0 0 * * 6,0", *(datetime.combine(day, time()) for day in closed)],
    )


_params = load_params(find_locations().params_file)

trading_days = _trading_days(_params)
"""Keys are sessions, ``YYYY-MM-DD``: there is no partition for a day without one."""

forecast_sessions = dg.TimeWindowPartitionMapping(
    start_offset=-_params.dataset.prediction_length, end_offset=-1
)
"""From a session to those before it whose forecasts reach it."""


def session_key(session: date) -> str:
    """Partition key of a session."""
    return session.strftime(DATE_FORMAT)


def key_session(key: str) -> date:
    """Session of a trading-day partition key."""
    return date.fromisoformat(key)


def new_dataset_id(as_of: date, requested: datetime, taken: Collection[str] = ()) -> str:
    """Name the dataset that ends at `as_of` and was requested at a moment in UTC.

    Where the name is taken (the same second of another day), the next free second gives it.

    Examples
    --------
    >>> new_dataset_id(date(2012, 12, 31), datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    '20121231_030405'
    """
    moments = (requested.astimezone(UTC) + timedelta(seconds=later) for later in count())
    names = (f"{as_of:%Y%m%d}_{moment:%H%M%S}" for moment in moments)
    return next(name for name in names if name not in taken)


def dataset_as_of(dataset_id: str) -> date:
    """Give the as-of session that a dataset id begins with.

    Raises
    ------
    StockAssetsError
        The id has another shape, or names a day without a session.
    """
    try:
        if not re.fullmatch(r"\d{8}_\d{6}", dataset_id):
            raise ValueError
        as_of = datetime.strptime(dataset_id, "%Y%m%d_%H%M%S").date()
    except ValueError:
        raise StockAssetsError(
            f"{dataset_id!r} is not a dataset id",
            "Write YYYYMMDD_HHMMSS: the as-of session and a UTC time, such as 20121231_183000",
        ) from None
    return calendar.require_session(as_of)
