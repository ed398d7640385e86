"""The daily schedule, written by hand because the built-in one ignores holidays."""

from datetime import date, time

import dagster as dg

from stock_assets.config import Params
from stock_assets.core.locations import find_locations
from stock_assets.defs.automation.jobs import daily_job
from stock_assets.defs.partitions import NEW_YORK, session_key
from stock_assets.market import calendar


def daily_cron(daily_at: time) -> str:
    """Cron line of the daily schedule: weekdays at a time in New York."""
    return f"{daily_at.minute} {daily_at.hour} * * 1-5"


def daily_schedule(params: Params) -> dg.ScheduleDefinition:
    """Run the daily job after the close of every session.

    A weekday without a session is skipped, and so is a session that the source cannot have: the
    sample prices end in 2013.
    """

    @dg.schedule(
        name="daily_after_close",
        job=daily_job,
        cron_schedule=daily_cron(params.schedule.daily_at),
        execution_timezone=NEW_YORK,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="The daily job on trading days, after the close in New York.",
    )
    def daily_after_close(
        context: dg.ScheduleEvaluationContext,
    ) -> dg.RunRequest | dg.SkipReason:
        day = context.scheduled_execution_time.date()
        if not calendar.is_session(day):
            return dg.SkipReason(f"{day} is not a session of the exchange")
        last = _last_session_of_source(params)
        if last is not None and day > last:
            return dg.SkipReason(
                f"source {params.prices.source} has no prices after {last}: "
                "choose another prices.source in params.yaml"
            )
        key = session_key(day)
        return dg.RunRequest(run_key=key, partition_key=key)

    return daily_after_close


def _last_session_of_source(params: Params) -> date | None:
    from stock_assets.market.sources.catalogue import open_source

    return open_source(params.prices, find_locations().project).last_session
