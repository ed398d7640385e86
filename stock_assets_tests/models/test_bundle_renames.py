"""A bundle whose tickers were renamed after its as-of session."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pandas as pd

from stock_assets.config import Features, Rename
from stock_assets.market import calendar
from stock_assets.market.bars import tidy
from stock_assets.models.bundle import Bundle
from stock_assets_tests.features.examples import same_bits
from stock_assets_tests.models.bundles import (
    AS_OF,
    DAYS,
    bundle,
    each_architecture,
    example,
    same_frame,
    sample_bars,
    up_to,
)

FB_TO_META = Rename(old="FB", new="META", first_session=date(2012, 11, 15))


def renamed_bars(bars: pd.DataFrame, **names: str) -> pd.DataFrame:
    """Rename tickers of bars."""
    return tidy(bars.assign(ticker=bars["ticker"].replace(names)))


@each_architecture
def test_renamed_bundle_forecasts_the_new_symbol(architecture: str) -> None:
    model = example(architecture)
    renamed = Bundle(model.recipe.rename_tickers([FB_TO_META]), model.network)
    assert renamed.recipe.tickers == ("AAPL", "META", "GOOG", "IBM", "MSFT")  # FB's place
    expected = model.forecast(sample_bars(), DAYS)
    expected["ticker"] = expected["ticker"].replace({"FB": "META"})
    found = renamed.forecast(renamed_bars(sample_bars(), FB="META"), DAYS)
    assert same_frame(found, expected)


def test_renamed_bundle_rebases_bars_as_before() -> None:
    """Bars that end before the as-of session use the factors of the recipe."""
    bars = sample_bars().copy()
    split = (bars["ticker"] == "FB") & (bars["session"] == pd.Timestamp("2012-08-01"))
    bars.loc[split, "stock_splits"] = 4.0
    model = bundle(bars=bars, features=Features(groups=["raw"], basis="split_adjusted"))
    renamed = Bundle(model.recipe.rename_tickers([FB_TO_META]), model.network)
    day = date(2012, 10, 1)
    expected = model.panel(up_to(day, bars), day)
    found = renamed.panel(renamed_bars(up_to(day, bars), FB="META"), day)
    assert same_bits(found.close, expected.close)
    assert same_bits(found.values, expected.values)


def names(*renames: Rename) -> tuple[str, ...]:
    return example("lstm").recipe.rename_tickers(renames).tickers


def renamed_on(day: date, old: str, new: str) -> Rename:
    return Rename(old=old, new=new, first_session=day)


def test_only_renames_after_the_as_of_session_apply() -> None:
    trained = example("lstm").recipe.tickers
    later = calendar.next_session(AS_OF)
    assert names() == trained
    assert names(renamed_on(AS_OF, "FB", "META")) == trained  # FB is another company already
    assert names(renamed_on(later, "FB", "META"))[1] == "META"


def test_chained_renames_lead_to_the_last_symbol() -> None:
    chain = [renamed_on(DAYS[5], "FB", "B"), renamed_on(DAYS[9], "B", "C")]
    assert names(*chain) == names(*chain[::-1]) == ("AAPL", "C", "GOOG", "IBM", "MSFT")


def test_reassigned_symbol_keeps_the_first_rename() -> None:
    twice = [renamed_on(DAYS[5], "FB", "B"), renamed_on(DAYS[9], "FB", "C")]
    assert names(*twice)[1] == "B"


def test_rename_to_a_symbol_of_the_bundle_is_ignored() -> None:
    assert names(renamed_on(DAYS[5], "FB", "IBM")) == example("lstm").recipe.tickers


def test_rename_changes_only_symbols() -> None:
    recipe = example("lstm").recipe
    renamed = recipe.rename_tickers([FB_TO_META])
    assert renamed.adjustment_factors["META"] == recipe.adjustment_factors["FB"]
    again = replace(renamed, tickers=recipe.tickers, adjustment_factors=recipe.adjustment_factors)
    assert again.to_dict() == recipe.to_dict()
