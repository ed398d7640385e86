"""A ticker that nothing is stored of, at every address that names one."""

from __future__ import annotations

from datetime import date

import pytest
from sqlalchemy import Engine, insert

from stock_assets.service.app import create_app
from stock_assets.storage.tables import ticker_renames
from stock_assets_tests.service.conftest import ask, served

ADDRESSES = ("/ticker/FB", "/api/v1/prices/FB", "/historical_context_chart/FB")


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_renamed_one_is_told_its_name_of_today(engine: Engine, address: str) -> None:
    app = create_app(served(engine))
    nothing = "no prices are stored of a ticker called FB"
    answer = ask(app, address)
    assert (answer.status_code, answer.json()["detail"]) == (404, nothing)

    renamed = {"old_ticker": "FB", "new_ticker": "META", "first_session": date(2022, 6, 9)}
    with engine.begin() as connection:
        connection.execute(insert(ticker_renames), {**renamed, "rows": 1})
    answer = ask(create_app(served(engine)), address)
    assert answer.status_code == 404
    assert answer.json()["detail"] == (
        f"{nothing}: since 2022-06-09 it is called META, and its history is under that name"
    )
