"""Scores, standard errors and tests of models on the same forecasts, and tables of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from stock_assets.evaluation.metrics import (
    Metrics,
    by_ticker,
    summarise,
    undefined_as_none,
)
from stock_assets.evaluation.significance import (
    DieboldMariano,
    cumulative_difference,
    diebold_mariano,
    diebold_mariano_tests,
    loss_difference,
    loss_differences,
)
from stock_assets.evaluation.skill import Skill, measure_skill, session_ics, standard_errors

REFERENCES = ("persistence", "production")
"""The models that every other one is tested against."""


SHOWN = (
    "forecasts",
    "mae",
    "rmse",
    "mape",
    "relative_mae",
    "direction_accuracy",
    "base_rate_up",
    "coverage",
    "session_ic",
    "icir",
    "p_persistence",
    "p_production",
)
"""Figures of `Scorecard.to_dict` in a narrow table; the files have all of them."""

_TEST_PREFIXES = ("dm_", "p_", "q_", "undefined_")


@dataclass(frozen=True)
class Scorecard:
    """Pooled scores of one model, their standard errors, and its tests against each reference."""

    metrics: Metrics
    skill: Skill
    against: dict[str, DieboldMariano]

    def to_dict(self) -> dict[str, Any]:
        """Return every figure under one flat name, for JSON: an undefined one is None.

        The fields of `Metrics` and `Skill`; per reference ``dm_…`` (the statistic), ``p_…`` and,
        where the test is undefined, ``undefined_…`` with the reason.
        """
        figures: dict[str, Any] = {**asdict(self.metrics), **asdict(self.skill)}
        for name, test in self.against.items():
            figures |= {f"dm_{name}": test.statistic, f"p_{name}": test.p_value}
            if test.reason:
                figures[f"undefined_{name}"] = test.reason
        return undefined_as_none(figures)


def score_models(scored: Mapping[str, pd.DataFrame]) -> dict[str, Scorecard]:
    """Summarise each model, and test it against each reference in the mapping.

    Parameters
    ----------
    scored : mapping of str to DataFrame
        The scored forecasts of each model, of the same (session, ticker, horizon) triples.
    """
    return {
        name: Scorecard(
            metrics=summarise(rows),
            skill=measure_skill(rows),
            against={
                reference: diebold_mariano(
                    loss_difference(rows, scored[reference]).to_numpy(),
                    int(rows["horizon"].max()),
                )
                for reference in _references(name, scored)
            },
        )
        for name, rows in scored.items()
    }


def pooled_table(figures: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Return one row per figure, scores before tests before reasons, and one column per model.

    Parameters
    ----------
    figures : mapping of str to mapping
        `Scorecard.to_dict` of each model.

    Returns
    -------
    DataFrame
        ``figure`` and the models; None where a figure is undefined or missing.
    """
    names = list(dict.fromkeys(name for own in figures.values() for name in own))
    names.sort(key=lambda name: name.startswith("undefined_"))
    columns = {model: [own.get(name) for name in names] for model, own in figures.items()}
    return pd.DataFrame({"figure": names, **columns}, dtype=object)


def session_table(scored: Mapping[str, pd.DataFrame], name: str) -> pd.DataFrame:
    """Return the loss and the correlations of one model per session, for plots.

    Returns
    -------
    DataFrame
        ``session``, ``difference`` of the loss from persistence's (a fraction of price),
        ``cumulative`` with its ``lower`` and ``upper`` bound, ``ic`` and ``rank_ic``; the mean
        where several horizons end in a session.
    """
    rows = scored[name]
    differences = loss_difference(rows, scored["persistence"])
    summed = cumulative_difference(differences, int(rows["horizon"].max()))
    table = summed.join(session_ics(rows).groupby("session").mean())
    table.insert(0, "difference", differences)
    return table.reset_index()


def horizon_table(scored: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Score each model at each horizon separately, the nearest horizon first.

    Returns
    -------
    DataFrame
        ``horizon``, ``model`` and the figures of `Scorecard.to_dict`; each test accounts for the
        overlap of its horizon.
    """
    horizons = sorted({horizon for rows in scored.values() for horizon in rows["horizon"]})
    table = [
        {"horizon": horizon, "model": name, **card.to_dict()}
        for horizon in horizons
        for name, card in score_models(
            {name: rows[rows["horizon"] == horizon] for name, rows in scored.items()}
        ).items()
    ]
    return pd.DataFrame(table)


def narrow(table: pd.DataFrame) -> pd.DataFrame:
    """Drop the figures that are not `SHOWN`, and keep the other columns."""
    scores = {*Metrics.__dataclass_fields__, *Skill.__dataclass_fields__}
    figures = [name for name in table if name in scores or str(name).startswith(_TEST_PREFIXES)]
    return table.drop(columns=[name for name in figures if name not in SHOWN])


def ticker_table(scored: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Score each model on each ticker separately, with standard errors.

    Of many tickers some are significant by chance: of five hundred without an edge, two dozen at
    5%. So each p-value has a ``q``: among the tickers of a model whose ``q`` is below a level, the
    expected share without a difference is below that level (Benjamini and Hochberg 1995,
    "Controlling the false discovery rate", J. Royal Statistical Society B 57; it holds for
    independent tests, and for those that depend positively: Benjamini and Yekutieli 2001).

    Returns
    -------
    DataFrame
        ``model``, ``ticker``, the fields of `Metrics`, those of `Skill` that one ticker has, and
        per reference ``dm_…``, ``p_…`` and ``q_…``; NaN where one is undefined.
    """
    parts = {name: _by_ticker(name, rows, scored) for name, rows in scored.items()}
    return pd.concat(parts, names=["model"]).reset_index()


def _by_ticker(name: str, rows: pd.DataFrame, scored: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    horizon = int(rows["horizon"].max())
    table = by_ticker(rows).set_index("ticker").join(standard_errors(rows, rows["ticker"]))
    for reference in _references(name, scored):
        tests = diebold_mariano_tests(loss_differences(rows, scored[reference]), horizon)
        table[f"dm_{reference}"], table[f"p_{reference}"] = tests["statistic"], tests["p_value"]
        table[f"q_{reference}"] = _false_discovery_rates(tests["p_value"])
    return table


def _references(name: str, scored: Mapping[str, pd.DataFrame]) -> list[str]:
    """Return the names of the models that a model is tested against."""
    return [other for other in REFERENCES if other in scored and other != name]


def _false_discovery_rates(p_values: pd.Series[float]) -> pd.Series[float]:
    from scipy.stats import false_discovery_control

    known = p_values.dropna()
    return pd.Series(false_discovery_control(known), known.index).reindex(p_values.index)
