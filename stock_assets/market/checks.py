"""Find where prices break the rules of :mod:`stock_assets.market.rules`.

A *findings* frame has the columns of ``FINDING_COLUMNS`` in this order; one row is one broken rule:

======== ============== =========================================================================
column   dtype          meaning
======== ============== =========================================================================
ticker   object (str)   the exchange's symbol
session  datetime64[ns] naive midnight of the trading day
rule     object (str)   a ``config.RuleName``
severity object (str)   "error" or "warning"
detail   object (str)   the values that break the rule, as "name value, name value"
======== ============== =========================================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stock_assets.config import Checks, RuleName
from stock_assets.market.adjustment import event_factor
from stock_assets.market.bars import PRICE_COLUMNS
from stock_assets.market.rules import (
    BAR_RULES,
    JUMP,
    NO_BAR,
    RULES_OF_CHECK,
    STALE,
    ZERO_VOLUME,
    Rule,
)

FINDING_COLUMNS = ("ticker", "session", "rule", "severity", "detail")
_KEY = ["ticker", "session"]
_DTYPES: dict[str, Any] = dict.fromkeys(FINDING_COLUMNS, "object") | {"session": "datetime64[ns]"}


def no_findings() -> pd.DataFrame:
    """Create a findings frame without rows."""
    return pd.DataFrame(columns=list(FINDING_COLUMNS)).astype(_DTYPES)


def history_findings(rule: Rule, details: Mapping[str, str], session: date) -> pd.DataFrame:
    """Create the findings of a rule about whole histories.

    Parameters
    ----------
    rule : Rule
        The rule, of ``histories_agree`` or ``no_bar_is_missing``.
    details : mapping of str to str
        Per ticker that breaks it, the detail.
    session : date
        The last session of the request.
    """
    return _findings(rule, list(details), [session] * len(details), list(details.values()))


def rules_of(check: str) -> list[RuleName]:
    """Return the names of the rules that an asset check of ``raw_prices`` reports."""
    return [rule.name for rule in RULES_OF_CHECK[check]]


def bar_findings(bars: pd.DataFrame) -> pd.DataFrame:
    """Check every rule of ``rules.BAR_RULES``.

    Parameters
    ----------
    bars : DataFrame
        Has the columns and dtypes of a bars frame, in any row order and with any index.

    Returns
    -------
    DataFrame
        Findings in the order of ``BAR_RULES``, then of the rows.
    """
    rows = bars.reset_index(drop=True)
    found = [_found(rule, rows[rule.broken(rows)], rule.shown) for rule in BAR_RULES]
    return pd.concat([no_findings(), *found], ignore_index=True)


def series_findings(bars: pd.DataFrame, settings: Checks) -> pd.DataFrame:
    """Check the rules about bars in a row: jumps, stale repeats and zero volume.

    Parameters
    ----------
    bars : DataFrame
        A bars frame, as traded, that starts some bars before those in question.
    settings : Checks
        Uses ``jump_max`` and ``stale_sessions``.

    Returns
    -------
    DataFrame
        Findings of ``JUMP`` (see :func:`unexplained_jumps`), of ``STALE`` (each bar of a run from
        the ``stale_sessions``-th repeat on) and of ``ZERO_VOLUME``, each in the order of the rows.
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
    """Find bars where a share's value changes by more than its corporate actions explain.

    With the close ``C`` and dividend ``D`` of a bar, its split ratio ``s`` (1 without a split) and
    the close ``P`` of the bar before, a share's value grew by ``g = s * (C + D) / P``.
    It is a jump when ``g`` is above ``1 + jump_max`` or below ``1 / (1 + jump_max)``: a missing or
    wrong split is found in either direction.

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
    """Return the close of each ticker's previous bar; NaN for its first."""
    return bars.groupby("ticker", sort=False)["close"].shift()


def _repeats(bars: pd.DataFrame) -> NDArray[np.int64]:
    """Count the consecutive bars up to each one that equal their previous bar."""
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
    """Find the expected bars that did not arrive.

    Parameters
    ----------
    bars : DataFrame
        The bars that arrived, in any row order.
    tickers, sessions : sequence of str, sequence of date
        The requested tickers and sessions.
    listed_since : mapping of str to date
        Session of each ticker's first bar. No bar is expected before it, nor of other tickers.

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
    """Set the severity of each finding.

    Parameters
    ----------
    findings : DataFrame
        Findings with the severities of their rules.
    settings : Checks
        ``severities`` overrides those of the rules.
    provisional : date or None
        The newest session, if its bars may still be corrected. A high or low out of order is always
        a warning there: on the same evening, Yahoo's close can lie outside them.

    Returns
    -------
    DataFrame
        The same findings; ``severity`` alone differs.
    """
    own = zip(findings["rule"], findings["severity"], strict=True)
    chosen = [settings.severities.get(rule, severity) for rule, severity in own]
    newest = pd.NaT if provisional is None else pd.Timestamp(provisional)
    out_of_order = findings["rule"].isin([RuleName.LOW_ORDER, RuleName.HIGH_ORDER])
    unsettled = out_of_order & (findings["session"] == newest)
    severity = pd.Series(chosen, findings.index, dtype=object).mask(unsettled, "warning")
    return findings.assign(severity=severity)


def _found(rule: Rule, rows: pd.DataFrame, shown: Sequence[str]) -> pd.DataFrame:
    """Create the findings of rows that break a rule, with the values of columns as detail."""
    details = [
        ", ".join(f"{name} {value}" for name, value in zip(shown, values, strict=True))
        for values in rows[list(shown)].itertuples(index=False, name=None)
    ]
    return _findings(rule, rows["ticker"].to_numpy(), rows["session"].to_numpy(), details)


def _findings(
    rule: Rule,
    tickers: Sequence[str] | NDArray[Any],
    sessions: Sequence[date] | NDArray[Any],
    details: Sequence[str],
) -> pd.DataFrame:
    columns = (tickers, sessions, str(rule.name), rule.severity, details)
    return pd.DataFrame(dict(zip(FINDING_COLUMNS, columns, strict=True))).astype(_DTYPES)
