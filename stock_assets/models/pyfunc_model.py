"""MLflow's ``pyfunc`` interface to a bundle, logged as code instead of a pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import Model, set_model
from mlflow.pyfunc.model import PythonModel

from stock_assets.market.bars import tidy
from stock_assets.models.bundle import Bundle
from stock_assets.models.bundle_digests import BundleDigests


class ForecastModel(PythonModel):
    """Forecasts as of the newest bar, or as of given sessions.

    ``predict(bars)`` takes bars as traded (see :mod:`stock_assets.market.bars`) and optionally
    ``params={"sessions": ["2013-01-02", ...]}``.
    """

    def load_context(self, context: Any) -> None:
        """Load the bundle from the model's artifacts, as its ``MLmodel`` describes it."""
        folder = Path(context.artifacts["bundle"])
        described = Model.load(folder.parents[1]).metadata or {}
        self.bundle = Bundle.load(folder, BundleDigests.from_tags(described))

    def predict(
        self,
        context: Any,  # noqa: ARG002 - passed by MLflow
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Return forecasts, one row per as-of session, ticker and horizon."""
        bars = tidy(model_input)
        named = (params or {}).get("sessions") or [str(bars["session"].max())]
        sessions = sorted(pd.Timestamp(str(session)).date() for session in named)
        return self.bundle.forecast(bars, sessions)


set_model(ForecastModel())
