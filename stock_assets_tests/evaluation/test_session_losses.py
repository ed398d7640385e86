"""One bounded number a session for the losses of two forecasters."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest

from stock_assets.evaluation.metrics import score_rows
from stock_assets.evaluation.session_losses import relative_difference, session_differences

DAYS = pd.to_datetime([date(2013, 1, 2), date(2013, 1, 3)])


def scored(predicted: list[float], horizon: int = 1) -> pd.DataFrame:
    """Two tickers, at 100 and 1000 dollars, that rise by 2% in each of two sessions."""
    last = np.array([100.0, 1000.0, 100.0, 1000.0])
    return score_rows(
        pd.DataFrame(
            {
                "session": DAYS.repeat(2),
                "ticker": list("AB") * 2,
                "horizon": horizon,
                "persistence": last,
                "actual": last * 1.02,
                "predicted": last * (1 + np.array(predicted)),
            }
        )
    )


def test_losses_are_fractions_of_the_last_close_summed_over_tickers() -> None:
    found = session_differences(scored([0.03, 0.05, 0.02, 0.02]))
    assert found.to_list() == pytest.approx([(0.01 + 0.03 - 0.04) / 0.08, -1.0])
    assert found.index.to_list() == DAYS.to_list()


def test_two_models_are_compared_on_the_pairs_that_both_forecast() -> None:
    own, other = scored([0.03, 0.05, 0.04, 0.0]), scored([0.0, 0.04, 0.02, 0.02])
    found = session_differences(own, other.iloc[1:])
    assert found.to_list() == pytest.approx([0.2, 1.0])
    assert session_differences(other.iloc[1:], own).to_list() == pytest.approx([-0.2, -1.0])


def test_forecasts_of_no_change_and_sessions_without_a_move_give_zero() -> None:
    assert session_differences(scored([0.0] * 4)).to_list() == [0.0, 0.0]
    assert relative_difference(np.zeros(1), np.zeros(1)).item() == 0.0


def test_only_the_nearest_horizon_counts() -> None:
    near, far = scored([0.03, 0.05, 0.02, 0.02]), scored([0.5] * 4, horizon=2)
    both = pd.concat([far, near])
    pd.testing.assert_series_equal(session_differences(both), session_differences(near))
    assert session_differences(far).empty


def test_the_number_is_bounded() -> None:
    found = session_differences(scored([1e9, -0.9, 0.02, 0.02]))
    assert found.between(-1, 1).all()
