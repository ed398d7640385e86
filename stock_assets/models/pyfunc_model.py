"""The bundle behind MLflow's ``pyfunc`` interface, logged as code rather than as a pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from stock_assets.market.bars import tidy
from stock_assets.models.bundle import Bundle


class ForecastModel(PythonModel):
    """Forecasts the sessions after the newest bar given, or after each session named.

    ``predict(bars)`` takes bars as traded (see :mod:`stock_assets.market.bars`) and
    ``params={"sessions": ["2013-01-02", ...]}`` if other sessions than the newest are wanted.
    """

    def load_context(self, context: Any) -> None:
        """Read the bundle among the model's artifacts."""
        self.bundle = Bundle.load(Path(context.artifacts["bundle"]))

    def predict(
        self,
        context: Any,  # noqa: ARG002 - MLflow gives it
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Give forecasts, one row per as-of session, ticker and horizon."""
        bars = tidy(model_input)
        named = (params or {}).get("sessions") or [str(bars["session"].max())]
        sessions = sorted(pd.Timestamp(str(session)).date() for session in named)
        return self.bundle.forecast(bars, sessions)


set_model(ForecastModel())
