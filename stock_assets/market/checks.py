"""Where prices break the rules of :mod:`stock_assets.market.rules`.

A *findings* frame has the columns of ``FINDING_COLUMNS`` in this order and a ``RangeIndex``; one
row is one broken rule. Findings of several kinds are put together by ``pandas.concat``.

======== ============== =========================================================================
column   dtype          meaning
======== ============== =========================================================================
ticker   object (str)   the exchange's symbol
session  datetime64[ns] naive midnight of the trading day; NaT if a whole history is meant
rule     object (str)   the name of one of ``rules.RULES``
severity object (str)   "error" or "warning"
detail   object (str)   the values that break the rule, as "name value, name value"
======== ============== =========================================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stock_assets.config import Checks, RuleName
from stock_assets.market.adjustment import event_factor
from stock_assets.market.bars import PRICE_COLUMNS
from stock_assets.market.rules import (
    BAR_RULES,
    HIGH_ORDER,
    HISTORY_RULES,
    JUMP,
    LOW_ORDER,
    NO_BAR,
    RULES_OF_CHECK,
    STALE,
    ZERO_VOLUME,
    Rule,
)

if TYPE_CHECKING:
    from pandera.pandas import DataFrameSchema

FINDING_COLUMNS = ("ticker", "session", "rule", "severity", "detail")
_KEY = ["ticker", "session"]
_DTYPES: dict[str, Any] = dict.fromkeys(FINDING_COLUMNS, "object") | {"session": "datetime64[ns]"}


def no_findings() -> pd.DataFrame:
    """Make a findings frame without rows."""
    return pd.DataFrame(columns=list(FINDING_COLUMNS)).astype(_DTYPES)


def history_findings(name: RuleName, broken: Mapping[str, tuple[date | None, str]]) -> pd.DataFrame:
    """Make the findings of one of ``rules.HISTORY_RULES``.

    Parameters
    ----------
    name : str
        The rule.
    broken : mapping of str to (date or None, str)
        Per ticker that breaks it, the session where it does, if there is one, and the detail.
    """
    rule = {rule.name: rule for rule in HISTORY_RULES}[name]
    sessions = [session for session, _ in broken.values()]
    return _findings(rule, list(broken), sessions, [detail for _, detail in broken.values()])


def rules_of(check: str) -> list[RuleName]:
    """Name the rules that an asset check of ``raw_prices`` reports."""
    return [rule.name for rule in RULES_OF_CHECK[check]]


def bar_findings(bars: pd.DataFrame) -> pd.DataFrame:
    """List every rule of ``rules.BAR_RULES`` that a bar breaks.

    Parameters
    ----------
    bars : DataFrame
        Has the columns and dtypes of a bars frame, in any row order and with any index.

    Returns
    -------
    DataFrame
        Findings in the order of ``BAR_RULES``, then of the rows.

    Raises
    ------
    pandera.errors.SchemaErrors
        A column is missing or has another dtype.
    """
    rows = _rows_breaking(bars.reset_index(drop=True))
    found = [
        _found(rule, bars.iloc[rows[rule.name]], rule.shown)
        for rule in BAR_RULES
        if rule.name in rows
    ]
    return pd.concat([no_findings(), *found], ignore_index=True)


def _rows_breaking(bars: pd.DataFrame) -> dict[str, NDArray[np.int64]]:
    """Give, per name of a broken rule, the positions of its rows in their order."""
    from pandera.config import ValidationDepth, config_context
    from pandera.errors import SchemaErrors

    # Whatever the environment says of pandera: unchecked bars must not look like good ones.
    checking = config_context(
        validation_enabled=True, validation_depth=ValidationDepth.SCHEMA_AND_DATA
    )
    try:
        with checking:
            _bar_schema().validate(_measured(bars), lazy=True, inplace=True)
    except SchemaErrors as errors:
        cases = errors.failure_cases
        if cases["index"].isna().any():
            raise
        return {
            str(name): np.unique(rows.to_numpy(np.int64))
            for name, rows in cases.groupby("check")["index"]
        }
    return {}


def _measured(bars: pd.DataFrame) -> pd.DataFrame:
    """Add what rules about several columns, or several rows, watch.

    Each as a column of its own, since pandera takes 0.1 ms and more to report one row that fails a
    check of the whole frame.
    """
    body = bars[["open", "close"]]
    return bars.assign(
        room_below=body.min(axis=1) - bars["low"],
        room_above=bars["high"] - body.max(axis=1),
        repeated=bars.duplicated(_KEY, keep=False),
    )


@cache
def _bar_schema() -> DataFrameSchema:
    """Declare the columns of ``_measured`` and the checks of ``BAR_RULES`` on them."""
    from pandera.pandas import Check, Column, DataFrameSchema

    text_and_time = {"ticker": "object", "session": "datetime64[ns]", "repeated": "bool"}
    numbers = [*PRICE_COLUMNS, "volume", "dividends", "stock_splits", "room_below", "room_above"]
    columns = {
        name: Column(
            dtype,
            [
                Check(rule.kept, name=rule.name, ignore_na=False)
                for rule in BAR_RULES
                if name in rule.watched
            ],
            nullable=True,
        )
        for name, dtype in (text_and_time | dict.fromkeys(numbers, "float64")).items()
    }
    return DataFrameSchema(columns)


def series_findings(bars: pd.DataFrame, settings: Checks) -> pd.DataFrame:
    """List the bars that look odd beside the others of their ticker.

    Parameters
    ----------
    bars : DataFrame
        A bars frame, as traded. The first bar of a ticker has none before it, so give some bars
        that are known to be good in front of those in question.
    settings : Checks
        ``jump_max`` and ``stale_sessions`` count.

    Returns
    -------
    DataFrame
        Findings of ``JUMP`` (see :func:`unexplained_jumps`), then of ``STALE`` (each bar of a run
        of repeats from the ``stale_sessions``-th repeat on), then of ``ZERO_VOLUME``, each in the
        order of the rows.
    """
    compared = bars.assign(previous_close=_close_before(bars), repeats=_repeats(bars))
    jumped = unexplained_jumps(bars, settings.jump_max)
    stale = compared["repeats"] >= settings.stale_sessions
    found = [
        _found(JUMP, compared[jumped], ("previous_close", "close", "stock_splits", "dividends")),
        _found(STALE, compared[stale], ("repeats", "close", "volume")),
        _found(ZERO_VOLUME, compared[compared["volume"] == 0], ("volume",)),
    ]
    return pd.concat(found, ignore_index=True)


def unexplained_jumps(bars: pd.DataFrame, jump_max: float) -> pd.Series:
    """Tell where a share's worth changes by more than its corporate actions explain.

    With the close ``C`` and dividend ``D`` of a bar, its split ratio ``s`` (1 without a split) and
    the close ``P`` of the bar before, what was ``P`` became ``g = s * (C + D) / P`` times as much.
    It is a jump when ``g`` is above ``1 + jump_max`` or below ``1 / (1 + jump_max)``: up and down
    count alike, so that a split that is missing, wrong or made up is found whichever way it goes.

    Parameters
    ----------
    bars : DataFrame
        A bars frame, as traded.
    jump_max : float
        The largest rise that is no jump, as a fraction: 0.4 lets a price rise by 40 % or fall by
        28.6 %.

    Returns
    -------
    Series of bool
        On the index of ``bars``; false for the first bar of a ticker.
    """
    ratio = event_factor(bars, "split_adjusted")
    growth = ratio * (bars["close"] + bars["dividends"]) / _close_before(bars)
    return (growth > 1 + jump_max) | (growth < 1 / (1 + jump_max))


def _close_before(bars: pd.DataFrame) -> pd.Series:
    """Give the close of each ticker's bar before; NaN for its first."""
    return bars.groupby("ticker", sort=False)["close"].shift()


def _repeats(bars: pd.DataFrame) -> NDArray[np.int64]:
    """Count how many bars in a row, up to each, equal the bar before them."""
    seen = bars[["ticker", *PRICE_COLUMNS, "volume"]]
    differs = (seen != seen.shift()).any(axis=1).to_numpy()
    position = np.arange(len(bars))
    return position - np.maximum.accumulate(np.where(differs, position, 0))


def gap_findings(
    bars: pd.DataFrame,
    tickers: Sequence[str],
    sessions: Sequence[date],
    listed_since: Mapping[str, date],
) -> pd.DataFrame:
    """List the bars that should have arrived and did not.

    Parameters
    ----------
    bars : DataFrame
        The bars that arrived, in any row order.
    tickers, sessions : sequence of str, sequence of date
        Whose bars were asked for, and of which sessions.
    listed_since : mapping of str to date
        Session of each ticker's first known bar; nothing is expected before it, nor of a ticker
        that is not named.

    Returns
    -------
    DataFrame
        Findings of ``NO_BAR``, sorted by ticker and session.
    """
    days = pd.DatetimeIndex(sorted(set(sessions)), dtype="datetime64[ns]")
    pairs = pd.MultiIndex.from_product([sorted(set(tickers)), days], names=_KEY)
    arrived = pairs.isin(pd.MultiIndex.from_frame(bars[_KEY]))
    absent = pairs[~arrived].to_frame(index=False)
    since = absent["ticker"].map(pd.Series(dict(listed_since), dtype="datetime64[ns]"))
    absent["listed_since"] = since.dt.strftime("%Y-%m-%d")
    return _found(NO_BAR, absent[absent["session"] >= since], ("listed_since",))


def with_severities(
    findings: pd.DataFrame, settings: Checks, provisional: date | None
) -> pd.DataFrame:
    """Give findings the severities that count.

    Parameters
    ----------
    findings : DataFrame
        Findings with the severities of their rules.
    settings : Checks
        ``severities`` goes before what a rule itself says.
    provisional : date or None
        The newest session, whose bars a source may still correct: there, a high or low out of order
        is a warning whatever else is said, since on its own evening Yahoo's close can lie outside
        them. None for no such session.

    Returns
    -------
    DataFrame
        The same findings; ``severity`` alone differs.
    """
    given = zip(findings["rule"], findings["severity"], strict=True)
    chosen = [settings.severities.get(rule, severity) for rule, severity in given]
    newest = pd.NaT if provisional is None else pd.Timestamp(provisional)
    out_of_order = findings["rule"].isin([LOW_ORDER.name, HIGH_ORDER.name])
    unsettled = out_of_order & (findings["session"] == newest)
    severity = pd.Series(chosen, findings.index, dtype=object).mask(unsettled, "warning")
    return findings.assign(severity=severity)


def _found(rule: Rule, rows: pd.DataFrame, shown: Sequence[str]) -> pd.DataFrame:
    """Make findings of rows that break a rule, with the values of some columns as the detail."""
    details = [
        ", ".join(f"{name} {value}" for name, value in zip(shown, values, strict=True))
        for values in rows[list(shown)].itertuples(index=False, name=None)
    ]
    return _findings(rule, rows["ticker"].to_numpy(), rows["session"].to_numpy(), details)


def _findings(
    rule: Rule,
    tickers: Sequence[str] | NDArray[Any],
    sessions: Sequence[date | None] | NDArray[Any],
    details: Sequence[str],
) -> pd.DataFrame:
    columns = (tickers, sessions, rule.name, rule.severity, details)
    return pd.DataFrame(dict(zip(FINDING_COLUMNS, columns, strict=True))).astype(_DTYPES)
