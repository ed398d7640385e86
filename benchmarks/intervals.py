"""Intervals around forecasts of no change, by scale: ``python -m benchmarks.intervals FILE``.

FILE is a CSV, compressed or not, with the columns ``ticker, date, high, low, close`` of a market,
adjusted for splits. Each interval has a coverage of 90% and is calibrated on the residuals of 126
sessions. Those of the project follow volatility, with residuals of all tickers together, and go on
with the newest ones each session. They are compared with a constant width per ticker, refreshed
every 63 sessions and every session, and with asymmetric intervals of the same scale. ``start`` are
those of new models: every 63 sessions one is calibrated on 42 sessions, which also decide on its
scale and form, and goes on. Printed as JSON, widths and scores as percentages of price.
"""

import argparse
import json
from typing import Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stock_assets.config import Forecast, Scale
from stock_assets.evaluation.intervals import conformal_quantiles, interval_score
from stock_assets.evaluation.metrics import block_coverage
from stock_assets.evaluation.significance import newey_west
from stock_assets.features.labels import later_targets
from stock_assets.features.volatility import log_ranges, volatility
from stock_assets.models.calibration import best_scale, prefers_asymmetric
from stock_assets.models.intervals import NEWEST_SESSIONS, ScaledIntervals

FIRST = 300
COVERAGE = 0.9
BLOCK = 21
REFRESHED = 63
STARTED = 42
FEWEST_SHARE = 0.99

FloatArray = NDArray[np.float64]


def main() -> None:
    """Print the measurements of a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", help="prices of a market")
    print(json.dumps(measurements(*read(parser.parse_args().file)), indent=2))


def measurements(close: FloatArray, ranges: FloatArray) -> dict[str, Any]:
    """Measure each scale and both constant widths on the same sessions; see :func:`read`."""
    ends = np.arange(len(close) - 1)
    errors = later_targets(close, ends, 1, "log_return")[:, 0]
    bounds = {f"constant_every_{every}": constant_bounds(errors, every) for every in (REFRESHED, 1)}
    constant = [*bounds]
    others = {name: [other for other in constant if other != name] for name in constant}
    for scale in get_args(Scale):
        if scale != "constant":
            scales, asymmetric = volatility(scale, close, ranges)[:-1], f"{scale}_asymmetric"
            bounds[scale] = scaled_bounds(errors, scales, scale)
            bounds[asymmetric] = scaled_bounds(errors, scales, scale, asymmetric=True)
            others |= {scale: constant, asymmetric: [scale]}
    bounds["start"], others["start"] = started_bounds(errors, close, ranges), constant
    scored = errors[FIRST:]
    scores = {
        name: interval_score(scored, sides[0], sides[1], COVERAGE) for name, sides in bounds.items()
    }
    found = {
        name: measure(scored, sides, scores[name])
        | {f"against_{other}": compare(scores[name], scores[other]) for other in others[name]}
        for name, sides in bounds.items()
    }
    return {"tickers": close.shape[1], "sessions": len(scored)} | found


def read(path: str) -> tuple[FloatArray, FloatArray]:
    """Return closes and ranges of the tickers with nearly all sessions, both (T, N)."""
    bars = pd.read_csv(path, parse_dates=["date"]).rename(columns={"date": "session"})
    bars = bars[(bars["low"] > 0) & (bars["high"] >= bars["low"])]
    closes = bars.pivot_table(index="session", columns="ticker", values="close")
    closes = closes.loc[:, closes.notna().mean() > FEWEST_SHARE]
    sessions = pd.DatetimeIndex(closes.index)
    return np.ascontiguousarray(closes), log_ranges(bars, sessions, list(closes.columns))


def constant_bounds(errors: FloatArray, every: int) -> FloatArray:
    """Return bounds per ticker, (2, S, N), from the residuals known at each refreshing session."""
    widths = np.empty_like(errors[FIRST:])
    for start in range(FIRST, len(errors), every):
        known = errors[start - NEWEST_SESSIONS : start]
        widths[start - FIRST : start - FIRST + every] = [
            conformal_quantiles(own, [COVERAGE])[0] for own in known.T
        ]
    return np.array([-widths, widths])


def scaled_bounds(
    errors: FloatArray, scales: FloatArray, scale: Scale, *, asymmetric: bool = False
) -> FloatArray:
    """Return bounds, (2, S, N), as a bundle computes them."""
    residuals = (errors / scales)[:, np.newaxis].astype(np.float32)
    first = residuals[FIRST - NEWEST_SESSIONS : FIRST]
    intervals = ScaledIntervals(scale, (COVERAGE,), first, asymmetric)
    known = np.arange(len(errors) - FIRST)[:, np.newaxis]
    bounds: FloatArray = intervals.bounds(residuals[FIRST:], known)[0] * scales[FIRST:]
    return bounds


def started_bounds(errors: FloatArray, close: FloatArray, ranges: FloatArray) -> FloatArray:
    """Return bounds, (2, S, N), of models that start every `REFRESHED` sessions."""
    coverages = Forecast().coverages
    last = coverages.index(COVERAGE)
    # The width of a bundle's constant scale is per ticker, from training.
    units = {
        scale: volatility(scale, close, ranges)[:-1]
        if scale != "constant"
        else np.broadcast_to(np.nanstd(errors[:FIRST], axis=0), errors.shape)
        for scale in get_args(Scale)
    }
    bounds = np.empty((2, *errors[FIRST:].shape))
    for start in range(FIRST, len(errors), REFRESHED):
        calibration, stop = slice(start - STARTED, start), min(start + REFRESHED, len(errors))
        known, own = errors[calibration, np.newaxis], slice(start, stop)
        scale = best_scale(
            known, {name: unit[calibration, np.newaxis] for name, unit in units.items()}, coverages
        )
        unit = units[scale]
        intervals = ScaledIntervals(
            scale,
            tuple(coverages),
            (known / unit[calibration, np.newaxis]).astype(np.float32),
            prefers_asymmetric(known, unit[calibration, np.newaxis], coverages),
        )
        residuals = (errors[own] / unit[own])[:, np.newaxis].astype(np.float32)
        counts = np.arange(stop - start)[:, np.newaxis]
        found = intervals.bounds(residuals, counts)[last] * unit[own]
        bounds[:, start - FIRST : stop - FIRST] = found
    return bounds


def measure(errors: FloatArray, bounds: FloatArray, scores: FloatArray) -> dict[str, Any]:
    """Return score, width and coverage, and quantiles of the coverage of blocks of sessions."""
    (lower, upper), known = bounds, np.isfinite(errors)
    covered = np.where(known, (lower <= errors) & (errors <= upper), np.nan)
    blocks = block_coverage(covered, BLOCK)
    return {
        "interval_score": round(100 * float(np.nanmean(scores)), 3),
        "width": round(100 * float(np.nanmean(np.where(known, upper - lower, np.nan))), 3),
        "coverage": round(float(np.nanmean(covered)), 4),
        "coverage_of_blocks": [round(float(np.quantile(blocks, q)), 3) for q in (0.05, 0.95)],
    }


def compare(scores: FloatArray, others: FloatArray) -> dict[str, float]:
    """Return the relative difference of two mean scores, and its statistic and p-value."""
    difference = np.nanmean(scores, axis=1) - np.nanmean(others, axis=1)
    statistic, p_value = newey_west(difference, BLOCK)
    return {
        "relative": round(float(np.nanmean(scores) / np.nanmean(others) - 1), 4),
        "t": round(statistic, 2),
        "p": float(f"{p_value:.2g}"),
    }


if __name__ == "__main__":
    main()
