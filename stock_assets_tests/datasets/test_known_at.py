"""A dataset built from the prices known at a moment is the same whenever it is built."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from stock_assets.config import Rename
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.moments import write_moment
from stock_assets.datasets.rebuild import choose_known_at
from stock_assets.storage.arrays import ArrayStore
from stock_assets.storage.prices import read_bars
from stock_assets.storage.record import head
from stock_assets.storage.renames import apply_renames
from stock_assets_tests.datasets.conftest import AS_OF, KEY, PARAMS, build_known, sample
from stock_assets_tests.properties import SLOW_EXAMPLES
from stock_assets_tests.storage.examples import store_bars
from stock_assets_tests.tampering import empty


@pytest.fixture
def store(engine: Engine) -> Iterator[Engine]:
    """A store with the sample and nothing else."""
    empty(engine)
    store_bars(engine, sample())
    yield engine
    empty(engine)


def now(engine: Engine) -> datetime:
    """The time of the newest link."""
    newest = head(engine)
    assert newest is not None
    return newest.written_at


def revise(engine: Engine, seed: int) -> None:
    """Change some bars, and add and withdraw dividends."""
    random, bars = np.random.default_rng(seed), sample()
    some = random.choice(len(bars), 5, replace=False)
    bars.loc[some, "volume"] *= 2.0
    bars.loc[some[:3], "close"] += 0.01
    bars.loc[some, "dividends"] = random.choice([0.0, 0.25], 5)
    store_bars(engine, bars)


def rename(engine: Engine, seed: int) -> None:
    """Rename a ticker of the dataset; its old symbol may come back."""
    apply_renames(engine, [Rename(old="FB", new="META", first_session=date(2013, 2, 1))])


def digests(engine: Engine, folder: Path, known_at: datetime | None) -> tuple[str, str]:
    record = build_known(engine, ArrayStore(str(folder)), known_at).record
    return record.bars_digest, record.digest


@settings(
    max_examples=SLOW_EXAMPLES,
    phases=[Phase.generate],  # an example takes seconds: shrinking would take minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from([revise, revise, rename]), st.integers(0, 99)),
        min_size=1,
        max_size=3,
    ),
    order=st.randoms(use_true_random=False),
)
def test_datasets_of_the_same_moment_have_the_same_digests(
    store: Engine,
    tmp_path: Path,
    steps: list[tuple[Callable[[Engine, int], None], int]],
    order: object,
) -> None:
    empty(store)
    store_bars(store, sample())
    then = {now(store): digests(store, tmp_path, None)}
    for step, seed in steps:
        step(store, seed)
        then[now(store)] = digests(store, tmp_path, None)
    moments = list(then)
    order.shuffle(moments)  # type: ignore[attr-defined]
    for moment in moments:
        assert digests(store, tmp_path, moment) == then[moment]


def test_later_renames_are_applied_on_request(store: Engine) -> None:
    before = now(store)
    rename(store, 0)
    span = sample()["session"].min().date(), AS_OF
    current = read_bars(store, *span, ["IBM", "META"])
    assert set(current["ticker"]) == {"IBM", "META"}
    pd.testing.assert_frame_equal(
        read_bars(store, *span, ["IBM", "META"], before, renamed=True), current
    )
    assert set(read_bars(store, *span, ["IBM", "META"], before)["ticker"]) == {"IBM"}
    assert set(read_bars(store, *span, ["FB"], before)["ticker"]) == {"FB"}


def test_a_dataset_that_exists_keeps_its_moment(store: Engine, tmp_path: Path) -> None:
    first, prices = now(store), PARAMS.prices
    assert choose_known_at(store, KEY, prices, None) == first
    build_known(store, ArrayStore(str(tmp_path)), first)
    revise(store, 0)
    assert choose_known_at(store, KEY, prices, None) == first
    newest = now(store)
    assert choose_known_at(store, "20121026_130000", prices, None) > first
    fewer = prices.model_copy(update={"tickers": ["IBM"]})
    assert choose_known_at(store, KEY, fewer, None) == newest
    later = first + timedelta(microseconds=1)
    assert choose_known_at(store, KEY, prices, write_moment(later)) == later


@pytest.mark.parametrize("text", ["2026-11-30", "2026-11-30T21:00:00", "yesterday", ""])
def test_a_moment_needs_a_time_zone(store: Engine, text: str) -> None:
    with pytest.raises(StockAssetsError, match="2026-11-30T21:00:00Z"):
        choose_known_at(store, KEY, PARAMS.prices, text)


def test_moments_are_read_as_they_are_written() -> None:
    moment = datetime(2026, 11, 30, 21, 0, 0, 1, tzinfo=UTC)
    assert write_moment(moment) == "2026-11-30T21:00:00.000001Z"
