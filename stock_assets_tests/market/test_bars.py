"""The bars frame, and the digest of its content."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from stock_assets.market.bars import (
    BAR_COLUMNS,
    content_digest,
    empty_bars,
    tidy,
)
from stock_assets.market.sources.sample import load_sample


def sample(rows=6):
    return load_sample().groupby("ticker").head(rows // 3).head(rows).reset_index(drop=True)


def test_a_bars_frame_has_these_columns_and_dtypes():
    assert list(empty_bars()) == list(BAR_COLUMNS)
    for frame in (empty_bars(), sample()):
        assert frame.dtypes.astype(str).tolist() == ["object", "datetime64[ns]", *["float64"] * 7]


@settings(max_examples=15, deadline=None)
@given(order=st.permutations(range(6)), columns=st.permutations(BAR_COLUMNS))
def test_tidying_puts_rows_and_columns_in_their_order(order, columns):
    mixed = sample().iloc[list(order)][list(columns)].assign(note="left out")
    assert_frame_equal(tidy(mixed), sample())


def test_tidying_takes_plain_dates_and_whole_numbers():
    plain = sample().assign(
        session=lambda bars: bars["session"].dt.date,
        volume=lambda bars: bars["volume"].astype(int),
    )
    assert_frame_equal(tidy(plain), sample())


def test_tidying_leaves_its_argument_alone():
    mixed = sample().iloc[::-1]
    tidy(mixed)
    assert_frame_equal(mixed, sample().iloc[::-1])


def test_a_missing_column_is_an_error():
    with pytest.raises(KeyError, match="volume"):
        tidy(sample().drop(columns="volume"))


def test_a_time_zone_is_an_error():
    with pytest.raises(TypeError):
        tidy(sample().assign(session=lambda bars: bars["session"].dt.tz_localize("UTC")))


def test_a_digest_is_the_same_in_every_process():
    script = (
        "from stock_assets.market.bars import content_digest;"
        "from stock_assets.market.sources.sample import load_sample;"
        "print(content_digest(load_sample()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == content_digest(load_sample())


def test_a_digest_does_not_depend_on_the_index_or_on_how_numbers_are_kept():
    bars = sample()
    assert content_digest(bars.set_index(bars.index + 7)) == content_digest(bars)
    halves = pd.DataFrame({"at": pd.to_datetime(["2013-03-01"]), "value": [0.5]})
    other = halves.astype({"at": "datetime64[s]", "value": "float32"})
    assert content_digest(other) == content_digest(halves)


def test_a_digest_knows_one_nan_and_one_zero():
    plain = pd.DataFrame({"value": [0.0, np.nan]})
    odd_nan = np.array([0xFFF8000000000001], dtype=np.uint64).view(np.float64)[0]
    odd = pd.DataFrame({"value": [-0.0, odd_nan]})
    assert content_digest(odd) == content_digest(plain)


@settings(max_examples=15, deadline=None)
@given(row=st.integers(0, 5), column=st.sampled_from(BAR_COLUMNS))
def test_a_digest_changes_with_any_value(row, column):
    changed = sample()
    value = changed.loc[row, column]
    if column == "ticker":
        changed.loc[row, column] = f"{value}X"
    elif column == "session":
        changed.loc[row, column] = value + pd.Timedelta(1)
    else:
        changed.loc[row, column] = np.nextafter(value, np.inf)
    assert content_digest(changed) != content_digest(sample())


def test_a_digest_changes_with_names_rows_and_their_order():
    bars = sample()
    others = [
        bars.rename(columns={"open": "first"}),
        bars[list(BAR_COLUMNS)[::-1]],
        bars.iloc[::-1],
        bars.iloc[:-1],
        bars.drop(columns="dividends"),
        empty_bars(),
    ]
    assert len({content_digest(frame) for frame in [bars, *others]}) == len(others) + 1
