"""What every source of bars offers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Protocol

import pandas as pd

from stock_assets.market.actions import actions_of, no_actions, tidy_actions
from stock_assets.market.bars import empty_bars, tidy


@dataclass(frozen=True)
class Fetch:
    """What one request to a source brought.

    Attributes
    ----------
    bars : DataFrame
        Bars as traded, of the tickers that did not fail; the actions have taken effect in them.
    actions : DataFrame
        Corporate actions as traded, on their ex-dates, from each ticker's start on: also those
        whose bar is not there yet.
    failures : dict of str to str
        Ticker to the reason why it has no bars here. A ticker that is not named is complete for the
        range that was asked for, as far as the source knows.
    currencies : dict of str to str
        What the prices of each ticker that did not fail are in, an ISO 4217 code.
    provisional : date or None
        The newest session, if the source may still correct its bars.
    """

    bars: pd.DataFrame
    actions: pd.DataFrame
    failures: dict[str, str] = field(default_factory=dict)
    currencies: dict[str, str] = field(default_factory=dict)
    provisional: date | None = None


class PriceSource(Protocol):
    """A place that bars come from."""

    @property
    def name(self) -> str:
        """What the source is called in ``params.yaml``."""

    @property
    def last_session(self) -> date | None:
        """The newest session that the source can ever give; None for a live source."""

    def fetch(self, starts: Mapping[str, date], last: date) -> Fetch:
        """Get bars as traded.

        Parameters
        ----------
        starts : mapping of str to date
            Whom to ask for, and from which session on.
        last : date
            The last session, included, for everyone.

        Raises
        ------
        StockAssetsError
            A person must mend something before the source can answer at all.
        """


def fetch_from_bars(bars: pd.DataFrame) -> Fetch:
    """Make the answer of a source whose bars, in US dollars, carry all their actions."""
    return Fetch(bars, actions_of(bars), currencies=dict.fromkeys(bars["ticker"].unique(), "USD"))


def clip_to_request(bars: pd.DataFrame, starts: Mapping[str, date], last: date) -> Fetch:
    """Cut bars in US dollars that carry all their actions to what was asked for."""
    start = pd.to_datetime(bars["ticker"].map(dict(starts)))
    wanted = bars["session"].between(start, pd.Timestamp(last))
    cut = fetch_from_bars(bars[wanted].reset_index(drop=True))
    return replace(cut, currencies=dict.fromkeys(starts, "USD"))


def concat_fetches(fetches: Iterable[Fetch], failures: Mapping[str, str]) -> Fetch:
    """Put answers for different tickers into one."""
    parts = list(fetches)
    return Fetch(
        bars=tidy(pd.concat([empty_bars(), *(part.bars for part in parts)])),
        actions=tidy_actions(pd.concat([no_actions(), *(part.actions for part in parts)])),
        failures=dict(failures),
        currencies={name: code for part in parts for name, code in part.currencies.items()},
        provisional=max((part.provisional for part in parts if part.provisional), default=None),
    )
