"""Names of datasets: the as-of session and the UTC time of the request."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta
from itertools import count

from stock_assets.core.errors import StockAssetsError
from stock_assets.market import calendar


def new_dataset_id(as_of: date, requested: datetime, taken: Collection[str] = ()) -> str:
    """Name a dataset by its as-of session and the moment of its request.

    Where the name is taken (the same second of another day), the next free second is used.

    Examples
    --------
    >>> new_dataset_id(date(2012, 12, 31), datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    '20121231_030405'
    """
    moments = (requested.astimezone(UTC) + timedelta(seconds=later) for later in count())
    names = (f"{as_of:%Y%m%d}_{moment:%H%M%S}" for moment in moments)
    return next(name for name in names if name not in taken)


def dataset_as_of(dataset_id: str) -> date:
    """Return the as-of session that a dataset id begins with.

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
