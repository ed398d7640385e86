"""Alpha158 agrees with its published formulae, written in pandas, on real bars."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from stock_assets.features.alpha158 import ALPHA158, WINDOWS
from stock_assets.features.indicators import FEATURES
from stock_assets_tests.features.examples import columns_of, walk

ROWS = 400
RELATIVE, ABSOLUTE = 1e-8, 1e-9
"""The running sums of pandas accumulate rounding errors."""

TINY = 1e-12


def line(closes: np.ndarray) -> tuple[float, float, float]:
    """Return slope, R squared and last residual of a least-squares line."""
    time = np.arange(len(closes))
    slope, level = np.polyfit(time, closes, 1)
    fitted = slope * time + level
    unexplained = np.square(closes - fitted).sum() / np.square(closes - closes.mean()).sum()
    return slope, 1.0 - unexplained, closes[-1] - fitted[-1]


def published(bars: pd.DataFrame) -> dict[str, pd.Series]:
    """Compute every formula as published in Qlib, with the typical price for VWAP."""
    open_, high, low, close, volume = (
        bars[name] for name in ("open", "high", "low", "close", "volume")
    )
    before, volume_before = close.shift(), volume.shift()
    top, bottom = np.maximum(open_, close), np.minimum(open_, close)
    spread = high - low + TINY
    values = {
        "KMID": (close - open_) / open_,
        "KLEN": (high - low) / open_,
        "KMID2": (close - open_) / spread,
        "KUP": (high - top) / open_,
        "KUP2": (high - top) / spread,
        "KLOW": (bottom - low) / open_,
        "KLOW2": (bottom - low) / spread,
        "KSFT": (2 * close - high - low) / open_,
        "KSFT2": (2 * close - high - low) / spread,
        "OPEN0": open_ / close,
        "HIGH0": high / close,
        "LOW0": low / close,
        "VWAP0": (high + low + close) / 3 / close,
    }
    for days in WINDOWS:
        closes, highs, lows = close.rolling(days), high.rolling(days), low.rolling(days)
        lines = [
            line(close.to_numpy()[row - days + 1 : row + 1]) for row in range(days - 1, len(close))
        ]
        slope, determined, residual = (
            pd.Series([np.nan] * (days - 1) + list(part)) for part in zip(*lines, strict=True)
        )
        first_high = highs.apply(lambda part: part.argmax() + 1, raw=True)
        first_low = lows.apply(lambda part: part.argmin() + 1, raw=True)
        traded, turnover = np.log(volume + 1), np.log(volume / volume_before + 1)
        rises = (close > before).where(before.notna()).astype(float).rolling(days).mean()
        falls = (close < before).where(before.notna()).astype(float).rolling(days).mean()
        weighted = ((close / before - 1).abs() * volume).rolling(days)
        family = {
            "ROC": close.shift(days) / close,
            "MA": closes.mean() / close,
            "STD": closes.std() / close,
            "BETA": slope / close,
            "RSQR": determined,
            "RESI": residual / close,
            "MAX": highs.max() / close,
            "MIN": lows.min() / close,
            "QTLU": closes.quantile(0.8) / close,
            "QTLD": closes.quantile(0.2) / close,
            "RANK": closes.rank(pct=True),
            "RSV": (close - lows.min()) / (highs.max() - lows.min() + TINY),
            "IMAX": first_high / days,
            "IMIN": first_low / days,
            "IMXD": (first_high - first_low) / days,
            "CORR": closes.corr(traded),
            "CORD": (close / before).rolling(days).corr(turnover),
            "CNTP": rises,
            "CNTN": falls,
            "CNTD": rises - falls,
            "VMA": volume.rolling(days).mean() / (volume + TINY),
            "VSTD": volume.rolling(days).std() / (volume + TINY),
            "WVMA": weighted.std() / (weighted.mean() + TINY),
        }
        for prefix, moves in (("", close - before), ("V", volume - volume_before)):
            gains = moves.clip(lower=0).rolling(days).sum()
            losses = (-moves).clip(lower=0).rolling(days).sum()
            moved = moves.abs().rolling(days).sum() + TINY
            family[f"{prefix}SUMP"] = gains / moved
            family[f"{prefix}SUMN"] = losses / moved
            family[f"{prefix}SUMD"] = (gains - losses) / moved
        values |= {f"{name}{days}": series for name, series in family.items()}
    return values


@pytest.fixture(scope="module", params=["IBM", "AAPL"])
def ticker_bars(request: pytest.FixtureRequest, sample_bars: pd.DataFrame) -> pd.DataFrame:
    own = sample_bars[sample_bars["ticker"] == request.param]
    return own.iloc[-ROWS:].reset_index(drop=True)


def test_values_agree_with_the_published_formulae(ticker_bars: pd.DataFrame) -> None:
    expected = published(ticker_bars)
    bars = columns_of(ticker_bars, ticker_bars["ticker"].iloc[0])
    assert set(expected) == {feature.name for feature in ALPHA158}
    for feature in ALPHA158:
        np.testing.assert_allclose(
            feature.compute(bars),
            expected[feature.name],
            rtol=RELATIVE,
            atol=ABSOLUTE,
            err_msg=feature.name,
        )


def test_features_are_in_published_order() -> None:
    names = [feature.name for feature in ALPHA158]
    assert names[:4] == ["KMID", "KLEN", "KMID2", "KUP"]
    assert names[13:19] == ["ROC5", "ROC10", "ROC20", "ROC30", "ROC60", "MA5"]
    assert names[-1] == "VSUMD60"


@pytest.mark.parametrize(
    ("family", "at_rest"),
    [
        ("MA", 1.0),
        ("STD", 0.0),
        ("BETA", 0.0),
        ("RSQR", 0.0),
        ("RESI", 0.0),
        ("RANK", 0.55),
        ("RSV", 0.0),
        ("CORR", 0.0),
        ("CORD", 0.0),
        ("CNTD", 0.0),
        ("SUMD", 0.0),
        ("VMA", 1.0),
        ("VSTD", 0.0),
        ("WVMA", 0.0),
        ("VSUMD", 0.0),
    ],
)
def test_suspended_ticker_has_neutral_values(family: str, at_rest: float) -> None:
    suspended = walk(120, seed=1, still=slice(20, 120))
    found = FEATURES[f"{family}10"].compute(suspended)[-1]
    assert found == pytest.approx(at_rest, abs=1e-15)


def test_volume_ratios_are_bounded_for_tiny_volumes() -> None:
    bars = walk(120, seed=2)
    bars["volume"][-1] = 0.0
    assert FEATURES["VMA20"].compute(bars)[-1] == pytest.approx(1000.0)
    assert FEATURES["VSTD20"].compute(bars)[-1] < 5000.0
