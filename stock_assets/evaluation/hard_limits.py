"""Hard limits of the newest scores, which lie outside the bound on false alarms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

import pandas as pd

from stock_assets.config import Monitoring, Thresholds
from stock_assets.evaluation.metrics import one_group, summarise
from stock_assets.evaluation.significance import DEFAULT_LEVEL
from stock_assets.evaluation.skill import standard_errors


@dataclass(frozen=True)
class ThresholdCheck:
    """A score and its hard limit.

    Attributes
    ----------
    metric : str
    value : float or None
        None where the score is undefined. Only an undefined direction accuracy keeps its limit: it
        means that no change was forecast, or that no price moved, which leaves the relative MAE
        undefined too.
    limit : float
    kind : "at_most" or "at_least"
        Which side of the limit passes; the limit itself does.
    half_width : float
        Half the 95% confidence interval of a proportion, which breaks its limit only if the
        interval excludes it; 0 for other scores.
    """

    metric: str
    value: float | None
    limit: float
    kind: Literal["at_most", "at_least"]
    half_width: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether the score keeps the limit."""
        if self.value is None:
            return self.metric == "direction_accuracy"
        if self.kind == "at_most":
            return self.value - self.half_width <= self.limit
        return self.value + self.half_width >= self.limit


def check_newest(
    rows: pd.DataFrame, days: Sequence[date], monitoring: Monitoring
) -> tuple[dict[str, Any] | None, tuple[ThresholdCheck, ...]]:
    """Score the newest sessions; return the scores and the hard limits that they break.

    Parameters
    ----------
    rows : DataFrame
        Scored forecasts of one model.
    days : sequence of date
        Their sessions, oldest first. With fewer than ``monitoring.limit_sessions`` nothing is
        checked; without any there are no scores.
    monitoring : Monitoring
    """
    if not days:
        return None, ()
    recent = rows[rows["session"] >= pd.Timestamp(days[-monitoring.limit_sessions :][0])]
    metrics = summarise(recent).to_dict()
    if len(days) < monitoring.limit_sessions:
        return metrics, ()
    limit = monitoring.thresholds.direction_accuracy_min
    reach = 0.0 if limit is None else accuracy_half_width(recent, limit)
    checks = check_thresholds(metrics, monitoring.thresholds, reach)
    return metrics, tuple(check for check in checks if not check.passed)


def check_thresholds(
    scores: Mapping[str, Any], thresholds: Thresholds, accuracy_half_width: float = 0.0
) -> tuple[ThresholdCheck, ...]:
    """Compare scores with the hard limits that are set.

    Parameters
    ----------
    scores : mapping
        ``mape``, ``relative_mae`` and ``direction_accuracy``; None where one is undefined.
    thresholds : Thresholds
    accuracy_half_width : float
        Half the confidence interval of the direction accuracy.
    """
    limits: list[tuple[str, float | None, Literal["at_most", "at_least"], float]] = [
        ("mape", thresholds.mape_max, "at_most", 0.0),
        ("relative_mae", thresholds.relative_mae_max, "at_most", 0.0),
        ("direction_accuracy", thresholds.direction_accuracy_min, "at_least", accuracy_half_width),
    ]
    return tuple(
        ThresholdCheck(name, scores[name], limit, kind, half_width)
        for name, limit, kind, half_width in limits
        if limit is not None
    )


def accuracy_half_width(rows: pd.DataFrame, share: float) -> float:
    """Return half the 95% confidence interval of a direction accuracy, clustered by session.

    The standard error is at least that of independent forecasts with this share of hits: that of a
    few sessions that all go wrong would be zero. A single session excludes nothing.

    Parameters
    ----------
    rows : DataFrame
        Scored forecasts.
    share : float
        The limit that the accuracy is compared with.
    """
    from scipy.special import stdtrit

    hits = rows["direction_hit"].notna()
    count = rows.loc[hits, "session"].nunique()
    if count < 2:
        return 1.0
    clustered = standard_errors(rows, one_group(rows))["direction_accuracy_se"].item()
    least = math.sqrt(share * (1 - share) / int(hits.sum()))
    return float(max(clustered, least) * stdtrit(count - 1, 1 - DEFAULT_LEVEL / 2))
