"""The champion: which model may forecast a session, and when a winner goes into production."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stock_assets.core.errors import StockAssetsError
from stock_assets.evaluation.production_rule import (
    ModelVersion,
    champion_as_of,
    model_for,
    promotion_is_due,
    refit_is_due,
)
from stock_assets.market import calendar
from stock_assets_tests.storage.examples import PROMOTION

DAYS = calendar.sessions(date(2012, 1, 3), date(2012, 1, 31))
WON = replace(PROMOTION, promoted=True, production_version=1, candidate_version=2)
REFITTED = replace(WON, refit_version=3)
LOST = replace(WON, promoted=False)


def version(number: int, as_of: date = DAYS[5]) -> ModelVersion:
    return ModelVersion(number, "run", f"{as_of:%Y%m%d}_120000", as_of, "digest")


days = st.sampled_from(DAYS)
promoted_models = st.lists(days, max_size=6).map(
    lambda dates: [version(number, day) for number, day in enumerate(dates, start=1)]
)


@given(days, promoted_models, st.data())
def test_no_model_forecasts_a_session_before_its_as_of_session(
    session: date, promoted: list[ModelVersion], data: st.DataObject
) -> None:
    production = data.draw(st.sampled_from([None, *promoted]))
    allowed = [model for model in promoted if model.as_of <= session]
    if not allowed:
        assert champion_as_of(session, production, promoted) is None
        with pytest.raises(StockAssetsError, match=f"stock-assets retrain --as-of {session}"):
            model_for(session, production, promoted)
        return
    chosen = model_for(session, production, promoted)
    assert chosen in allowed
    if production in allowed:
        assert chosen == production
    else:
        assert chosen.as_of == max(model.as_of for model in allowed)


@given(days, promoted_models, st.randoms())
def test_champion_does_not_depend_on_the_order_of_versions(
    session: date, promoted: list[ModelVersion], random: Random
) -> None:
    shuffled = promoted.copy()
    random.shuffle(shuffled)
    assert champion_as_of(session, None, promoted) == champion_as_of(session, None, shuffled)


def test_of_two_versions_as_of_one_session_the_higher_forecasts() -> None:
    models = [version(1), version(3), version(2)]
    assert model_for(DAYS[9], None, models).version == 3


def test_production_forecasts_although_a_newer_version_exists() -> None:
    older, newer = version(1), version(2, DAYS[6])
    assert model_for(DAYS[9], older, [older, newer]) == older


def test_a_model_may_forecast_its_own_as_of_session() -> None:
    assert model_for(DAYS[5], version(1), []).version == 1


def test_the_error_names_the_production_model_that_saw_later_sessions() -> None:
    with pytest.raises(StockAssetsError, match="there is no production model") as none:
        model_for(DAYS[0], None, [])
    with pytest.raises(StockAssetsError, match=r"version 4\) is as of 2012-01-10") as seen:
        model_for(DAYS[0], version(4), [version(4)])
    for caught in (none, seen):
        assert caught.value.remedy.endswith(f"stock-assets retrain --as-of {DAYS[0]}")


@pytest.mark.parametrize(
    ("decision", "production", "history", "due"),
    [
        (WON, None, set(), True),
        (WON, 1, {1}, True),
        (WON, 2, {1}, True),  # killed between the move and its record
        (REFITTED, 3, {1}, True),
        (WON, 2, {1, 2}, False),
        (WON, 1, {1, 2}, False),  # rolled back on purpose
        (REFITTED, 1, {1, 2}, False),
        (WON, 7, {7}, False),  # production is newer than the champion of the candidate's session
        (LOST, 1, {1}, False),
        (LOST, None, set(), False),
    ],
)
def test_promotion_is_due_until_the_winner_has_been_in_production(
    decision: object, production: int | None, history: set[int], due: bool
) -> None:
    model = None if production is None else version(production)
    assert promotion_is_due(decision, model, history) is due


@pytest.mark.parametrize(
    ("decision", "history", "due"),
    [(WON, {1}, True), (WON, {1, 2}, False), (REFITTED, {1}, False), (LOST, {1}, False)],
)
def test_refit_is_due_for_a_winner_without_one(
    decision: object, history: set[int], due: bool
) -> None:
    assert refit_is_due(decision, history) is due
