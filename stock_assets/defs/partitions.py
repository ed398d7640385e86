"""The two partitionings of the graph: trading days and datasets."""

from datetime import date, datetime, time

import dagster as dg

from stock_assets.config import Params
from stock_assets.market import calendar

DATE_FORMAT = "%Y-%m-%d"

datasets = dg.DynamicPartitionsDefinition(name="datasets")
"""Keys are dataset ids: ``YYYYMMDD_HHMMSS``, the as-of session and the UTC time of the request."""


def trading_days(params: Params) -> dg.TimeWindowPartitionsDefinition:
    """Return one partition per exchange session since ``prices.first_session``, today's included.

    Keys are sessions, ``YYYY-MM-DD``. A day without a session has no partition.
    """
    first, (_, last) = params.prices.first_session, calendar.SPAN
    closed = calendar.closures(first, last)
    return dg.TimeWindowPartitionsDefinition(
        cron_schedule="0 0 * * *",
        start=datetime.combine(first, time()),
        fmt=DATE_FORMAT,
        timezone=calendar.TIMEZONE,
        end_offset=1,
        exclusions=["0 0 * * 6,0", *(datetime.combine(day, time()) for day in closed)],
    )


def forecasts_reaching(params: Params) -> dg.TimeWindowPartitionMapping:
    """Map a session to the earlier sessions whose forecasts reach it."""
    return dg.TimeWindowPartitionMapping(
        start_offset=-params.dataset.prediction_length, end_offset=-1
    )


def session_key(session: date) -> str:
    """Return the partition key of a session."""
    return session.strftime(DATE_FORMAT)
