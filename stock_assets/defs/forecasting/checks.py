"""The check of ``predictions``."""

import dagster as dg
import pandas as pd

from stock_assets.defs.checks import blocking_check, blocking_spec
from stock_assets.defs.metadata import table

SOUND = "forecasts_are_sound"

SPECS = [
    blocking_spec(
        "predictions",
        SOUND,
        "Finite positive prices inside their intervals, for the session of their horizon, from a "
        "model that saw nothing later than the as-of session. The forecasts of other sessions are "
        "not stored.",
    )
]


def sound(invalid: pd.DataFrame) -> dg.AssetCheckResult:
    """Return the result of ``forecasts_are_sound``, with the rows that must not be stored."""
    found = len(invalid)
    message = f"{found} forecasts are invalid, see rows" if found else "every forecast is valid"
    return blocking_check(SOUND, not found, {"unsound": found, "rows": table(invalid)}, message)
