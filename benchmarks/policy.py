"""The rule that retrains, over simulated years: ``python -m benchmarks.policy``.

A year is 63 held-out sessions, which fix the parameters of the detectors, and 252 sessions after
the promotion. Returns are simulated (one common factor, t(4) tails, volatility that clusters), or
blocks of 21 sessions are drawn from real prices: those of the sample, or of the CSV of a market
given with ``--prices`` (the columns of :mod:`benchmarks.intervals`). Printed as JSON: false
retrains a quarter for sound models, and sessions until a bad one is caught. ``--figures FOLDER``
draws the two curves of docs/policy.md.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from stock_assets.config import Monitoring
from stock_assets.evaluation.change_detection import (
    FRACTIONS,
    advance,
    clip,
    loss_bound,
    miss_bound,
)
from stock_assets.evaluation.session_losses import relative_difference

FloatArray = NDArray[np.floating[Any]]
Draw = Callable[[np.random.Generator, int], FloatArray]

BURN_IN, CALIBRATION, HELD_OUT, YEAR = 63, 126, 63, 252
SESSIONS = BURN_IN + CALIBRATION + HELD_OUT + YEAR
QUARTERS = YEAR / 63
COVERAGE = 0.9
BLOCK = 21
CELLS = 4_000_000
"""Returns in memory at a time."""

BATCH = 250
"""Years whose scores are in memory at a time."""

SIZE = 0.1
"""Typical move that is forecast, as a fraction of the volatility of a session."""

SHRINKAGE = 0.1
WORSE = {"error_times_2": 2.0, "error_plus_25": 1.25, "error_plus_10": 1.1, "error_plus_5": 1.05}
BIASES = (0.005, 0.01, 0.02, 0.05)
MONITORING = Monitoring()

CURVE_LIMITS = (16, 32, 63, 126, 252, 504, 1008)
CURVE_ERRORS = (1.03, 1.04, 1.05, 1.06, 1.08, 1.1, 1.15, 1.2, 1.25, 1.35, 1.5, 1.75, 2.0)
CURVE_BASE = "own_signs"


def main() -> None:
    """Run the rule on each market and print what it did."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--years", type=int, default=1000)
    parser.add_argument("--tickers", type=int, nargs="+", default=[5, 50, 500])
    parser.add_argument("--prices", help="CSV of a market; the sample prices by default")
    parser.add_argument("--figures", type=Path, help="folder of the figures")
    parser.add_argument("--seed", type=int, default=16)
    options = parser.parse_args()
    found: dict[str, Any] = {"years": options.years, "markets": {}}
    curves = {}
    for name, draw in markets(options.tickers, real_returns(options.prices)).items():
        measured = Measured(options.figures is not None)
        measured.run(np.random.default_rng(options.seed), draw, options.years)
        found["markets"][name] = measured.summary()
        curves[name] = measured.curves()
    print(json.dumps(found, indent=2))
    if options.figures is not None:
        draw_curves(options.figures, curves)


def markets(sizes: list[int], prices: FloatArray) -> dict[str, Draw]:
    """Return how the returns of each market are drawn, by name."""
    found: dict[str, Draw] = {}
    for tickers in sizes:
        found[f"simulated_{tickers}"] = partial(simulated, tickers)
        known = min(tickers, prices.shape[1])
        found[f"resampled_{known}"] = partial(resampled, prices, known)
    return found


def simulated(tickers: int, rng: np.random.Generator, years: int) -> FloatArray:
    """Draw returns (Y, T, N): correlation 0.32, t(4) tails, volatility that clusters."""
    heat = np.empty((years, SESSIONS, 1), np.float32)
    level = 0.35 * rng.standard_normal((years, 1))
    for session in range(SESSIONS):
        level = 0.98 * level + 0.35 * np.sqrt(1 - 0.98**2) * rng.standard_normal((years, 1))
        heat[:, session] = np.exp(level - 0.35**2)
    own = 0.016 * np.exp(0.3 * rng.standard_normal((years, 1, tickers)))
    common = np.float32(np.sqrt(0.32)) * _t4(rng, (years, SESSIONS, 1))
    moves = common + np.float32(np.sqrt(0.68)) * _t4(rng, (years, SESSIONS, tickers))
    returns: FloatArray = moves * own.astype(np.float32) * heat
    return returns


def _t4(rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
    """Draw from Student's t with 4 degrees of freedom, scaled to variance 1."""
    half_chi_square = rng.standard_exponential(shape, np.float32)
    half_chi_square += rng.standard_exponential(shape, np.float32)
    drawn: FloatArray = rng.standard_normal(shape, np.float32) / np.sqrt(half_chi_square)
    return drawn


def real_returns(path: str | None) -> FloatArray:
    """Return the daily returns (T, N) of the tickers with nearly all sessions."""
    if path is None:
        from stock_assets.market.sources.sample import load_sample

        bars = load_sample().rename(columns={"session": "date"})
    else:
        bars = pd.read_csv(path, parse_dates=["date"])
    closes = bars.pivot_table(index="date", columns="ticker", values="close")
    closes = closes.loc[:, closes.notna().mean() > 0.99]
    returns = closes.ffill().pct_change().iloc[1:].clip(-0.3, 0.3).fillna(0.0)
    return returns.to_numpy(np.float32)


def resampled(
    returns: FloatArray, tickers: int, rng: np.random.Generator, years: int
) -> FloatArray:
    """Draw blocks of 21 sessions, the same ones for all tickers, and the tickers of each year."""
    starts = rng.integers(0, len(returns) - BLOCK, (years, -(-SESSIONS // BLOCK), 1))
    rows = (starts + np.arange(BLOCK)).reshape(years, -1)[:, :SESSIONS]
    chosen = rng.permuted(np.tile(np.arange(returns.shape[1]), (years, 1)), axis=1)[:, :tickers]
    drawn: FloatArray = returns[rows[:, :, np.newaxis], chosen[:, np.newaxis]]
    return drawn


@dataclass
class Scores:
    """Summed losses of model and persistence and shares of misses, each (Y, T)."""

    losses: FloatArray
    persistence: FloatArray
    above: FloatArray
    below: FloatArray

    def until_promotion(self, later: "Scores") -> "Scores":
        """Return these held-out sessions, followed by the sessions of another model."""
        pairs = zip(vars(self).values(), vars(later).values(), strict=True)
        return Scores(*(np.hstack([a[:, :HELD_OUT], b[:, HELD_OUT:]]) for a, b in pairs))

    def numbers(self) -> NDArray[np.float64]:
        """Return the numbers of the three detectors (Y, T, 3)."""
        loss = relative_difference(self.losses, self.persistence)
        return np.stack([loss, self.above, self.below], axis=-1)


def joined(parts: list[Scores]) -> Scores:
    """Return the years of all parts."""
    return Scores(*map(np.concatenate, zip(*(vars(part).values() for part in parts), strict=True)))


def sound_models(
    rng: np.random.Generator, returns: FloatArray, volatility: FloatArray
) -> dict[str, FloatArray]:
    """Return the moves that each sound model forecasts, as fractions of price."""
    noise = rng.standard_normal(returns.shape, np.float32)
    signs = np.sign(noise)
    moves = {
        "own_signs": SIZE * volatility * signs,
        "one_sign_a_day": SIZE * volatility * signs[:, :, :1],
        "always_up": SIZE * volatility,
        "ic_0.05": SIZE * (0.05 * returns + volatility * noise),
    }
    shrunk = {f"{name}_shrunk": SHRINKAGE * forecast for name, forecast in moves.items()}
    return {"no_change": np.zeros((1, 1, 1), np.float32), **moves, **shrunk}


def score(
    rng: np.random.Generator, returns: FloatArray, *, curves: bool
) -> Iterator[tuple[str, str, Scores]]:
    """Score every model, one session ahead: kind (sound or bad), name, and scores.

    A bad model forecasts like its sound base until the promotion.
    """
    volatility = returns[:, : BURN_IN + CALIBRATION].std(axis=1, keepdims=True)
    widths = half_widths(returns)
    returns = returns[:, -HELD_OUT - YEAR :]
    persistence = np.abs(returns).sum(axis=-1)

    def scored(moves: FloatArray) -> Callable[..., Scores]:
        errors = returns - moves
        losses = np.abs(errors).sum(axis=-1)
        errors /= widths

        def scaled(worse: float = 1.0, narrow: float = 1.0) -> Scores:
            reach = np.float32(1 / (worse * narrow))
            above, below = (
                (side > reach).mean(axis=-1, dtype=np.float32) for side in (errors, -errors)
            )
            return Scores(np.float32(worse) * losses, persistence, above, below)

        return scaled

    for name, moves in sound_models(rng, returns, volatility).items():
        model = scored(moves)
        sound = model()
        yield "sound", name, sound
        for case, worse in WORSE.items():
            yield case, name, sound.until_promotion(model(worse))
        yield "intervals_half_as_wide", name, sound.until_promotion(model(narrow=2.0))
        for worse in CURVE_ERRORS if curves and name == CURVE_BASE else ():
            yield f"curve_{worse}", name, sound.until_promotion(model(worse))
    sound = scored(np.zeros((1, 1, 1), np.float32))()
    level = rng.standard_normal((len(returns), 1, returns.shape[2]), np.float32)
    others = np.exp(np.roll(level, 1, axis=-1) - level) - 1
    yield "scrambled_prices", "no_change", sound.until_promotion(scored(others)())
    for bias in BIASES:
        biased = scored(np.full((1, 1, 1), bias, np.float32))()
        yield f"bias_{bias:g}", "no_change", sound.until_promotion(biased)


def half_widths(returns: FloatArray) -> FloatArray:
    """Return half widths of intervals around no change: volatility times a conformal quantile.

    The quantile is that of the newest 126 sessions of all tickers, refreshed every 21 sessions.
    """
    scale = np.empty_like(returns)
    squares = (returns[:, :BURN_IN] ** 2).mean(axis=1)
    for session in range(SESSIONS):
        scale[:, session] = np.sqrt(np.maximum(squares, 1e-8))
        squares = 0.94 * squares + 0.06 * returns[:, session] ** 2
    residuals, first = np.abs(returns / scale), BURN_IN + CALIBRATION
    for start in range(first, SESSIONS, BLOCK):
        known = residuals[:, start - CALIBRATION : start].reshape(len(returns), -1)
        quantile = np.quantile(known, COVERAGE, axis=1).astype(np.float32)
        scale[:, start : start + BLOCK] *= quantile[:, np.newaxis, np.newaxis]
    return scale[:, first:]


def apply_rule(
    scores: Scores, limit: float = MONITORING.sessions_between_false_alarms
) -> dict[str, NDArray[np.int64]]:
    """Apply the rule, without retraining by age, to each year.

    Returns
    -------
    dict of ndarray (Y,)
        Retrainings by ``alarms`` and by ``limits``, and the session of the ``first``; 0 for none.
    """
    numbers = scores.numbers()
    m0, b = _parameters(numbers[:, :HELD_OUT])
    broken, cooldown = _broken(scores), MONITORING.cooldown_sessions
    evidence = np.zeros((len(numbers), 3, len(FRACTIONS)))
    last = np.full(len(numbers), -cooldown)
    found = {name: np.zeros(len(numbers), np.int64) for name in ("alarms", "limits", "first")}
    for session in range(YEAR):
        evidence = advance(evidence, numbers[:, HELD_OUT + session], m0, b)
        alarm = evidence.mean(axis=(1, 2)) >= limit
        retrain = (alarm | broken[:, session]) & (session - last >= cooldown)
        last[retrain], evidence[retrain] = session, 0.0
        found["alarms"] += retrain & ~broken[:, session]
        found["limits"] += retrain & broken[:, session]
        found["first"][retrain & (found["first"] == 0)] = session + 1
    return found


def _parameters(held_out: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Fix m0 and b of the three detectors, each (Y, 3)."""
    m0, b = loss_bound(held_out[..., 0])
    misses = np.full(len(held_out), miss_bound(COVERAGE))
    clips = [clip(np.quantile(held_out[..., side], 0.99, axis=-1), misses) for side in (1, 2)]
    return np.stack([m0, misses, misses], axis=-1), np.stack([b, *clips], axis=-1)


def _broken(scores: Scores) -> NDArray[np.bool_]:
    """Return whether the hard limit is broken at each session after the promotion, (Y, 252)."""
    length, limit = MONITORING.limit_sessions, MONITORING.thresholds.relative_mae_max
    assert limit is not None
    own, reference = (
        sliding_window_view(part[:, HELD_OUT:], length, axis=1).sum(axis=-1)
        for part in (scores.losses, scores.persistence)
    )
    return np.pad(own > limit * reference, ((0, 0), (length - 1, 0)))


class Measured:
    """What the rule did on one market."""

    def __init__(self, with_curves: bool) -> None:
        self.with_curves = with_curves
        self.found: dict[tuple[str, str], list[dict[str, NDArray[np.int64]]]] = {}

    def run(self, rng: np.random.Generator, draw: Draw, years: int) -> None:
        """Draw years, as many at a time as fit into memory, and apply the rule to every model."""
        chunk = max(1, CELLS // (SESSIONS * draw(np.random.default_rng(0), 1).shape[-1]))
        for batch in range(0, years, BATCH):
            scored: dict[tuple[str, str], list[Scores]] = {}
            last = min(batch + BATCH, years)
            for start in range(batch, last, chunk):
                returns = draw(rng, min(chunk, last - start))
                for kind, name, scores in score(rng, returns, curves=self.with_curves):
                    scored.setdefault((kind, name), []).append(scores)
            for (kind, name), parts in scored.items():
                self._apply(kind, name, joined(parts))

    def _apply(self, kind: str, name: str, scores: Scores) -> None:
        self.found.setdefault((kind, name), []).append(apply_rule(scores))
        for limit in CURVE_LIMITS if self.with_curves and kind == "sound" else ():
            self.found.setdefault((f"limit_{limit}", name), []).append(apply_rule(scores, limit))

    def rate(self, kind: str, name: str, what: tuple[str, ...] = ("alarms", "limits")) -> float:
        """Return retrainings a quarter of one model."""
        parts = self.found[kind, name]
        total = sum(int(part[key].sum()) for part in parts for key in what)
        return round(total / (QUARTERS * sum(len(part["first"]) for part in parts)), 4)

    def caught(self, kind: str, *names: str) -> dict[str, float]:
        """Return when bad models were caught: median session, and the share never."""
        parts = [part for name in names for part in self.found[kind, name]]
        first = np.concatenate([part["first"] for part in parts])
        median = float(np.median(np.where(first > 0, first, YEAR + 1)))
        return {"median_sessions": median, "missed": round(float((first == 0).mean()), 4)}

    def summary(self) -> dict[str, Any]:
        """Return the figures for JSON; a bad case is pooled over its sound bases."""
        sound = {
            name: {
                "false_retrains_a_quarter": self.rate("sound", name),
                "by_hard_limit": self.rate("sound", name, ("limits",)),
            }
            for kind, name in self.found
            if kind == "sound"
        }
        bases: dict[str, list[str]] = {}
        for kind, name in self.found:
            if not kind.startswith(("sound", "limit_", "curve_")):
                bases.setdefault(kind, []).append(name)
        return {
            "most_false_retrains_a_quarter": max(
                one["false_retrains_a_quarter"] for one in sound.values()
            ),
            "sound": sound,
            "bad": {
                kind: self.caught(kind, *names)
                | {"by_base": {name: self.caught(kind, name) for name in names}}
                for kind, names in bases.items()
            },
        }

    def curves(self) -> dict[str, list[float]]:
        """Return false retrains by limit, of the worst sound model, and delay by size of error."""
        if not self.with_curves:
            return {}
        names = [name for kind, name in self.found if kind == "sound"]
        delays = [self.caught(f"curve_{worse}", CURVE_BASE) for worse in CURVE_ERRORS]
        return {
            "false": [
                max(self.rate(f"limit_{limit}", name) for name in names) for limit in CURVE_LIMITS
            ],
            "delay": [one["median_sessions"] for one in delays],
        }


def draw_curves(folder: Path, curves: dict[str, dict[str, list[float]]]) -> None:
    """Write ``policy_false.svg`` and ``policy_delay.svg``."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "policy"
    errors = [100 * (worse - 1) for worse in CURVE_ERRORS]
    axes = {
        "false": ("sessions between false alarms (c)", "false retrains a quarter", CURVE_LIMITS),
        "delay": ("by how much the error grew, %", "median sessions until caught", errors),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for kind, (across, up, places) in axes.items():
        figure = Figure(figsize=(7, 4), layout="constrained")
        plot = figure.subplots()
        if kind == "false":
            bound = [63 / limit for limit in CURVE_LIMITS]
            plot.plot(places, bound, "k--", label="bound 63 / c", linewidth=1)
        for name, found in curves.items():
            style = "-" if name.startswith("simulated") else ":"
            plot.plot(places, found[kind], style, marker=".", label=name.replace("_", ", "))
        plot.set(xlabel=across, ylabel=up, xscale="log", yscale="log")
        if kind == "false":
            plot.set_yscale("symlog", linthresh=1e-3)
            plot.set_ylim(bottom=0)
        plot.grid(alpha=0.3)
        plot.legend(frameon=False, fontsize=8)
        figure.savefig(folder / f"policy_{kind}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
