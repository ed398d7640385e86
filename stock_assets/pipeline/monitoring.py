"""What the stored scores of the version in force call for.

The rule is in :mod:`stock_assets.evaluation.retraining_rule`.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Engine

from stock_assets.config import Params
from stock_assets.evaluation.change_detection import (
    DetectorBounds,
    default_bounds,
    recorded_bounds,
)
from stock_assets.evaluation.production_rule import (
    PERSISTENCE_VERSION,
    ModelVersion,
    trained_in_force,
)
from stock_assets.evaluation.retraining_rule import (
    Production,
    RetrainingDecision,
    decide_retraining,
    evidence_start,
)
from stock_assets.storage.check_results import failed_checks
from stock_assets.storage.decisions import decision_about, last_retraining_session
from stock_assets.storage.forecasts import (
    coverage_of,
    newest_scored_session,
    performance_since,
)
from stock_assets.storage.production import ProductionChange


def decide_on_stored_scores(
    engine: Engine, model_name: str, history: Sequence[ProductionChange], params: Params, check: str
) -> RetrainingDecision:
    """Decide whether the version in force is to be retrained; nothing is stored.

    Parameters
    ----------
    engine : Engine
        The ``stock_assets`` database.
    model_name : str
        The registered model.
    history : sequence of ProductionChange
        The history of production, oldest first.
    params : Params
    check : str
        The name of the check of the forecasts.
    """
    model = trained_in_force(history)
    last, newest = last_retraining_session(engine), newest_scored_session(engine)
    if model is None:
        production = Production(PERSISTENCE_VERSION, None, None)
        rows = performance_since(engine, (None, PERSISTENCE_VERSION), evidence_start(None, last))
    else:
        failed = failed_checks(engine, "predictions", [] if newest is None else [f"{newest}"])
        production = Production(
            model.version,
            model.as_of,
            bounds_of(engine, model_name, model, params.forecast.coverage),
            any(one.check_name == check for one in failed),
        )
        rows = performance_since(engine, model.key, evidence_start(model.as_of, last))
    return decide_retraining(
        rows, production, newest, last, params.monitoring, params.dataset.test_sessions
    )


def bounds_of(
    engine: Engine, model_name: str, model: ModelVersion, coverage: float
) -> DetectorBounds:
    """Return the parameters of a version's detectors: recorded, derived from scores, or defaults.

    Parameters
    ----------
    engine : Engine
    model_name : str
    model : ModelVersion
    coverage : float
        The nominal coverage of a version that has not forecast.
    """
    decided = decision_about(engine, model_name, model.dataset_run_id, model.version)
    if decided is not None and decided.decision.detection is not None:
        return decided.decision.detection
    nominal = coverage_of(engine, model.key) or coverage
    if decided is None:
        return default_bounds(nominal)
    return recorded_bounds(decided.candidate, nominal)
