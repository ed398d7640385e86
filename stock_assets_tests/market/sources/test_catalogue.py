"""Every source that the parameters may name can be opened."""

from __future__ import annotations

from datetime import date
from typing import get_args

import pytest

from stock_assets.config import Prices
from stock_assets.market.sources.catalogue import open_source

NAMES = get_args(Prices.model_fields["source"].annotation)


@pytest.mark.parametrize("name", NAMES)
def test_a_source_is_called_what_the_parameters_call_it(name, tmp_path):
    assert open_source(Prices(source=name), tmp_path).name == name


def test_a_relative_csv_folder_starts_from_the_project(tmp_path):
    (tmp_path / "prices").mkdir()
    (tmp_path / "prices" / "IBM.csv").write_text(
        "Date,Open,High,Low,Close,Volume,Dividends,Stock Splits\n2013-01-02,1,2,1,2,3,0,0\n"
    )
    assert open_source(Prices(source="csv"), tmp_path).last_session == date(2013, 1, 2)
