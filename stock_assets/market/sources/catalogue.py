"""Price sources by their name in ``params.yaml``."""

from __future__ import annotations

from pathlib import Path

from stock_assets.config import Prices
from stock_assets.market.sources.base import PriceSource
from stock_assets.market.sources.csv_folder import CsvFolderSource
from stock_assets.market.sources.sample import SampleSource
from stock_assets.market.sources.yahoo import YahooSource


def open_source(prices: Prices, project: Path) -> PriceSource:
    """Create the source that the parameters name.

    Parameters
    ----------
    prices : config.Prices
        The section ``prices`` of ``params.yaml``.
    project : Path
        The folder that a relative ``prices.csv_folder`` starts from.
    """
    match prices.source:
        case "sample":
            return SampleSource()
        case "csv":
            return CsvFolderSource(project / prices.csv_folder)
        case "yahoo":
            return YahooSource(prices.yahoo)
