"""Checks of ``processed_features`` and ``scalers``, from :mod:`stock_assets.datasets.checks`."""

from typing import TYPE_CHECKING

import dagster as dg

from stock_assets.defs.checks import blocking_check, blocking_spec

if TYPE_CHECKING:
    from stock_assets.datasets.checks import Completeness, LookAhead

COMPLETE = "features_are_complete"
CAUSAL = "features_do_not_look_ahead"
FITTED = "scalers_fit_on_train_only"

PANEL_SPECS = [
    blocking_spec(
        "processed_features",
        COMPLETE,
        "Valid values are finite, and some ticker has training windows.",
    ),
    blocking_spec(
        "processed_features",
        CAUSAL,
        "Rebuilt without the newest sessions, and without what comes after "
        "each ticker's start, warm-up, newest hole and end, every earlier value, mask and close is "
        "the same, bit for bit. Labels are the next close. Nothing after the training sessions "
        "decides which features are left out.",
    ),
]

SCALER_SPECS = [
    blocking_spec(
        "scalers",
        FITTED,
        "Fitted to the panel without the sessions after training, every number is the same.",
    )
]


def complete(found: "Completeness") -> dg.AssetCheckResult:
    """Return the result of ``features_are_complete``; tickers without windows are named."""
    return blocking_check(
        COMPLETE,
        found.passed,
        {
            "training_windows": found.training_windows,
            "tickers_not_learned_from": found.untrained,
        },
        found.message,
    )


def causal(found: "LookAhead") -> dg.AssetCheckResult:
    """Return the result of ``features_do_not_look_ahead``."""
    return blocking_check(
        CAUSAL,
        found.passed,
        {
            "what_looks_ahead": found.features,
            "wrong_labels": found.labels,
            "choice_of_features_looks_ahead": found.selection,
        },
        found.message,
    )


def fit_on_train_only(look_ahead: bool) -> dg.AssetCheckResult:
    """Return the result of ``scalers_fit_on_train_only``."""
    return blocking_check(
        FITTED,
        not look_ahead,
        {"scalers_look_ahead": look_ahead},
        "fitted on more than training sessions" if look_ahead else "fitted on training sessions",
    )
