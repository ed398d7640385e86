"""Prices: stored once, as traded; unsound bars stop the run and are not stored."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
from rich.console import Console
from sqlalchemy import func, select

from stock_assets.cli.runs import RunFailedError, run_sessions
from stock_assets.config import Params
from stock_assets.defs.partitions import trading_days
from stock_assets.defs.resources import Store
from stock_assets.market import calendar
from stock_assets.market.bars import content_digest
from stock_assets.market.reconciliation import drop_tickers
from stock_assets.market.sources.base import Fetch
from stock_assets.market.sources.history import COLUMNS
from stock_assets.market.sources.sample import SampleSource, load_sample
from stock_assets.storage.check_results import failed_checks
from stock_assets.storage.prices import read_bars
from stock_assets.storage.tables import price_revisions
from stock_assets_tests.conftest import FIRST_INGESTED, LAST_INGESTED, Loop
from stock_assets_tests.defs.running import (
    by_partition,
    checks,
    data_version,
    failure,
    materialize,
    metadata,
    params,
    versions,
)

DAY = date(2013, 1, 4)
KEY = DAY.isoformat()
RECENT = params(prices={"first_session": date(2012, 12, 3)})


@pytest.fixture
def csv_params(tmp_path: Path) -> Params:
    """The sample's last months of two tickers as files, and parameters that read them."""
    for ticker in ("AAPL", "IBM"):
        bars = load_sample().query("ticker == @ticker and session >= '2012-12-03'")
        saved = bars.rename(columns={ours: theirs for theirs, ours in COLUMNS.items()})
        saved.drop(columns="ticker").to_csv(tmp_path / f"{ticker}.csv", index=False)
    chosen = {"source": "csv", "csv_folder": tmp_path, "tickers": ["AAPL", "IBM"]}
    return params(prices=chosen)


def edit(params: Params, ticker: str, day: date, **values: float) -> None:
    """Change a bar in a file."""
    file = params.prices.csv_folder / f"{ticker}.csv"
    table = pd.read_csv(file)
    table.loc[table["Date"].str.startswith(day.isoformat()), list(values)] = list(values.values())
    table.to_csv(file, index=False)


def lose(params: Params, ticker: str, day: date) -> None:
    """Take a bar out of a file."""
    file = params.prices.csv_folder / f"{ticker}.csv"
    table = pd.read_csv(file)
    table[~table["Date"].str.startswith(day.isoformat())].to_csv(file, index=False)


def lenient(params: Params) -> Params:
    """The same parameters with a minimum share of one half."""
    prices = params.prices.model_copy(update={"minimum_share": 0.5})
    return params.model_copy(update={"prices": prices})


def stored(store: Store, day: date = DAY) -> pd.DataFrame:
    return read_bars(store.engine, day, day)


def evaluation(result: dg.ExecuteInProcessResult, check: str) -> dg.AssetCheckEvaluation:
    """The evaluation of one check of a run."""
    return next(
        found for found in result.get_asset_check_evaluations() if found.check_name == check
    )


def test_a_range_is_one_run_and_every_session_has_its_rows(loop: Loop) -> None:
    expected = load_sample().query("session >= @FIRST_INGESTED")
    counts = expected.groupby(expected["session"].dt.date).size()
    recorded = by_partition(loop.ingest, "raw_prices")
    assert {key: values["dagster/row_count"] for key, values in recorded.items()} == {
        day.isoformat(): count for day, count in counts.items()
    }
    assert recorded["2012-05-17"]["dagster/row_count"] == 4
    assert recorded["2012-05-18"]["dagster/row_count"] == 5  # FB is listed
    session = expected[expected["session"] == "2012-05-18"]
    assert recorded["2012-05-18"]["digest"] == content_digest(session)
    assert len(set(versions(loop.ingest, "raw_prices").values())) == 1
    assert checks(loop.ingest) == {
        "bars_are_sound": True,
        "histories_agree": True,
        "no_bar_is_missing": True,
        "moves_are_plausible": False,  # real jumps of AAPL and FB
    }


def test_stored_bars_equal_those_of_the_source(loop: Loop) -> None:
    bars = read_bars(loop.platform.engine, FIRST_INGESTED, LAST_INGESTED)
    expected = load_sample().query("session >= @FIRST_INGESTED").reset_index(drop=True)
    pd.testing.assert_frame_equal(bars, expected, check_exact=True)


def test_a_first_run_stores_and_materializes_the_whole_history(own_store: Store) -> None:
    result = materialize(["raw_prices"], KEY, own_store, params())
    history = load_sample().query("session <= @DAY")
    pd.testing.assert_frame_equal(
        read_bars(own_store.engine, date(2000, 3, 1), LAST_INGESTED),
        history.reset_index(drop=True),
        check_exact=True,
    )
    recorded = by_partition(result, "raw_prices")
    assert sorted(recorded) == sorted(history["session"].dt.strftime("%Y-%m-%d").unique())
    assert recorded[KEY]["dagster/row_count"] == 5
    assert recorded["2000-03-01"] == {"bars_filled": 3, "source": "sample"}


def test_a_session_again_changes_nothing(own_store: Store) -> None:
    materialize(["raw_prices"], KEY, own_store, RECENT)
    results = [materialize(["raw_prices"], KEY, own_store, RECENT) for _ in range(2)]
    recorded = [metadata(result, "raw_prices") for result in results]
    assert [(t["inserted"], t["updated"], t["revisions"]) for t in recorded] == [(0, 0, 0)] * 2
    assert data_version(results[0], "raw_prices") == data_version(results[1], "raw_prices")
    assert recorded[0]["dagster/row_count"] == recorded[1]["dagster/row_count"] == 5
    assert recorded[0]["digest"] == data_version(results[0], "raw_prices")
    assert recorded[0]["source"] == "sample"
    assert recorded[0]["tickers"] == "AAPL, FB, GOOG, IBM, MSFT"


def test_sessions_missed_while_the_system_was_off_are_filled(own_store: Store) -> None:
    materialize(["raw_prices"], KEY, own_store, RECENT)
    later = calendar.next_session(DAY, 4)
    result = materialize(["raw_prices"], later.isoformat(), own_store, RECENT)
    missed = calendar.sessions(calendar.next_session(DAY), later)
    recorded = by_partition(result, "raw_prices")
    assert sorted(recorded) == [day.isoformat() for day in missed]
    assert recorded[later.isoformat()]["sessions_healed"] == 3
    assert len(read_bars(own_store.engine, missed[0], later)) == 5 * 4


def test_a_bar_that_changes_later_is_a_revision(own_store: Store, csv_params: Params) -> None:
    materialize(["raw_prices"], KEY, own_store, csv_params)
    before = stored(own_store)
    edit(csv_params, "IBM", DAY, Volume=1.0)
    changed = materialize(["raw_prices"], KEY, own_store, csv_params)
    recorded = metadata(changed, "raw_prices")
    assert (recorded["inserted"], recorded["updated"], recorded["revisions"]) == (0, 1, 1)
    with own_store.engine.connect() as connection:
        table = price_revisions.c
        query = select(table.ticker, table.field, table.old_value, table.new_value)
        row = connection.execute(query.add_columns(table.dagster_run_id)).one()
    assert tuple(row) == ("IBM", "volume", before["volume"][1], 1.0, changed.run_id)


@pytest.mark.parametrize(
    "change", [{"Close": 1e6}, {"Open": 0.5}, {"Close": -3.0, "Low": -4.0}, {"Volume": -1.0}]
)
def test_an_invalid_bar_fails_the_check_and_is_not_stored(
    own_store: Store, csv_params: Params, change: dict[str, float]
) -> None:
    edit(csv_params, "IBM", DAY, **change)

    @dg.asset(deps=["raw_prices"], partitions_def=trading_days(csv_params))
    def follows() -> None:
        """An asset downstream of the prices."""

    result = materialize(["raw_prices", follows], KEY, own_store, lenient(csv_params))
    assert not result.success
    assert not checks(result)["bars_are_sound"]
    assert KEY not in by_partition(result, "raw_prices")
    assert not result.asset_materializations_for_node("follows")
    assert stored(own_store)["ticker"].tolist() == ["AAPL"]
    found = evaluation(result, "bars_are_sound")
    assert found.severity == dg.AssetCheckSeverity.ERROR
    assert found.metadata["findings"].value >= 1
    assert {row.data["ticker"] for row in found.metadata["rows"].records} == {"IBM"}


def test_a_range_materializes_its_valid_sessions_and_fails_naming_the_others(
    own_store: Store, csv_params: Params
) -> None:
    last = calendar.next_session(DAY, 2)
    before = calendar.previous_session(DAY).isoformat()
    assert materialize(["raw_prices"], before, own_store, csv_params).success
    edit(csv_params, "IBM", calendar.next_session(DAY), Close=1e6)
    found = materialize(["raw_prices"], KEY, own_store, lenient(csv_params), last=last.isoformat())
    assert not found.success
    assert "bars_are_sound failed for 2013-01-07" in failure(found)
    days = calendar.sessions(DAY, last)
    assert sorted(versions(found, "raw_prices")) == [str(days[0]), str(days[2])]
    alone = materialize(["raw_prices"], str(days[2]), own_store, csv_params)
    day = str(days[2])
    assert versions(alone, "raw_prices")[day] == versions(found, "raw_prices")[day]


def test_downstream_refuses_a_session_until_its_newest_check_passes(
    own_store: Store, csv_params: Params
) -> None:
    valid = load_sample().query("ticker == 'IBM' and session == @DAY")["close"].item()
    assert materialize(["raw_prices"], KEY, own_store, csv_params).success
    assert materialize(["performance_log"], KEY, own_store, csv_params).success
    edit(csv_params, "IBM", DAY, Close=1e6)
    assert not materialize(["raw_prices"], KEY, own_store, csv_params).success
    assert stored(own_store)["ticker"].tolist() == ["AAPL", "IBM"]  # of the earlier run
    refused = materialize(["performance_log"], KEY, own_store, csv_params)
    assert "raw_prices of 2013-01-04 failed bars_are_sound" in failure(refused)
    edit(csv_params, "IBM", DAY, Close=valid)
    assert materialize(["raw_prices", "performance_log"], KEY, own_store, csv_params).success


def refused(store: Store, *days: date) -> list[str]:
    """The sessions that downstream assets refuse, of those given."""
    keys = [day.isoformat() for day in days]
    return [failed.partition for failed in failed_checks(store.engine, "raw_prices", keys)]


def test_failed_sessions_outside_the_run_refuse_no_session_between(
    own_store: Store, csv_params: Params
) -> None:
    failed = (date(2012, 12, 10), date(2012, 12, 20))
    for day in failed:
        edit(csv_params, "IBM", day, Close=1e6)
    assert not materialize(["raw_prices"], KEY, own_store, csv_params).success
    days = calendar.sessions(date(2012, 12, 3), DAY)
    assert refused(own_store, *days) == [day.isoformat() for day in failed]


def test_a_session_that_a_later_run_completes_is_accepted_again(
    own_store: Store, csv_params: Params
) -> None:
    valid = load_sample().query("ticker == 'IBM' and session == @DAY")["close"].item()
    edit(csv_params, "IBM", DAY, Close=1e6)
    assert not materialize(["raw_prices"], KEY, own_store, csv_params).success
    assert refused(own_store, DAY) == [KEY]
    edit(csv_params, "IBM", DAY, Close=valid)
    later = calendar.next_session(DAY).isoformat()
    filled = materialize(["raw_prices"], later, own_store, csv_params)
    assert filled.success
    assert KEY in by_partition(filled, "raw_prices")
    assert refused(own_store, DAY) == []


def test_a_session_with_a_bar_in_quarantine_stays_refused_when_another_bar_arrives(
    own_store: Store, csv_params: Params, tmp_path: Path
) -> None:
    late = (tmp_path / "AAPL.csv").read_text()
    edit(csv_params, "IBM", DAY, Close=1e6)
    lose(csv_params, "AAPL", DAY)
    assert not materialize(["raw_prices"], KEY, own_store, lenient(csv_params)).success
    (tmp_path / "AAPL.csv").write_text(late)
    later = calendar.next_session(DAY, 2)
    filled = materialize(["raw_prices"], later.isoformat(), own_store, lenient(csv_params))
    assert stored(own_store)["ticker"].tolist() == ["AAPL"]
    assert KEY not in by_partition(filled, "raw_prices")
    assert refused(own_store, DAY) == [KEY]


def test_a_corrected_bar_is_stored(own_store: Store, csv_params: Params) -> None:
    sound = load_sample().query("ticker == 'IBM' and session == @DAY")["close"].item()
    edit(csv_params, "IBM", DAY, Close=-3.0, Low=-4.0)
    materialize(["raw_prices"], KEY, own_store, csv_params)
    edit(csv_params, "IBM", DAY, Close=sound, Low=sound / 2)
    assert materialize(["raw_prices"], KEY, own_store, csv_params).success
    assert stored(own_store)["close"].tolist()[1] == sound


def test_an_empty_answer_is_a_failure_with_a_remedy(own_store: Store) -> None:
    result = materialize(["raw_prices"], "2013-03-04", own_store, params())
    assert not result.success
    assert "source sample returned no bar for 2013-03-04" in failure(result)
    assert "Its newest session is 2013-03-01" in failure(result)
    assert not result.asset_materializations_for_node("raw_prices")


@pytest.mark.parametrize(
    ("last", "empty", "remedy"),
    [
        (date(2013, 3, 8), "2013-03-04", "Its newest session is 2013-03-01"),
        (date(2013, 3, 4), "2013-03-04", "choose sessions that it has, or another source"),
    ],
)
def test_a_range_that_the_source_does_not_reach_is_a_failure_and_names_the_first_session(
    loop: Loop, last: date, empty: str, remedy: str
) -> None:
    days = calendar.sessions(date(2013, 2, 27), last)
    with pytest.raises(
        RunFailedError, match=f"source sample returned no bar for {empty}"
    ) as caught:
        run_sessions(loop.platform, Console(quiet=True), ["raw_prices"], days)
    assert remedy in caught.value.remedy
    assert "\n" not in str(caught.value)


def test_a_session_without_any_bar_inside_a_range_is_a_failure(
    own_store: Store, csv_params: Params
) -> None:
    lose(csv_params, "AAPL", DAY)
    lose(csv_params, "IBM", DAY)
    result = materialize(["raw_prices"], KEY, own_store, csv_params)
    assert not result.success
    assert f"source csv returned no bar for {DAY}" in failure(result)
    assert not result.asset_materializations_for_node("raw_prices")


def test_a_ticker_without_its_bar_is_late_and_the_others_are_stored(
    own_store: Store, csv_params: Params
) -> None:
    lose(csv_params, "IBM", DAY)
    result = materialize(["raw_prices"], KEY, own_store, lenient(csv_params))
    assert result.success
    assert stored(own_store)["ticker"].tolist() == ["AAPL"]
    assert by_partition(result, "raw_prices")[KEY]["late_tickers"] == ["IBM"]
    found = evaluation(result, "no_bar_is_missing")
    assert not found.passed
    assert found.severity == dg.AssetCheckSeverity.WARN
    assert found.description == "no bar: 1"
    (row,) = found.metadata["rows"].records
    assert (row.data["ticker"], row.data["session"]) == ("IBM", f"{DAY} 00:00:00")


def test_a_late_bar_is_filled_by_the_next_session(own_store: Store, csv_params: Params) -> None:
    file = csv_params.prices.csv_folder / "IBM.csv"
    whole = file.read_text()
    lose(csv_params, "IBM", DAY)
    materialize(["raw_prices"], KEY, own_store, lenient(csv_params))
    file.write_text(whole)
    tomorrow = calendar.next_session(DAY).isoformat()
    result = materialize(["raw_prices"], tomorrow, own_store, csv_params)
    assert by_partition(result, "raw_prices")[KEY] == {"bars_filled": 1, "source": "csv"}
    assert stored(own_store)["ticker"].tolist() == ["AAPL", "IBM"]


def test_too_few_tickers_fail_the_run_and_what_arrived_is_stored(
    own_store: Store, csv_params: Params
) -> None:
    lose(csv_params, "IBM", DAY)
    result = materialize(["raw_prices"], KEY, own_store, csv_params)
    assert not result.success
    assert f"returned a bar of {DAY} for 1 of 2 tickers, fewer than" in failure(result)
    assert "prices.minimum_share (80%): IBM: no bar of 2013-01-04 yet" in failure(result)
    assert stored(own_store)["ticker"].tolist() == ["AAPL"]


def test_a_ticker_that_failed_is_a_warning_too(
    own_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = SampleSource.fetch

    def without_ibm(self: SampleSource, starts: dict[str, date], last: date) -> Fetch:
        return drop_tickers(fetch(self, starts, last), {"IBM": "no answer at all"})

    monkeypatch.setattr(SampleSource, "fetch", without_ibm)
    result = materialize(["raw_prices"], KEY, own_store, RECENT)
    assert result.success
    assert by_partition(result, "raw_prices")[KEY]["failed_tickers"] == {"IBM": "no answer at all"}
    found = evaluation(result, "no_bar_is_missing")
    assert not found.passed
    assert found.description == "no answer: 1"


def test_each_bar_has_the_run_that_fetched_it(loop: Loop) -> None:
    from stock_assets.storage.tables import raw_stock_data

    query = select(raw_stock_data.c.dagster_run_id, func.count()).group_by("dagster_run_id")
    with loop.platform.engine.connect() as connection:
        assert loop.ingest.run_id in {row[0] for row in connection.execute(query)}
