"""Version 0: the forecast of no change, with calibrated intervals."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stock_assets.config import Params, Rename
from stock_assets.evaluation.metrics import score_rows
from stock_assets.evaluation.scoring import score_due
from stock_assets.market import calendar
from stock_assets.market.sources.sample import load_sample
from stock_assets.models.intervals import NEWEST_SESSIONS
from stock_assets.models.persistence import Persistence
from stock_assets_tests.models.bundles import sample_bars

BARS = sample_bars()
TICKERS = tuple(sorted(BARS["ticker"].unique()))
DAYS = calendar.sessions(date(2012, 7, 2), date(2013, 2, 25))
PERSISTENCE = Persistence(TICKERS, horizon=3, coverages=(0.5, 0.9), scale="combined")


def test_the_forecast_is_the_last_close() -> None:
    made = PERSISTENCE.forecast(BARS, DAYS[:2])
    assert len(made) == 2 * 3 * len(TICKERS)
    assert (made["predicted_price"] == made["last_close"]).all()
    assert (made["predicted_return"] == 0.0).all()
    assert made["lower_price"].lt(made["last_close"]).all()
    assert made["upper_price"].gt(made["last_close"]).all()


@given(st.data())
def test_a_forecast_depends_on_the_bars_of_its_sessions_alone(data: st.DataObject) -> None:
    """Neither later bars, nor older ones, nor the other requested sessions change a bit."""
    session = data.draw(st.sampled_from(DAYS[10:-10]))
    alone = BARS[
        BARS["session"].between(
            pd.Timestamp(PERSISTENCE.first_session(session)), pd.Timestamp(session)
        )
    ].reset_index(drop=True)
    changed = BARS.copy()
    others = ~changed.index.isin(BARS.index[BARS["session"].isin(alone["session"])])
    changed.loc[others, ["high", "close"]] *= data.draw(st.floats(1.01, 3.0))
    expected = PERSISTENCE.forecast(alone, [session])
    others_too = sorted({session, data.draw(st.sampled_from(DAYS[10:-10]))})
    made = PERSISTENCE.forecast(changed, others_too)
    of_session = made[made["as_of_session"] == pd.Timestamp(session)].reset_index(drop=True)
    pd.testing.assert_frame_equal(of_session, expected, check_exact=True)


@pytest.mark.parametrize("horizon", [1, 3])
def test_its_intervals_hold_as_many_outcomes_as_they_state(horizon: int) -> None:
    made = replace(PERSISTENCE, horizon=horizon).forecast(BARS, DAYS)
    scored = score_due(made.assign(model_version=0, issued="live"), BARS)
    covered = score_rows(scored)["covered"]
    assert covered.mean() == pytest.approx(0.9, abs=0.03)


def test_its_widths_follow_volatility() -> None:
    session = DAYS[100]
    calm = PERSISTENCE.forecast(BARS, [session])
    bars = BARS.copy()
    newest = bars["session"].eq(pd.Timestamp(session))
    bars.loc[newest, "high"] *= 1.2
    wild = PERSISTENCE.forecast(bars, [session])
    assert (wild["upper_price"] > calm["upper_price"]).all()


def test_residuals_of_sessions_before_the_newest_do_not_count() -> None:
    """With a constant scale, an outcome that left the newest sessions changes nothing."""
    persistence = Persistence(TICKERS, horizon=1, coverages=(0.9,), scale="constant")
    session = DAYS[-1]
    bars = BARS.copy()
    old = calendar.previous_session(session, NEWEST_SESSIONS + 2)
    bars.loc[bars["session"] <= pd.Timestamp(old), ["high", "close"]] *= 2.0
    pd.testing.assert_frame_equal(
        persistence.forecast(bars, [session]), persistence.forecast(BARS, [session])
    )
    inside = calendar.previous_session(session, NEWEST_SESSIONS)
    bars.loc[bars["session"] <= pd.Timestamp(inside), ["high", "close"]] *= 2.0
    made = persistence.forecast(bars, [session])
    assert not made["upper_price"].equals(persistence.forecast(BARS, [session])["upper_price"])


def test_a_split_changes_no_width() -> None:
    session = DAYS[50]
    split = DAYS[40]
    bars = BARS.copy()
    later = bars["session"] >= pd.Timestamp(split)
    bars.loc[later, ["open", "high", "low", "close"]] /= 2.0
    bars.loc[later, "dividends"] /= 2.0
    bars.loc[bars["session"] == pd.Timestamp(split), "stock_splits"] = 2.0
    made, expected = PERSISTENCE.forecast(bars, [session]), PERSISTENCE.forecast(BARS, [session])
    np.testing.assert_allclose(made["upper_price"] * 2, expected["upper_price"], rtol=1e-6)


def test_a_ticker_without_a_bar_is_left_out() -> None:
    session = DAYS[50]
    gone = (BARS["ticker"] == TICKERS[0]) & (BARS["session"] == pd.Timestamp(session))
    made = PERSISTENCE.forecast(BARS[~gone], [session])
    assert set(made["ticker"]) == set(TICKERS[1:])


def test_it_forecasts_once_residuals_suffice_for_its_widest_interval() -> None:
    """Nine residuals for 90%: of three tickers three outcomes, after a first return."""
    bars = load_sample()
    first = bars["session"].min().date()
    days = calendar.sessions(first, calendar.next_session(first, 6))
    listed = tuple(bars.loc[bars["session"] == pd.Timestamp(first), "ticker"].unique()[:5])
    made = replace(PERSISTENCE, tickers=listed, horizon=1).forecast(bars, days)
    assert set(made["as_of_session"].dt.date) == set(days[4:])


def test_the_digest_covers_the_settings() -> None:
    """The universe is part of the prices."""
    same = replace(PERSISTENCE, tickers=TICKERS[:2])
    assert same.digest == PERSISTENCE.digest
    others = (
        replace(PERSISTENCE, horizon=1),
        replace(PERSISTENCE, coverages=(0.9,)),
        replace(PERSISTENCE, scale="range"),
    )
    assert len({PERSISTENCE.digest, *(other.digest for other in others)}) == 4


def test_auto_is_the_combined_scale() -> None:
    assert Persistence.of(Params()).scale == "combined"
    chosen = Params.model_validate({"forecast": {"scale": "range"}})
    assert Persistence.of(chosen).scale == "range"


def test_a_renamed_ticker_keeps_its_place() -> None:
    old, new = TICKERS[0], "ZZZ"
    rename = Rename(old=old, new=new, first_session=DAYS[10])
    assert PERSISTENCE.rename_tickers([rename], DAYS[9]).tickers == (new, *TICKERS[1:])
    assert PERSISTENCE.rename_tickers([rename], DAYS[10]).tickers == TICKERS
