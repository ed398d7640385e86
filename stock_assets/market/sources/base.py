"""The interface of a price source, and the answers it returns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Protocol

import pandas as pd

from stock_assets.market.bars import empty_bars, tidy
from stock_assets.market.corporate_actions import actions_of, no_actions, tidy_actions


@dataclass(frozen=True)
class Fetch:
    """The answer of a source to one request.

    Attributes
    ----------
    bars : DataFrame
        Bars as traded of the tickers that did not fail, with their actions in effect.
    actions : DataFrame
        Corporate actions as traded on their ex-dates, from each ticker's start on, including those
        without a bar yet.
    failures : dict of str to str
        Ticker to the reason of its failure. The bars of every other ticker are complete for the
        requested range, as far as the source knows.
    currencies : dict of str to str
        The currency of each ticker that did not fail, an ISO 4217 code.
    provisional : date or None
        The newest session, if the source may still correct its bars.
    """

    bars: pd.DataFrame
    actions: pd.DataFrame
    failures: dict[str, str] = field(default_factory=dict)
    currencies: dict[str, str] = field(default_factory=dict)
    provisional: date | None = None


class PriceSource(Protocol):
    """A source of daily bars."""

    @property
    def name(self) -> str:
        """The name of the source in ``params.yaml``."""

    @property
    def last_session(self) -> date | None:
        """The newest session of a source that never grows; None for a live source."""

    def fetch(self, starts: Mapping[str, date], last: date) -> Fetch:
        """Fetch bars as traded.

        Parameters
        ----------
        starts : mapping of str to date
            The first session to fetch of each ticker.
        last : date
            The last session of all tickers, included.

        Raises
        ------
        StockAssetsError
            The source cannot answer at all.
        """


def fetch_from_bars(bars: pd.DataFrame) -> Fetch:
    """Create the answer for bars in US dollars that carry all their actions."""
    return Fetch(bars, actions_of(bars), currencies=dict.fromkeys(bars["ticker"].unique(), "USD"))


def clip_to_request(bars: pd.DataFrame, starts: Mapping[str, date], last: date) -> Fetch:
    """Create the answer for a request from bars in US dollars that carry all their actions."""
    start = pd.to_datetime(bars["ticker"].map(dict(starts)))
    wanted = bars["session"].between(start, pd.Timestamp(last))
    cut = fetch_from_bars(bars[wanted].reset_index(drop=True))
    return replace(cut, currencies=dict.fromkeys(starts, "USD"))


def concat_fetches(fetches: Iterable[Fetch], failures: Mapping[str, str]) -> Fetch:
    """Combine answers for different tickers."""
    parts = list(fetches)
    return Fetch(
        bars=tidy(pd.concat([empty_bars(), *(part.bars for part in parts)])),
        actions=tidy_actions(pd.concat([no_actions(), *(part.actions for part in parts)])),
        failures=dict(failures),
        currencies={name: code for part in parts for name, code in part.currencies.items()},
        provisional=max((part.provisional for part in parts if part.provisional), default=None),
    )
