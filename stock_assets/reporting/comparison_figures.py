"""Figures of models compared on held-out sessions."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle

import pandas as pd

from stock_assets.evaluation.significance import cumulative_difference, loss_difference
from stock_assets.evaluation.skill import session_ics
from stock_assets.reporting import charts
from stock_assets.reporting.charts import Chart


def cumulative_figure(scored: Mapping[str, pd.DataFrame]) -> Chart:
    """Draw the cumulative error of each model minus that of persistence.

    The first model has a band of its clustered error: where the band at the last session excludes
    zero, the difference is significant at 5%. Baselines are hidden until their name is clicked,
    as a poor one would flatten the others.

    Parameters
    ----------
    scored : mapping of str to DataFrame
        By name, scored forecasts of the same triples; ``persistence`` among them.
    """
    paths = {
        name: 100
        * cumulative_difference(
            loss_difference(rows, scored["persistence"]), int(rows["horizon"].max())
        )
        for name, rows in scored.items()
    }
    first = next(iter(paths))
    colours = {first: charts.MODEL, "persistence": charts.PERSISTENCE}
    free, visible = cycle(charts.OTHERS), (first, "production", "persistence")
    lines = [
        charts.line(path.index, path["cumulative"], name, colours.get(name) or next(free))
        | {"visible": True if name in visible else "legendonly"}
        for name, path in paths.items()
    ]
    path = paths[first]
    title = "Absolute error minus persistence's, added up over sessions: below 0 is better"
    interval = charts.band(path.index, path["lower"], path["upper"], "95% band")
    return charts.figure([*interval, *lines], "% of price", title=title)


def ic_figure(rows: pd.DataFrame) -> Chart:
    """Draw the information coefficient of each session and its mean.

    Parameters
    ----------
    rows : DataFrame
        Scored forecasts. A session in which several horizons end shows the mean of their
        coefficients; the mean line is over all coefficients. Undefined coefficients have no bar.
    """
    each = session_ics(rows)
    ics, mean = each.groupby("session").mean(), each["ic"].mean()
    traces = [
        charts.bars(ics.index, ics["ic"], "IC", charts.PERSISTENCE),
        charts.markers(ics.index, ics["rank_ic"], "rank IC", charts.INK),
        charts.line(ics.index, [mean] * len(ics), "mean IC", charts.MODEL),
    ]
    title = "Correlation of forecast and actual returns over the tickers of each session"
    return charts.figure(traces, "information coefficient", title=title)


def ticker_figure(tickers: pd.DataFrame) -> Chart:
    """Draw the error of each ticker minus persistence's with its 95% interval, best first.

    Without any edge one interval in twenty excludes zero.

    Parameters
    ----------
    tickers : DataFrame
        The rows of one model of :func:`stock_assets.evaluation.scorecard.ticker_table`.
    """
    from scipy.special import stdtrit

    ordered = tickers.sort_values("error_difference").set_index("ticker")
    middle = 100 * ordered["error_difference"]
    reach = 100 * ordered["error_difference_se"] * stdtrit(ordered["sessions"] - 1, 0.975)
    traces = [
        *charts.band(middle.index, middle - reach, middle + reach, "95% interval"),
        charts.markers(middle.index, middle, "ticker", charts.MODEL),
        charts.line(middle.index, 0.0 * middle, "persistence", charts.PERSISTENCE),
    ]
    title = "Absolute error minus persistence's, ticker by ticker: below 0 is better"
    return charts.figure(traces, "% of price", title=title, dates=False)
