"""What every source of bars offers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol

import pandas as pd


@dataclass(frozen=True)
class Fetch:
    """What one request to a source brought.

    Attributes
    ----------
    bars : DataFrame
        Bars as traded, of the tickers that did not fail.
    failures : dict of str to str
        Ticker to the reason why it has no bars here. A ticker that is not named is complete for the
        range that was asked for, as far as the source knows.
    """

    bars: pd.DataFrame
    failures: dict[str, str]


class PriceSource(Protocol):
    """A place that bars come from."""

    @property
    def name(self) -> str:
        """What the source is called in ``params.yaml``."""

    @property
    def last_session(self) -> date | None:
        """The newest session that the source can ever give; None for a live source."""

    def fetch(self, tickers: Sequence[str], first: date, last: date) -> Fetch:
        """Get bars as traded.

        Parameters
        ----------
        tickers : sequence of str
            Whom to ask for.
        first, last : date
            The range of sessions, both ends included.

        Raises
        ------
        StockAssetsError
            A person must mend something before the source can answer at all.
        """
