"""Retraining: what the newest scores, and the age of a model, call for."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pytest

from stock_assets.config import Monitoring, Thresholds
from stock_assets.core.errors import StockAssetsError
from stock_assets.evaluation.change_detection import default_bounds
from stock_assets.evaluation.metrics import score_rows, summarise
from stock_assets.evaluation.production_rule import PERSISTENCE_VERSION
from stock_assets.evaluation.retraining_rule import (
    Production,
    RetrainingDecision,
    RetrainingOutcome,
    decide_retraining,
)
from stock_assets.market.calendar import next_session, previous_session, sessions

AS_OF = date(2012, 10, 31)
DAYS = sessions(date(2012, 11, 1), date(2013, 2, 28))
NEWEST = DAYS[-1]
MONITORING = Monitoring(sessions_between_false_alarms=252, cooldown_sessions=20)
NO_LIMITS = MONITORING.model_copy(update={"thresholds": Thresholds(relative_mae_max=None)})
PRODUCTION = Production(1, AS_OF, default_bounds(0.9))
PERSISTENCE = Production(PERSISTENCE_VERSION, None, None)
ATTEMPT = 63


def scored(
    gains: list[float], width: float = 2.0, days: list[date] = DAYS, horizon: int = 1
) -> pd.DataFrame:
    """Five tickers that move by 1% a day, up and down in turn, forecast as `gains` of it in turn.

    The relative MAE of a session is ``|1 - gain|``. Intervals reach `width` percent to each side.
    """
    moves = np.resize([1.0, -1.0, 1.0, 1.0, -1.0, -1.0], len(days))
    predicted = 100.0 + np.repeat(moves * np.resize(gains, len(days)), 5)
    frame = pd.DataFrame(
        {
            "session": np.repeat(pd.to_datetime(days), 5),
            "as_of_session": np.repeat(
                pd.to_datetime([previous_session(day, horizon) for day in days]), 5
            ),
            "ticker": list("ABCDE") * len(days),
            "horizon": horizon,
            "persistence": 100.0,
            "actual": 100.0 + np.repeat(moves, 5),
            "predicted": predicted,
            "lower": predicted - width,
            "upper": predicted + width,
            "issued": "live",
        }
    )
    return score_rows(frame)


def decide(
    rows: pd.DataFrame,
    production: Production = PRODUCTION,
    last: date | None = None,
    monitoring: Monitoring = MONITORING,
) -> RetrainingDecision:
    newest = None if rows.empty else pd.Timestamp(rows["session"].max()).date()
    return decide_retraining(rows, production, newest, last, monitoring, ATTEMPT)


GOOD = scored([0.1])
WORSE = scored([-0.3])
"""A relative MAE of 1.3: within the hard limit."""
BAD = scored([-1.0])


def test_a_sound_model_is_healthy_and_the_decision_has_its_evidence() -> None:
    decision = decide(GOOD)
    assert decision.outcome is RetrainingOutcome.HEALTHY
    assert not decision.retrain
    assert (decision.session, decision.sessions) == (NEWEST, len(DAYS))
    assert decision.forecasts == 5 * len(DAYS)
    assert (decision.evidence_from, decision.model_version) == (DAYS[0], 1)
    alarm = decision.alarm
    assert alarm is not None
    assert alarm.limit == 252
    assert alarm.evidence < 0.2 * alarm.limit
    assert alarm.detectors["loss"].number == pytest.approx(-0.1 / 1.9)
    assert (alarm.detectors["loss"].m0, alarm.detectors["loss"].b) == (0.01, 0.1)
    assert alarm.evidence == pytest.approx(
        np.mean([state.evidence for state in alarm.detectors.values()])
    )
    assert [*alarm.path] == DAYS
    assert alarm.path[NEWEST] == pytest.approx(alarm.evidence, rel=1e-3)


def test_errors_that_stay_larger_raise_the_alarm() -> None:
    decision = decide(WORSE)
    assert decision.outcome is RetrainingOutcome.ALARM
    assert decision.retrain
    assert decision.breaches == ()
    assert decision.evidence_begins == DAYS[0]
    assert decision.alarm is not None
    assert decision.alarm.detectors["loss"].evidence > 3 * 252


def test_the_alarm_comes_on_the_session_on_which_the_limit_is_reached() -> None:
    path = decide(WORSE).alarm.path  # type: ignore[union-attr]
    first = next(day for day, evidence in path.items() if evidence >= 252)
    before = WORSE[WORSE["session"] < pd.Timestamp(first)]
    at = WORSE[WORSE["session"] <= pd.Timestamp(first)]
    assert decide(before).outcome is RetrainingOutcome.HEALTHY
    assert decide(at).outcome is RetrainingOutcome.ALARM


@pytest.mark.parametrize("kept", [10, 20, 30])
def test_a_decision_reads_nothing_of_later_sessions(kept: int) -> None:
    """Its path is the beginning of every later one, whatever the scores are that followed."""
    mixed = scored([0.1, -0.3, -0.2])
    early = mixed[mixed["session"] <= pd.Timestamp(DAYS[kept - 1])]
    decision = decide(early, monitoring=NO_LIMITS)
    assert decision.alarm is not None
    for later in (GOOD, BAD):
        joined = pd.concat([early, later[later["session"] > pd.Timestamp(DAYS[kept - 1])]])
        whole = decide(joined, monitoring=NO_LIMITS)
        assert whole.alarm is not None
        assert {day: whole.alarm.path[day] for day in DAYS[:kept]} == decision.alarm.path


@pytest.mark.parametrize("ahead", [0, 1, 5])
def test_a_leaked_score_is_refused(ahead: int) -> None:
    """A forecast that was made as of its own session or a later one has seen the outcome."""
    rows = GOOD.copy()
    leaked = rows.index[-1]
    day = next_session(NEWEST, ahead) if ahead else NEWEST
    rows.loc[leaked, "as_of_session"] = pd.Timestamp(day)
    with pytest.raises(StockAssetsError, match=f"forecast of E for {NEWEST} was made as of {day}"):
        decide(rows)


def test_scores_of_sessions_that_the_model_has_learnt_from_do_not_count() -> None:
    assert decide(BAD, replace(PRODUCTION, as_of=NEWEST)).outcome is RetrainingOutcome.NO_SCORES
    decision = decide(WORSE, replace(PRODUCTION, as_of=DAYS[-6]))
    assert (decision.evidence_from, decision.sessions) == (DAYS[-5], 5)


def test_evidence_starts_anew_after_a_retraining() -> None:
    decision = decide(WORSE, last=DAYS[-31], monitoring=NO_LIMITS)
    assert decision.evidence_from == DAYS[-30]
    assert decision.alarm == decide(WORSE.tail(5 * 30), monitoring=NO_LIMITS).alarm
    assert decide(WORSE, last=NEWEST).outcome is RetrainingOutcome.NO_SCORES


def test_only_forecasts_of_the_next_session_count() -> None:
    far = scored([-1.0], horizon=5)
    assert decide(pd.concat([GOOD, far])).alarm == decide(GOOD).alarm


def test_one_ticker_is_enough() -> None:
    one = WORSE[WORSE["ticker"] == "A"]
    assert decide(one).outcome is RetrainingOutcome.ALARM


def test_forecasts_of_no_change_are_healthy() -> None:
    """They have no direction, and the errors of persistence."""
    limits = Thresholds(direction_accuracy_min=0.5)
    monitoring = MONITORING.model_copy(update={"thresholds": limits})
    decision = decide(scored([0.0]), monitoring=monitoring)
    assert decision.outcome is RetrainingOutcome.HEALTHY
    assert decision.metrics is not None
    assert decision.metrics["direction_accuracy"] is None
    assert decision.alarm is not None
    assert decision.alarm.detectors["loss"].number == 0.0


@pytest.mark.parametrize("side", ["above", "below"])
def test_misses_on_one_side_raise_the_alarm(side: str) -> None:
    rows = scored([0.1])
    gap = 2.0 if side == "below" else -2.0
    missed = rows["ticker"].isin(["A", "B"])
    rows.loc[missed, "lower"] += gap
    rows.loc[missed, "upper"] += gap
    decision = decide(rows)
    assert decision.outcome is RetrainingOutcome.ALARM
    assert decision.alarm is not None
    states = decision.alarm.detectors
    assert max(states, key=lambda name: states[name].evidence) == side
    assert states[side].m0 == pytest.approx(0.07)


def test_a_hard_limit_retrains_before_the_evidence_does() -> None:
    decision = decide(BAD.head(25))
    assert decision.outcome is RetrainingOutcome.HARD_LIMIT
    assert decision.alarm is not None
    assert not decision.alarm.raised
    assert [(one.metric, one.limit) for one in decision.breaches] == [("relative_mae", 1.5)]
    assert decision.metrics == summarise(BAD.head(25)).to_dict()
    assert decision.evidence_begins == DAYS[0]


def test_hard_limits_need_all_of_their_sessions() -> None:
    assert decide(BAD.head(20)).outcome is RetrainingOutcome.HEALTHY


def test_hard_limits_are_about_the_newest_sessions() -> None:
    recovered = pd.concat([BAD.head(5 * 5), GOOD.tail(5 * 5)])
    decision = decide(recovered)
    assert decision.breaches == ()
    assert decision.metrics == summarise(GOOD.tail(25)).to_dict()


def test_invalid_forecasts_retrain_at_once() -> None:
    stopped = replace(PRODUCTION, invalid_forecasts=True)
    for rows, last in ((GOOD, None), (GOOD, DAYS[-3])):
        decision = decide(rows, stopped, last)
        assert decision.outcome is RetrainingOutcome.HARD_LIMIT
        assert (decision.invalid_forecasts, decision.session) == (True, NEWEST)


def test_invalid_forecasts_of_a_version_without_scores_retrain_too() -> None:
    stopped = replace(PRODUCTION, as_of=NEWEST, invalid_forecasts=True)
    decision = decide(GOOD, stopped, NEWEST)
    assert decision.outcome is RetrainingOutcome.HARD_LIMIT
    assert (decision.session, decision.sessions) == (NEWEST, 0)
    assert decision.evidence_begins == NEWEST


@pytest.mark.parametrize(("sessions_allowed", "outcome"), [(81, "age"), (82, "healthy")])
def test_a_model_is_retrained_at_the_maximum_age(sessions_allowed: int, outcome: str) -> None:
    assert len(DAYS) == 81
    monitoring = MONITORING.model_copy(update={"retrain_after_sessions": sessions_allowed})
    decision = decide(GOOD, monitoring=monitoring)
    assert decision.outcome == outcome
    assert (decision.age_sessions, decision.due_sessions) == (81, sessions_allowed)
    assert decision.evidence_begins is None


def test_age_counts_from_the_last_retraining_and_may_be_unlimited() -> None:
    monitoring = MONITORING.model_copy(update={"retrain_after_sessions": 30})
    assert decide(GOOD, last=DAYS[-31], monitoring=monitoring).outcome is RetrainingOutcome.AGE
    assert decide(GOOD, last=DAYS[-30], monitoring=monitoring).outcome is RetrainingOutcome.HEALTHY
    unlimited = MONITORING.model_copy(update={"retrain_after_sessions": None})
    assert decide(GOOD, monitoring=unlimited).outcome is RetrainingOutcome.HEALTHY


@pytest.mark.parametrize(("elapsed", "retrain"), [(19, False), (20, True), (30, True)])
def test_the_cooldown_is_counted_in_sessions(elapsed: int, retrain: bool) -> None:
    last = previous_session(NEWEST, elapsed)
    decision = decide(BAD, last=last)
    assert decision.retrain is retrain
    assert (decision.outcome is RetrainingOutcome.COOLING_DOWN) is not retrain
    assert (decision.elapsed_sessions, decision.last_retraining) == (elapsed, last)
    assert len(decision.breaches) == 1


def test_without_a_cooldown_an_alarm_retrains_at_once() -> None:
    eager = MONITORING.model_copy(update={"cooldown_sessions": 0})
    assert decide(BAD, last=DAYS[-6], monitoring=eager).retrain


@pytest.mark.parametrize(
    ("count", "last", "waited", "outcome"),
    [
        (62, None, 62, RetrainingOutcome.HEALTHY),
        (63, None, 63, RetrainingOutcome.NO_MODEL),
        (80, DAYS[40], 39, RetrainingOutcome.HEALTHY),
        (80, DAYS[16], 63, RetrainingOutcome.NO_MODEL),
    ],
)
def test_while_persistence_is_in_force_a_retraining_is_requested_every_test_segment(
    count: int, last: date | None, waited: int, outcome: RetrainingOutcome
) -> None:
    rows = scored([0.0]).head(5 * count)
    decision = decide(rows, PERSISTENCE, last)
    assert (decision.outcome, decision.age_sessions) == (outcome, waited)
    assert decision.due_sessions == ATTEMPT
    assert decision.alarm is None


def test_no_forecast_at_all_decides_nothing() -> None:
    for production in (PRODUCTION, PERSISTENCE):
        decision = decide(BAD.head(0), production)
        assert decision.outcome is RetrainingOutcome.NO_SCORES
        assert decision.session is None


def test_the_order_of_rows_changes_nothing() -> None:
    mixed = scored([0.9, -0.5])
    first, second = decide(mixed.sample(frac=1, random_state=1)), decide(mixed)
    assert (first.outcome, first.alarm) == (second.outcome, second.alarm)


def test_backfilled_forecasts_are_counted() -> None:
    rows = GOOD.assign(issued=np.resize(["live", "backfilled"], len(GOOD)))
    assert decide(rows).backfilled == len(GOOD) // 2
