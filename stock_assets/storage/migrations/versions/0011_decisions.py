"""Decisions are stored as facts; sentences are rendered from them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_LABELS = {
    "MAPE": "mape",
    "relative MAE": "relative_mae",
    "direction accuracy": "direction_accuracy",
}
_NUMBER = r"(?<!\w)([-+]?(?:\d+(?:\.\d+)?(?:e[-+]?\d+)?|inf\b|nan\b))"


def upgrade() -> None:
    """Derive the facts of each stored decision from its row, then drop the sentences."""
    _rename_scores("mase_se", "relative_mae_se")
    _derive("model_promotions", ("dataset_run_id", "candidate_version"), _promotion)
    _derive("retraining_decisions", ("session",), _retraining)
    op.drop_column("model_promotions", "reason")
    for name in ("reason", "breaches", "metrics"):
        op.drop_column("retraining_decisions", name)


def downgrade() -> None:
    """Keep the facts where the sentences were; an upgrade reads them back."""
    for table in ("model_promotions", "retraining_decisions"):
        op.add_column(table, sa.Column("reason", sa.Text()))
        op.execute(f"UPDATE {table} SET reason = decision::text")
        op.alter_column(table, "reason", nullable=False)
    op.add_column("retraining_decisions", sa.Column("metrics", JSONB()))
    op.add_column("retraining_decisions", sa.Column("breaches", JSONB()))
    op.execute(
        "UPDATE retraining_decisions SET breaches = decision->'breaches', "
        "metrics = nullif(decision->'metrics', 'null')"
    )
    op.alter_column("retraining_decisions", "breaches", nullable=False)
    for table in ("model_promotions", "retraining_decisions"):
        op.drop_column(table, "decision")
    _rename_scores("relative_mae_se", "mase_se")


def _rename_scores(old: str, new: str) -> None:
    for column in ("candidate", "production", "persistence"):
        op.execute(
            f"UPDATE model_promotions SET {column} = replace({column}::text, "
            f"'\"{old}\"', '\"{new}\"')::jsonb WHERE {column}::text LIKE '%\"{old}\"%'"
        )


def _derive(table: str, key: tuple[str, ...], facts: Any) -> None:
    op.add_column(table, sa.Column("decision", JSONB()))
    connection = op.get_bind()
    same = " AND ".join(f"{name} = :{name}" for name in key)
    update = sa.text(f"UPDATE {table} SET decision = CAST(:decision AS jsonb) WHERE {same}")
    for row in connection.execute(sa.text(f"SELECT * FROM {table}")).mappings().all():
        reason = row["reason"]
        decision = json.loads(reason) if reason.startswith("{") else facts(row)
        bound = {name: row[name] for name in key} | {"decision": json.dumps(decision)}
        connection.execute(update, bound)
    op.alter_column(table, "decision", nullable=False)


def _promotion(row: Mapping[str, Any]) -> dict[str, Any]:
    """Derive the facts of a promotion decision from its scores and its sentence."""
    reason, own, other = row["reason"], row["candidate"], row["production"]
    score, held = own.get(row["metric"]), (other or {}).get(row["metric"])
    margin = _found(rf"by less than {_NUMBER}%", reason)
    if row["promoted"]:
        undefined = "better" if held is not None else "production_undefined"
        outcome = "first_model" if other is None else undefined
    elif score is None:
        outcome = "candidate_undefined"
    elif held is None or score >= held:
        outcome = "not_better"
    elif margin is not None:
        outcome = "margin_not_reached"
    else:
        worse = "significantly worse session by session" in reason
        outcome = "significantly_worse" if worse else "not_significant"
    tested = _test(own, "persistence", reason, r"over persistence(?:, significantly worse)? \(")
    edge = "better" if "Significant edge" in reason else "none"
    if "edge over persistence, significantly worse" in reason:
        edge = "worse"
    compared = reason.split("; it is ")[0]
    replaced = _found(r"version (\d+)[^;.]* was scored in its place", reason)
    return {
        "outcome": outcome,
        "metric": row["metric"],
        "candidate": score,
        "production": held,
        "persistence": row["persistence"].get(row["metric"]),
        "forecasts": own.get("forecasts") or 0,
        "sessions": own.get("sessions") or 0,
        "minimum_improvement": None if margin is None else margin / 100,
        "significance": _found(rf"not significantly at {_NUMBER}", reason),
        "against_production": other
        and _test(own, "production", compared, r"significantly[^(]*\(", other),
        "against_persistence": tested,
        "edge": "undefined" if tested["p_value"] is None else edge,
        "unmatched_forecasts": int(_found(r"(\d+) more forecasts of the candidate", reason) or 0),
        "evaluated_version": None if replaced is None else int(replaced),
    }


def _test(
    own: Mapping[str, Any], reference: str, text: str, before: str, other: Any = None
) -> dict[str, Any]:
    """Derive a Diebold-Mariano test; its difference is that of all forecasts if not in the text."""
    p_value = own.get(f"p_{reference}")
    stated = _found(rf"{before}{_NUMBER}% of price", text)
    pooled = (own.get("error_difference") or 0.0) - ((other or {}).get("error_difference") or 0.0)
    unknown = "" if p_value is not None else "it was not recorded"
    return {
        "difference": pooled if stated is None else stated / 100,
        "sessions": own.get("sessions") or 0,
        "statistic": own.get(f"dm_{reference}"),
        "p_value": p_value,
        "reason": own.get(f"undefined_{reference}") or unknown,
    }


def _retraining(row: Mapping[str, Any]) -> dict[str, Any]:
    """Derive the facts of a retraining decision from its scores and its sentence."""
    reason, metrics = row["reason"], row["metrics"]
    cooling = re.search(
        r"Cooling down: (\d+) sessions since the retraining as of (\S+), of the (\d+)", reason
    )
    outcome = "breach" if row["retrain"] else "too_few" if metrics is None else "healthy"
    least = _found(r"fewer than (\d+) forecasts", reason)
    size = [_found(pattern, reason) or 0 for pattern in (r"(\d+) forecasts of", r"of (\d+) sess")]
    return {
        "outcome": "cooling_down" if cooling else outcome,
        "session": row["session"].isoformat(),
        "forecasts": int(size[0]),
        "sessions": int(size[1]),
        "minimum_forecasts": None if least is None else int(least),
        "cooldown_sessions": int(cooling[3]) if cooling else None,
        "breaches": [_breach(text, metrics or {}) for text in row["breaches"]],
        "metrics": metrics,
        "last_retraining": cooling[2] if cooling else None,
        "elapsed_sessions": int(cooling[1]) if cooling else None,
    }


def _breach(text: str, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Derive a failed threshold; an unknown metric keeps its label as its name."""
    label = re.split(f" {_NUMBER}", text)[0]
    metric = next((name for known, name in _LABELS.items() if known in text), label)
    value, limit = ([None, None] + [_finite(number) for number in re.findall(_NUMBER, text)])[-2:]
    return {
        "metric": metric,
        "value": metrics.get(metric, value),
        "limit": limit or 0.0,
        "kind": "at_least" if metric == "direction_accuracy" else "at_most",
    }


def _found(pattern: str, text: str) -> float | None:
    found = re.search(pattern, text)
    return None if found is None else _finite(found[1])


def _finite(number: str) -> float | None:
    """Parse a number; None for infinity and NaN, which JSON lacks."""
    return float(number) if math.isfinite(float(number)) else None
