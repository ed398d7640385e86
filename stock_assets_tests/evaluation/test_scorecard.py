"""Scorecards: every figure of every model under one name, and the tables that hold them."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from stock_assets.evaluation.metrics import (
    Metrics,
    by_ticker,
    persistence_forecasts,
    score_rows,
    summarise,
)
from stock_assets.evaluation.scorecard import (
    SHOWN,
    Scorecard,
    horizon_table,
    narrow,
    pooled_table,
    score_models,
    session_table,
    ticker_table,
)
from stock_assets.evaluation.significance import (
    cumulative_difference,
    diebold_mariano,
    loss_difference,
)
from stock_assets.evaluation.skill import measure_skill, session_ics
from stock_assets_tests.evaluation.examples import scored_forecasts

METRICS = list(Metrics.__dataclass_fields__)
CANDIDATE, PRODUCTION = scored_forecasts(skill=0.5), scored_forecasts(own_seed=2)
ROWS = {
    "candidate": CANDIDATE,
    "production": PRODUCTION,
    "persistence": score_rows(persistence_forecasts(CANDIDATE)),
    "reversal": scored_forecasts(own_seed=3),
}


@pytest.fixture(scope="module")
def cards() -> dict[str, Scorecard]:
    return score_models(ROWS)


def test_each_model_has_its_scores(cards: dict[str, Scorecard]) -> None:
    assert list(cards) == list(ROWS)
    for name, rows in ROWS.items():
        assert asdict(cards[name].metrics) == pytest.approx(asdict(summarise(rows)), nan_ok=True)
        assert asdict(cards[name].skill) == pytest.approx(asdict(measure_skill(rows)), nan_ok=True)


def test_each_model_is_tested_against_the_other_references(cards: dict[str, Scorecard]) -> None:
    both = {"persistence", "production"}
    assert {name: set(card.against) for name, card in cards.items()} == {
        "candidate": both,
        "production": {"persistence"},
        "persistence": {"production"},
        "reversal": both,
    }
    expected = diebold_mariano(loss_difference(CANDIDATE, PRODUCTION).to_numpy())
    assert cards["candidate"].against["production"] == expected
    assert expected.better(0.05)


def test_without_production_there_is_one_reference() -> None:
    cards = score_models({name: ROWS[name] for name in ("candidate", "persistence")})
    assert set(cards["candidate"].against) == {"persistence"}
    assert cards["persistence"].against == {}


AHEAD = {"candidate": scored_forecasts(skill=0.5, horizons=3)}
AHEAD["persistence"] = score_rows(persistence_forecasts(AHEAD["candidate"]))


def test_the_longest_horizon_reaches_the_test() -> None:
    far = score_models(AHEAD)["candidate"].against["persistence"]
    losses = loss_difference(*AHEAD.values()).to_numpy()
    assert far == diebold_mariano(losses, 3) != diebold_mariano(losses, 1)


def test_pooled_scores_are_over_all_horizons() -> None:
    pooled = score_models(AHEAD)["candidate"].metrics
    own = AHEAD["candidate"]
    assert pooled.forecasts == len(own) == 3 * 5 * 38
    assert pooled.mae == pytest.approx(own["absolute_error"].mean())
    losses, references = (rows["absolute_error"] / rows["persistence"] for rows in AHEAD.values())
    assert pooled.relative_mae == pytest.approx(losses.sum() / references.sum())


def test_the_horizon_table_scores_each_horizon_separately() -> None:
    table = horizon_table(AHEAD)
    assert table[["horizon", "model"]].to_numpy().tolist() == [
        [horizon, name] for horizon in (1, 2, 3) for name in AHEAD
    ]
    table = table.set_index(["model", "horizon"])
    for horizon in (1, 2, 3):
        own, reference = (rows[rows["horizon"] == horizon] for rows in AHEAD.values())
        expected, found = asdict(summarise(own)), table.loc[("candidate", horizon)]
        for name in ("forecasts", "mae", "mape", "relative_mae", "direction_accuracy"):
            assert found[name] == pytest.approx(expected[name])
        test = diebold_mariano(loss_difference(own, reference).to_numpy(), horizon)
        assert found["p_persistence"] == test.p_value
        assert table.loc[("persistence", horizon), "relative_mae"] == 1.0
    assert table["coverage"].isna().all()


def test_a_narrow_table_keeps_labels_and_selected_figures() -> None:
    table = horizon_table(AHEAD)
    narrowed = narrow(table)
    shown = [name for name in SHOWN if name != "p_production"]
    assert list(narrowed) == ["horizon", "model", *shown]
    pd.testing.assert_frame_equal(narrowed, table[list(narrowed)])


def test_figures_are_flat_and_plain(cards: dict[str, Scorecard]) -> None:
    card = cards["candidate"]
    plain = card.to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["relative_mae"] == card.metrics.relative_mae
    assert plain["icir"] == card.skill.icir
    assert plain["p_production"] == card.against["production"].p_value
    assert plain["dm_persistence"] == card.against["persistence"].statistic
    assert plain["coverage"] is None
    assert not [name for name in plain if name.startswith("undefined_")]


def test_an_undefined_test_is_none_with_its_reason() -> None:
    cards = score_models({"candidate": ROWS["persistence"], "persistence": ROWS["persistence"]})
    plain = cards["candidate"].to_dict()
    assert (plain["dm_persistence"], plain["p_persistence"]) == (None, None)
    assert plain["undefined_persistence"] == "their losses are equal in every session"


def test_the_pooled_table_has_a_row_per_figure(cards: dict[str, Scorecard]) -> None:
    figures = {name: card.to_dict() for name, card in cards.items()}
    figures["reversal"]["undefined_production"] = "a reason"
    table = pooled_table(figures)
    assert list(table.columns) == ["figure", *ROWS]
    table = table.set_index("figure")
    assert list(table.index[:2]) == ["forecasts", "sessions"]
    assert table.index[-1] == "undefined_production"
    for name, own in figures.items():
        assert {figure: table.loc[figure, name] for figure in own} == own
    assert table.loc["p_production", "production"] is None


@pytest.fixture(scope="module")
def tickers() -> pd.DataFrame:
    return ticker_table(ROWS)


def test_the_ticker_table_has_every_model_on_every_ticker(tickers: pd.DataFrame) -> None:
    assert list(tickers.columns[:2]) == ["model", "ticker"]
    assert list(dict.fromkeys(tickers["model"])) == list(ROWS)
    own = tickers[tickers["model"] == "production"].reset_index(drop=True)
    pd.testing.assert_frame_equal(own[["ticker", *METRICS]], by_ticker(PRODUCTION))


def test_each_ticker_has_the_errors_and_tests_of_its_forecasts_alone(tickers: pd.DataFrame) -> None:
    alone = {name: rows[rows["ticker"] == "T1"] for name, rows in ROWS.items()}
    found_rows = tickers[tickers["ticker"] == "T1"].set_index("model").to_dict("index")
    for model, card in score_models(alone).items():
        row = found_rows[model]
        expected = card.to_dict()
        found = {name: row[name] for name in row if name in expected}
        assert {"relative_mae_se", "session_ic"} & set(found) == {"relative_mae_se"}
        assert found == pytest.approx(
            {name: np.nan if expected[name] is None else expected[name] for name in found},
            nan_ok=True,
        )


def test_persistence_is_not_tested_against_itself(tickers: pd.DataFrame) -> None:
    persistence = tickers[tickers["model"] == "persistence"]
    assert persistence[["dm_persistence", "p_persistence", "q_persistence"]].isna().all(axis=None)
    assert persistence["p_production"].notna().all()


def test_without_an_edge_no_share_of_false_discoveries_is_small() -> None:
    """Of many tickers some have a small p-value by luck; hardly any has a small q."""
    found = []
    for seed in range(10):
        rows = scored_forecasts(seed, tickers=100, own_seed=100 + seed)
        noise = {
            "candidate": rows,
            "production": scored_forecasts(seed, tickers=100, own_seed=seed),
        }
        table = ticker_table(noise).query("model == 'candidate'")
        assert (table["q_production"] >= table["p_production"]).all()
        found.append([(table[name] < 0.05).sum() for name in ("p_production", "q_production")])
    lucky, discovered = np.array(found).T
    assert lucky.mean() > 3
    assert (discovered > 0).mean() < 0.2


def test_tickers_without_a_test_take_no_part_in_the_share_of_false_discoveries() -> None:
    late = CANDIDATE["ticker"].eq("T0") & (CANDIDATE["session"] > CANDIDATE["session"].iloc[20])
    few = {name: rows[~late] for name, rows in ROWS.items() if name != "reversal"}
    rest = {name: rows[rows["ticker"] != "T0"] for name, rows in few.items()}
    with_few, without = (
        ticker_table(some).query("model == 'candidate'").set_index("ticker")["q_production"]
        for some in (few, rest)
    )
    assert np.isnan(with_few["T0"])
    pd.testing.assert_series_equal(with_few.drop("T0"), without)


def test_the_session_table_has_the_columns_of_its_figures() -> None:
    table = session_table(ROWS, "candidate").set_index("session")
    losses = loss_difference(CANDIDATE, ROWS["persistence"])
    pd.testing.assert_series_equal(table["difference"], losses, check_names=False)
    pd.testing.assert_series_equal(table["cumulative"], losses.cumsum(), check_names=False)
    ics = session_ics(CANDIDATE).droplevel("horizon")
    pd.testing.assert_frame_equal(table[["ic", "rank_ic"]], ics)
    assert (table["lower"] < table["upper"]).all()


def test_the_session_table_of_several_horizons_has_a_row_per_target_session() -> None:
    table = session_table(AHEAD, "candidate").set_index("session")
    own, band = AHEAD["candidate"], cumulative_difference(loss_difference(*AHEAD.values()), 3)
    assert list(table.index) == sorted(own["session"].unique())
    pd.testing.assert_frame_equal(table[list(band)], band)
    last = own[own["session"] == own["session"].max()]
    assert set(last["horizon"]) == {3}
    assert table["ic"].iloc[-1] == pytest.approx(session_ics(last)["ic"].item())
