"""The champion: which model may forecast a session, and when a winner goes into production."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stock_assets.evaluation.production_rule import (
    Cause,
    ModelVersion,
    champion_as_of,
    model_for,
    newer_production_session,
    persistence,
    promotion_is_due,
    refit_is_due,
    rollback_targets,
    trained_in_force,
    usable_versions,
    version_in_force,
)
from stock_assets.market import calendar
from stock_assets_tests.storage.examples import PROMOTION

DAYS = calendar.sessions(date(2012, 1, 3), date(2012, 1, 31))
WON = replace(
    PROMOTION,
    promoted=True,
    production_version=1,
    candidate_version=2,
    dataset_run_id="dataset",
    as_of_session=DAYS[5],
)
REFITTED = replace(WON, refit_version=3)
LOST = replace(WON, promoted=False)


def version(number: int, as_of: date = DAYS[5], dataset: str = "dataset") -> ModelVersion:
    return ModelVersion(number, "run", dataset, as_of, f"digest {number}")


@dataclass(frozen=True)
class Row:
    """A row of the history."""

    model: ModelVersion | None
    cause: Cause = Cause.PROMOTION
    until_session: date | None = None


def rows(*numbers: int | None) -> list[Row]:
    """Promotions one after the other, each as of the day of its number; None is a removal."""
    return [
        Row(None, Cause.FOUND_OUTSIDE) if number is None else Row(version(number, DAYS[number]))
        for number in numbers
    ]


models = st.lists(st.sampled_from(DAYS), min_size=1, max_size=6).map(
    lambda days: [version(number, day) for number, day in enumerate(days, start=1)]
)


@st.composite
def histories(draw: st.DrawFn) -> list[Row]:
    """Any sequence of promotions, of past winners, of moves by hand, of removals and rollbacks."""
    known, history = draw(models), list[Row]()
    for _ in range(draw(st.integers(0, 8))):
        cause = draw(st.sampled_from(list(Cause)))
        if cause is Cause.ROLLBACK:
            targets = rollback_targets(history)
            if targets:
                history.append(Row(targets[0], cause))
            continue
        if cause in (Cause.STEP_DOWN, Cause.PERSON) and draw(st.booleans()):
            history.append(Row(persistence(draw(st.sampled_from(DAYS))), cause))
            continue
        model = draw(st.sampled_from(known))
        if cause is Cause.FOUND_OUTSIDE and draw(st.booleans()):
            history.append(Row(None, cause))
            continue
        past = cause in (Cause.PROMOTION, Cause.REFIT)
        history.append(
            Row(model, cause, newer_production_session(model.as_of, history) if past else None)
        )
    return history


@given(st.sampled_from(DAYS), histories())
def test_the_champion_was_in_force_and_saw_nothing_later(session: date, history: list[Row]) -> None:
    champion, production = champion_as_of(session, history), version_in_force(history)
    allowed = [model for model in usable_versions(history) if model.as_of <= session]
    if production is not None and production.as_of <= session:
        assert champion == production
    elif allowed:
        assert champion is not None
        assert champion in allowed
        assert champion.as_of == max(model.as_of for model in allowed)
    else:
        assert champion is None
    if (
        production is None and any(row.until_session is None for row in history)
    ) or champion is None:
        assert model_for(session, history).is_persistence
    else:
        assert model_for(session, history) == champion


@given(st.sampled_from(DAYS), histories())
def test_a_version_rolled_back_from_forecasts_nothing(session: date, history: list[Row]) -> None:
    """Until it is put in force again."""
    before, targets = version_in_force(history), rollback_targets(history)
    if not targets or before is None:
        return
    after = [*history, Row(targets[0], Cause.ROLLBACK)]
    assert version_in_force(after) == targets[0]
    assert before not in rollback_targets(after)
    assert champion_as_of(session, after) != before
    later = [*after, Row(version(9, DAYS[-1]))]
    assert champion_as_of(session, later) != before
    again = [*after, Row(before, Cause.PERSON)]
    assert version_in_force(again) == before


@pytest.mark.parametrize(
    "removed", [[], [Row(None, Cause.FOUND_OUTSIDE)]], ids=["moved", "removed"]
)
@pytest.mark.parametrize("back", [1, 2], ids=["in production before", "never in production"])
def test_a_version_replaced_by_an_earlier_one_forecasts_nothing(
    removed: list[Row], back: int
) -> None:
    """Also where the alias was removed in between, and after the next promotion."""
    earlier = Row(version(back, DAYS[back]), Cause.PERSON)
    history = [*rows(1, 5), *removed, earlier, *rows(9)]
    assert champion_as_of(DAYS[6], history) == earlier.model
    assert champion_as_of(DAYS[6], rows(1, 5, 9)) == version(5, DAYS[5])


def test_a_version_put_in_force_again_after_a_removal_forecasts() -> None:
    history = [*rows(5, None), Row(version(5, DAYS[5]), Cause.PERSON), *rows(9)]
    assert champion_as_of(DAYS[6], history) == version(5, DAYS[5])


@given(histories())
def test_a_winner_of_a_past_session_leaves_production_alone(history: list[Row]) -> None:
    production = trained_in_force(history)
    if production is None or production.as_of == DAYS[0]:
        return
    past = version(8, DAYS[0])
    after = [*history, Row(past, Cause.PROMOTION, newer_production_session(past.as_of, history))]
    assert version_in_force(after) == production
    assert champion_as_of(DAYS[0], after) in (past, champion_as_of(DAYS[0], history))
    for session in DAYS:
        if session >= production.as_of:
            assert champion_as_of(session, after) == production


def test_of_two_versions_as_of_one_session_the_higher_forecasts() -> None:
    production = version(9, DAYS[12])
    history = [Row(version(n), until_session=production.as_of) for n in (1, 3, 2)]
    assert model_for(DAYS[9], [Row(production), *history]).version == 3


def test_production_forecasts_although_a_newer_version_exists() -> None:
    history = [*rows(5, 6), Row(version(5, DAYS[5]), Cause.FOUND_OUTSIDE)]
    assert model_for(DAYS[9], history) == version(5, DAYS[5])


def test_a_model_may_forecast_its_own_as_of_session() -> None:
    assert model_for(DAYS[5], rows(5)).version == 5


def test_a_rollback_goes_back_step_by_step() -> None:
    history = rows(1, 2, 3)
    for expected in (2, 1):
        (target, *_) = rollback_targets(history)
        assert target.version == expected
        history = [*history, Row(target, Cause.ROLLBACK)]
    assert rollback_targets(history) == []


def test_a_rollback_undoes_a_promotion_by_name_and_a_removal() -> None:
    named = [*rows(1, 2), Row(version(1, DAYS[1]), Cause.PERSON)]
    assert rollback_targets(named)[0].version == 2
    assert rollback_targets(rows(1, 2, None))[0].version == 2


def test_persistence_forecasts_where_no_version_may() -> None:
    """Before the first promotion, before the first as-of session, and after a removal."""
    for history in ([], rows(4)):
        assert model_for(DAYS[0], history) == persistence()
    assert model_for(DAYS[9], rows(4, None)) == persistence()


def test_persistence_forecasts_from_the_session_that_production_stepped_down_on() -> None:
    """The version that broke the limit forecasts nothing any more, earlier versions their past."""
    history = [*rows(1, 5), Row(persistence(DAYS[9]), Cause.STEP_DOWN)]
    assert trained_in_force(history) is None
    assert model_for(DAYS[9], history) == persistence(DAYS[9])
    assert model_for(DAYS[8], history) == version(1, DAYS[1])
    assert model_for(DAYS[0], history) == persistence()
    later = [*history, *rows(11)]
    assert model_for(DAYS[11], later).version == 11
    assert model_for(DAYS[10], later) == persistence(DAYS[9])


def test_persistence_put_in_force_by_a_person_leaves_the_past_to_the_version_before() -> None:
    history = [*rows(1, 5), Row(persistence(DAYS[9]), Cause.PERSON)]
    assert model_for(DAYS[8], history) == version(5, DAYS[5])
    assert rollback_targets(history)[0] == version(5, DAYS[5])


def test_a_version_stepped_down_from_is_no_target_of_a_rollback() -> None:
    history = [*rows(1, 5), Row(persistence(DAYS[9]), Cause.STEP_DOWN)]
    assert rollback_targets(history) == [version(1, DAYS[1])]


def test_a_winner_of_any_session_takes_over_from_persistence() -> None:
    history = [*rows(1), Row(persistence(DAYS[9]), Cause.STEP_DOWN)]
    assert newer_production_session(DAYS[2], history) is None


@pytest.mark.parametrize(
    ("decision", "history", "due"),
    [
        (WON, [], True),
        (WON, rows(1), True),
        (REFITTED, rows(1), True),
        (WON, [*rows(1), Row(version(2))], False),
        (WON, [*rows(1), Row(version(2)), *rows(1)], False),  # rolled back on purpose
        (REFITTED, [*rows(1), Row(version(2)), *rows(1)], False),
        (WON, rows(7), True),  # for the sessions before those of version 7
        (WON, rows(1, 4), False),  # production was changed since the decision
        (WON, [*rows(1), Row(version(2, dataset="another"))], False),
        (WON, rows(1, None), True),
        (WON, [*rows(1), Row(persistence(DAYS[9]), Cause.STEP_DOWN)], True),
        (LOST, rows(1), False),
        (LOST, [], False),
    ],
)
def test_promotion_is_due_until_the_winner_has_been_in_force(
    decision: object, history: list[Row], due: bool
) -> None:
    assert promotion_is_due(decision, history) is due  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("decision", "history", "due"),
    [
        (WON, rows(1), True),
        (WON, [*rows(1), Row(version(2))], False),
        (REFITTED, rows(1), False),
        (LOST, rows(1), False),
    ],
)
def test_refit_is_due_for_a_winner_without_one(
    decision: object, history: list[Row], due: bool
) -> None:
    assert refit_is_due(decision, history) is due  # type: ignore[arg-type]


def test_versions_are_the_same_by_dataset_number_and_known_digests() -> None:
    model = version(1)
    assert model.is_same(replace(model, digest=None))
    assert not model.is_same(replace(model, digest="another"))
    assert not model.is_same(replace(model, dataset_run_id="another"))
    assert not model.is_same(None)
