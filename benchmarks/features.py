"""Datasets of a market, printed as JSON: ``python -m benchmarks.features``.

Each measurement runs in its own process, because peak memory belongs to a process. The prices are
those of :mod:`benchmarks.market`.
"""

import json
import re
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.market import LAST, SESSIONS, TICKERS, market
from benchmarks.measuring import peak_megabytes, run_module
from stock_assets.cli.platform import open_platform
from stock_assets.config import Dataset, FeatureGroup, Features
from stock_assets.features.dataset import FeatureSet, build_feature_set
from stock_assets.features.feature import INPUT_COLUMNS
from stock_assets.features.indicators import FEATURES, select
from stock_assets.features.lookahead import find_lookahead
from stock_assets.features.scaling import Scaler, fit_scalers
from stock_assets.features.splits import split_dataset
from stock_assets.market.sources.base import fetch_from_bars
from stock_assets.storage.arrays import ArrayStore
from stock_assets.storage.prices import read_bars, store_prices

GROUPS: dict[str, list[FeatureGroup]] = {
    "all_but_alpha158": ["raw", "trend", "momentum", "volatility", "volume", "returns"],
    "alpha158": ["alpha158"],
}
"""The 42 features of this package, and Qlib's."""


def main() -> None:
    """Store the prices, then run each part in its own process."""
    if len(sys.argv) > 1:
        print(json.dumps(PARTS[sys.argv[1]]()))
        return
    starts = dict.fromkeys(TICKERS, SESSIONS[0])
    store_prices(open_platform().engine, fetch_from_bars(market(SESSIONS)), starts, "yahoo")
    print(json.dumps({name: run_module("benchmarks.features", name) for name in PARTS}))


def _dataset(features: Features) -> dict[str, Any]:
    """Measure building a dataset, from reading prices to writing the panel, and its checks."""
    engine, dataset = open_platform().engine, Dataset()
    began, cpu = time.perf_counter(), time.process_time()
    bars = read_bars(engine, SESSIONS[0], LAST)
    read = time.process_time() - cpu
    built = build_feature_set(bars, features, dataset, SESSIONS[0], LAST)
    with tempfile.TemporaryDirectory() as folder:
        arrays = ArrayStore(folder)
        panel = {"values": built.panel.values, "valid": built.panel.valid}
        file = arrays.write_tensors(panel | {"close": built.panel.close})
        found = {
            "features": len(built.panel.features),
            "read_cpu_seconds": read,
            "cpu_seconds": time.process_time() - cpu,
            "seconds": time.perf_counter() - began,
            "peak_megabytes": peak_megabytes(),
            "panel_megabytes": built.panel.values.nbytes / 1e6,
            "on_disk_over_panel": file.size / built.panel.values.nbytes,
        }
    found["look_ahead_check_cpu_seconds"], _ = _cpu(lambda: find_lookahead(built, features, 20))
    for kind in ("standard", "minmax", "robust"):
        scaled = dataset.model_copy(update={"scaler": kind})
        found[f"fit_{kind}_cpu_seconds"], _ = _cpu(partial(_fitted, built, scaled))
    return found | {"peak_megabytes_of_everything": peak_megabytes()}


def _indicators(groups: list[FeatureGroup]) -> dict[str, Any]:
    """Measure the formulas, ticker by ticker as in a panel."""
    bars = market(SESSIONS)
    columns = {name: bars[name].to_numpy() for name in INPUT_COLUMNS}
    rows = bars.groupby("ticker", sort=False).indices
    inputs = [{name: column[where] for name, column in columns.items()} for where in rows.values()]
    seconds: dict[str, float] = defaultdict(float)
    for name in select(groups):
        family = re.sub(r"\d+$", "", name) if groups == ["alpha158"] else name
        cpu, _ = _cpu(partial(list, map(FEATURES[name].compute, inputs)))
        seconds[family] += cpu
    slowest = sorted(seconds, key=seconds.__getitem__, reverse=True)[:5]
    return {
        "cpu_seconds": sum(seconds.values()),
        "slowest": {name: seconds[name] for name in slowest},
    }


def _filter() -> dict[str, Any]:
    """Measure the cost of removing correlated features."""
    bars = market(SESSIONS)
    plain = Features(groups=GROUPS["all_but_alpha158"])
    chosen = plain.model_copy(update={"correlation_threshold": 0.9})

    def build(features: Features) -> FeatureSet:
        return build_feature_set(bars, features, Dataset(), SESSIONS[0], LAST)

    without, _ = _cpu(lambda: build(plain))
    filtered, built = _cpu(lambda: build(chosen))
    return {"cpu_seconds": filtered - without, "kept": len(built.panel.features)}


def _fitted(built: FeatureSet, dataset: Dataset) -> tuple[Scaler, Scaler]:
    panel = built.panel
    train = split_dataset(len(panel.sessions), dataset).train
    return fit_scalers(panel.values, panel.valid, built.target, train, dataset)


def _cpu(action: Callable[[], Any]) -> tuple[float, Any]:
    began = time.process_time()
    result = action()
    return time.process_time() - began, result


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    **{
        f"dataset_{name}": partial(_dataset, Features(groups=groups))
        for name, groups in GROUPS.items()
    },
    **{f"formulas_{name}": partial(_indicators, groups) for name, groups in GROUPS.items()},
    "correlation_filter": _filter,
}


if __name__ == "__main__":
    main()
