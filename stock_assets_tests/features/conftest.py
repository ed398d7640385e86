from __future__ import annotations

from datetime import date

import pandas as pd
import pytest

from stock_assets.market.adjustment import adjust
from stock_assets.market.sources.sample import load_sample


@pytest.fixture(scope="package")
def sample_bars() -> pd.DataFrame:
    """Real bars of five tickers, adjusted for splits and dividends as of the last session."""
    return adjust(load_sample(), "adjusted", date(2013, 3, 1))
