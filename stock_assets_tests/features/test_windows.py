"""Windows: one label with one meaning, segments that share nothing, cuts as a loop cuts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stock_assets.core.errors import StockAssetsError
from stock_assets.features.labels import targets
from stock_assets.features.panel import build_panel
from stock_assets.features.scaling import fit_scaler
from stock_assets.features.windows import (
    Segment,
    Split,
    Windows,
    gather,
    split_sessions,
    usable,
    walk_forward,
)
from stock_assets_tests.features.examples import (
    FIRST,
    as_frame,
    as_traded,
    law,
    same_bits,
    session_dates,
    walk,
)

settings_of_a_split = st.fixed_dictionaries(
    {
        "window": st.integers(1, 40),
        "horizon": st.integers(1, 5),
        "validation": st.integers(1, 30),
        "test": st.integers(1, 30),
        "embargo": st.integers(0, 10),
    }
)


def sessions_needed(window, horizon, validation, test, embargo) -> int:
    """One training window, and everything after it."""
    return window + validation + test + horizon + 2 * (window + horizon - 1 + embargo)


def seen_by(segment: Segment, window: int) -> set[int]:
    return {row for end in segment.positions() for row in range(end - window + 1, end + 1)}


def labels_of(segment: Segment, horizon: int) -> set[int]:
    return {row for end in segment.positions() for row in range(end + 1, end + horizon + 1)}


def split_of(options: dict[str, int], spare: int) -> tuple[int, Split]:
    count = sessions_needed(**options) + spare
    return count, split_sessions(count, **options)


@law
@given(settings_of_a_split, st.integers(0, 200))
def test_no_segment_sees_what_an_earlier_one_is_asked(options, spare):
    _, split = split_of(options, spare)
    window, horizon = options["window"], options["horizon"]
    for earlier, later in (
        (split.train, split.validation),
        (split.validation, split.test),
        (split.train, split.test),
    ):
        assert not labels_of(earlier, horizon) & seen_by(later, window)
        assert not labels_of(earlier, horizon) & labels_of(later, horizon)
        assert not seen_by(earlier, window) & seen_by(later, window)
        assert max(labels_of(earlier, horizon)) < min(seen_by(later, window))


@law
@given(settings_of_a_split, st.integers(0, 200))
def test_every_session_is_used_that_can_be(options, spare):
    count, split = split_of(options, spare)
    assert len(split.validation) == options["validation"]
    assert len(split.test) == options["test"]
    assert len(split.train) == 1 + spare
    assert min(seen_by(split.train, options["window"])) == 0
    assert max(labels_of(split.test, options["horizon"])) == count - 1


@law
@given(settings_of_a_split, st.integers(0, 200))
def test_the_gap_is_the_purge_and_never_empty(options, spare):
    _, split = split_of(options, spare)
    assert split.purge == options["window"] + options["horizon"] - 1 + options["embargo"] >= 1
    for earlier, later in ((split.train, split.validation), (split.validation, split.test)):
        assert later.first - earlier.last - 1 == split.purge
        first_input = later.first - options["window"] + 1
        assert first_input - (earlier.last + options["horizon"]) == 1 + options["embargo"]


@law
@given(settings_of_a_split, st.integers(1, 200))
def test_too_short_a_history_says_how_much_is_needed(options, missing):
    needed = sessions_needed(**options)
    with pytest.raises(StockAssetsError, match=f"{needed - missing} sessions .* {needed} are need"):
        split_sessions(needed - missing, **options)


def test_an_ordinary_split():
    split = split_sessions(1000, window=30, horizon=1, validation=126, test=63, embargo=0)
    assert split == Split(Segment(29, 749), Segment(780, 905), Segment(936, 998), purge=30)


folding = (
    settings_of_a_split,
    st.integers(1, 5),
    st.sampled_from(["expanding", "rolling"]),
    st.integers(0, 100),
)


@law
@given(*folding)
def test_every_fold_is_the_split_of_its_own_past(options, folds, training, spare):
    count = sessions_needed(**options) + (folds - 1) * options["test"] + spare
    made = walk_forward(count, folds=folds, training=training, **options)
    assert len(made) == folds
    for number, split in enumerate(made):
        alone = split_sessions(count - (folds - 1 - number) * options["test"], **options)
        assert (split.validation, split.test, split.purge) == (
            alone.validation,
            alone.test,
            alone.purge,
        )
        assert split.train.last == alone.train.last
        if training == "expanding":
            assert split.train == alone.train
        else:
            assert len(split.train) == len(made[0].train)
    assert made[0].train.first == options["window"] - 1


@law
@given(*folding)
def test_test_segments_of_folds_follow_upon_each_other(options, folds, training, spare):
    count = sessions_needed(**options) + (folds - 1) * options["test"] + spare
    made = walk_forward(count, folds=folds, training=training, **options)
    ends = np.concatenate([split.test.positions() for split in made])
    np.testing.assert_array_equal(np.diff(ends), 1)
    assert ends[-1] + options["horizon"] == count - 1


def test_too_many_folds_are_told():
    with pytest.raises(StockAssetsError, match=r"first of 9 folds .*Lower walk_forward\.folds"):
        walk_forward(
            300, folds=9, training="expanding", window=10, horizon=1, validation=30, test=40,
            embargo=0,
        )  # fmt: skip


@pytest.mark.parametrize("horizon", [1, 3])
def test_a_close_that_counts_sessions_is_labelled_with_the_next_number(horizon):
    """The window that ends at t is labelled with t + 1 to t + horizon: from bars to tensors."""
    rows, window = 120, 7
    bars = walk(rows, seed=0)
    bars |= dict.fromkeys(("open", "high", "low", "close"), np.arange(1.0, rows + 1))
    bars["dividends"] = bars["stock_splits"] = np.zeros(rows)
    last = session_dates(rows)[-1].date()
    panel = build_panel(as_traded(as_frame({"AAA": bars})), ["AAA"], ["Close"], FIRST, last)
    labels = targets(panel.close, "close")
    options = {"window": window, "horizon": horizon, "validation": 20, "test": 10, "embargo": 2}
    split = split_sessions(rows, **options)
    for segment in (split.train, split.validation, split.test):
        ends = segment.positions()
        windows = gather(torch.from_numpy(panel.values), torch.from_numpy(ends), window)
        seen = windows[:, :, 0, 0].numpy()
        for step in range(horizon):
            np.testing.assert_array_equal(seen[:, -1] + step + 1, labels[ends + step, 0])
        np.testing.assert_array_equal(np.diff(seen, axis=1), 1.0)


@st.composite
def masks(draw: st.DrawFn):
    rows, tickers = draw(st.integers(1, 30)), draw(st.integers(1, 4))
    valid = draw(hnp.arrays(np.bool_, (rows, tickers)))
    elements = st.one_of(st.just(np.nan), st.floats(-1, 1))
    target = draw(hnp.arrays(np.float64, (rows, tickers), elements=elements))
    window = draw(st.integers(1, rows))
    ends = draw(hnp.arrays(np.int64, st.integers(0, 8), elements=st.integers(window - 1, rows - 1)))
    return valid, target, ends, window


@law
@given(masks(), st.sampled_from([0.0, 0.3, 0.5, 0.55, 0.7, 0.9, 1.0]))
def test_usable_is_what_a_plain_loop_finds(mask, coverage):
    valid, _, ends, window = mask
    expected = np.zeros((len(ends), valid.shape[1]), dtype=bool)
    for number, end in enumerate(ends):
        for ticker in range(valid.shape[1]):
            seen = valid[end - window + 1 : end + 1, ticker]
            expected[number, ticker] = seen[-1] and seen.mean() >= coverage
    found = usable(valid, ends, window, coverage)
    np.testing.assert_array_equal(found, expected)


def test_exactly_enough_of_a_window_is_enough():
    valid = np.arange(20)[:, None] >= 9
    assert usable(valid, np.array([19]), 20, coverage=0.55).all()
    assert not usable(valid, np.array([19]), 20, coverage=0.56).any()


@law
@given(masks())
def test_gather_is_what_slicing_finds(mask):
    valid, target, ends, window = mask
    for rows in (torch.from_numpy(valid), torch.from_numpy(np.stack([target, -target], axis=2))):
        windows = gather(rows, torch.from_numpy(ends), window)
        assert windows.shape == (len(ends), window, *rows.shape[1:])
        assert windows.dtype == rows.dtype
        assert windows.transpose(0, 1).is_contiguous()
        for number, end in enumerate(ends):
            torch.testing.assert_close(
                windows[number], rows[end - window + 1 : end + 1], rtol=0, atol=0, equal_nan=True
            )


@pytest.mark.parametrize("kind", ["standard", "minmax", "robust"])
def test_a_window_is_cut_as_the_whole_panel_is_scaled(kind):
    random = np.random.default_rng(0)
    values = random.normal(1e4, 30.0, (50, 3, 2)).astype(np.float32)
    valid = random.random((50, 3)) > 0.1
    scaler = fit_scaler(values[:30], valid[:30], kind, minimum_rows=1)
    windows = Windows.over(torch.from_numpy(values), torch.from_numpy(valid), scaler, 6)
    before = values.copy()
    ends = np.array([49, 5, 20, 20])
    features, known = windows.cut(torch.from_numpy(ends))
    scaled = scaler.transform(values)
    for number, end in enumerate(ends):
        assert same_bits(features[number].numpy(), scaled[end - 5 : end + 1])
        np.testing.assert_array_equal(known[number].numpy(), valid[end - 5 : end + 1])
    assert same_bits(windows.values.numpy(), before), "cutting scales copies"


@pytest.mark.parametrize("end", [3, 20])
def test_a_window_that_leaves_the_panel_is_an_error(end):
    with pytest.raises(IndexError):
        gather(torch.zeros(20, 2, 3), torch.tensor([10, end]), window=5)


def test_a_window_that_starts_before_the_panel_is_never_usable_by_accident():
    with pytest.raises(ValueError, match="window of 5 that ends at 3"):
        usable(np.ones((20, 2), bool), np.array([10, 3]), window=5)


def test_gather_reads_only_what_it_is_asked_for():
    """A panel of 4 TB, were it ever copied: one row, repeated by a stride of 0."""
    panel = torch.arange(1000.0).view(1, 50, 20).expand(1_000_000_000, 50, 20)
    windows = gather(panel, torch.tensor([100, 999_999_999]), window=30)
    assert torch.equal(windows, panel[:30].expand(2, 30, 50, 20))
