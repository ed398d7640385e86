"""`stock-assets demo`: the whole loop by one command, and again without a change."""

from __future__ import annotations

import re

from stock_assets_tests.cli.conftest import Demo, Installation


def test_the_summary_has_the_scores_and_the_decision(demo: Demo):
    printed = demo.printed

    assert "Forecast for Friday 2013-03-01" in printed
    assert "90% interval" in printed
    for ticker in ("AAPL", "FB", "GOOG", "IBM", "MSFT"):
        assert re.search(
            rf"{ticker} +│ +[\d.,]+ │ +[\d.,]+ │ +[+-][\d.]+% │ +[\d.,]+ – [\d.,]+ │", printed
        )
    assert "2013-01-02 to 2013-02-28: 200 forecasts of 40 sessions" in printed
    assert re.search(
        r"Error \(MAPE\) +\d\.\d+% +persistence \d\.\d+% +relative MAE \d\.\d+", printed
    )
    assert "Model               version 1 of StockPricePredictor" in printed
    assert re.search(r"Dataset +20121231_\d{6}, as of 2012-12-31", printed)
    assert "make up" in printed


def test_the_error_stays_near_persistence(demo: Demo):
    relative_mae = re.search(r"relative MAE (\d\.\d+)", demo.printed)

    assert relative_mae is not None
    assert float(relative_mae[1]) <= 1.03


def test_the_demo_leaves_no_process(demo: Demo):
    assert demo.left == []


def test_all_history_is_stored_forecast_and_scored(demoed: Installation, demo: Demo):
    rows = demo.lasting_rows

    assert len(rows["raw_stock_data"]) == 12_154
    assert len(rows["predictions"]) == 41 * 5
    assert len(rows["model_performance_log"]) == 40 * 5
    assert (
        demoed.value(
            "SELECT count(DISTINCT as_of_session) FROM predictions "
            "WHERE as_of_session BETWEEN '2012-12-31' AND '2013-02-28'"
        )
        == 41
    )
    assert (
        demoed.value(
            "SELECT count(DISTINCT session) FROM model_performance_log "
            "WHERE session BETWEEN '2013-01-02' AND '2013-02-28'"
        )
        == 40
    )
    assert len(rows["model_promotions"]) == 1


def test_the_report_is_one_file_with_its_plots(demoed: Installation, demo: Demo):
    report = demoed.home / "reports" / "demo" / "index.html"
    page = report.read_text(encoding="utf-8")

    assert str(report) in demo.printed.replace("\n", "")
    assert [path.name for path in report.parent.iterdir()] == ["index.html"]
    assert re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)\s*=\s*[\"']?http", page) == []
    assert not re.search(r"@import|url\(\s*[\"']?http", page)
    # Error, coverage, one per ticker, training.
    assert page.count('<section class="figure">') == 1 + 1 + 5 + 1
    for ticker in ("AAPL", "FB", "GOOG", "IBM", "MSFT"):
        assert ticker in page


def test_the_forecasts_are_written_to_files(demoed: Installation):
    folder = demoed.home / "forecasts"

    assert len(list((folder / "historical").iterdir())) >= 41
    assert (folder / "historical" / "2013-03-01.json").exists()
    assert (folder / "latest_predictions.json").exists()


def test_a_second_demo_changes_nothing(demoed: Installation, demo: Demo):
    before = _state(demoed)

    printed = demoed.succeed("demo")

    assert _state(demoed) == before
    assert "already stored" in printed
    assert "already trained and decided" in printed
    assert "already forecast and scored" in printed
    first, second = (text[text.index("Forecast for") :] for text in (demo.printed, printed))
    assert second == first


def _state(installation: Installation) -> object:
    files = {
        path: path.stat().st_mtime_ns
        for name in ("arrays", "forecasts", "mlflow")
        for path in (installation.home / name).rglob("*")
    }
    return (
        installation.tables(),
        installation.versions(),
        installation.alias(),
        installation.run_statuses(),
        installation.value("SELECT count(*) FROM event_logs", "dagster"),
        installation.value("SELECT count(*) FROM runs", "mlflow"),
        files,
    )
