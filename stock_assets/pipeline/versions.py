"""The newest labels of a version, and two versions on the sessions that neither has seen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from sqlalchemy import Engine

from stock_assets.core.errors import StockAssetsError
from stock_assets.evaluation.production_rule import ModelVersion
from stock_assets.evaluation.scorecard import Scorecard
from stock_assets.evaluation.significance import DieboldMariano
from stock_assets.models.comparison import compare_on_held_out
from stock_assets.registry import Registry
from stock_assets.storage.datasets import newest_labels, newest_seen_labels
from stock_assets.storage.prices import price_coverage, read_bars


@dataclass(frozen=True)
class VersionComparison:
    """Two versions on the same forecasts.

    Attributes
    ----------
    scores : dict of str to Scorecard
        Of ``first``, ``second`` and ``persistence``.
    test : DieboldMariano
        The first against the second; a negative difference means that the first has less error.
    first_session, last_session : date
        First and last as-of session.
    """

    scores: dict[str, Scorecard]
    test: DieboldMariano
    first_session: date
    last_session: date


def newest_label(engine: Engine, model: ModelVersion) -> date:
    """Return the newest session whose price is a label that a version was trained on.

    A refit was trained on every label up to its as-of session. For a candidate see
    :func:`stock_assets.storage.datasets.newest_labels`.
    """
    if model.refit_of is not None:
        return model.as_of
    return newest_labels(engine, [model.dataset]).get(model.dataset, model.as_of)


def fitted_label(engine: Engine, registry: Registry, model: ModelVersion) -> date:
    """Return the newest label in the files of a version: that of the data it was fitted to.

    Models of earlier versions do not record it, see :func:`newest_label`.
    """
    return registry.load(model.version).recipe.newest_label or newest_label(engine, model)


def newest_seen_label(engine: Engine, model: ModelVersion) -> date:
    """Return the newest label on which a version was trained, chosen or calibrated."""
    if model.refit_of is not None:
        return model.as_of
    seen = newest_seen_labels(engine, [model.dataset])
    return seen.get(model.dataset, model.as_of)


def compare_versions(
    engine: Engine, registry: Registry, first: ModelVersion, second: ModelVersion
) -> VersionComparison:
    """Score two versions as of the stored sessions that both were held out on.

    Raises
    ------
    StockAssetsError
        There is no such session, or no ticker that both forecast.
    """
    bundles = {model: registry.load(model.version) for model in (first, second)}
    labels = {model: newest_seen_label(engine, model) for model in bundles}
    seen, last = max(labels.values()), price_coverage(engine).last_session
    recipes = [bundle.recipe for bundle in bundles.values()]
    if last is None or seen >= last:
        raise StockAssetsError(
            f"no stored session was held out from both: {first} has seen sessions up to "
            f"{labels[first]}, {second} up to {labels[second]}, and prices end on {last}",
            "Store later prices, or compare their scores: stock-assets model list",
        )
    bars = read_bars(
        engine,
        min(recipe.first_session for recipe in recipes),
        last,
        sorted({ticker for recipe in recipes for ticker in recipe.tickers}),
    )
    days = sorted({day for day in bars["session"].dt.date if seen <= day < last})
    outcome = compare_on_held_out(bundles[first], bundles[second], bars, days, {})
    if "production" not in outcome.scores or not outcome.scores["candidate"].metrics.forecasts:
        raise StockAssetsError(
            f"{first} and {second} have no forecast in common",
            "Compare versions of the same tickers",
        )
    names = {"first": "candidate", "second": "production", "persistence": "persistence"}
    return VersionComparison(
        scores={name: outcome.scores[own] for name, own in names.items()},
        test=outcome.scores["candidate"].against["production"],
        first_session=outcome.first_session,
        last_session=outcome.last_session,
    )
