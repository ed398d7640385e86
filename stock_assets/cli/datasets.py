"""``stock-assets dataset``: what a dataset was made from and with, and whether it still is that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stock_assets.cli.platform import Platform
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.fingerprints import build_environment, differences, plain_digest
from stock_assets.core.text import truncate
from stock_assets.defs.partitions import dataset_as_of
from stock_assets.registry import Registry
from stock_assets.storage.arrays import ArrayStore
from stock_assets.storage.datasets import (
    created_at,
    load_panel,
    scaler_summary,
    segments_of,
)
from stock_assets.storage.forecasts import promotion_of

_SHOWN = (
    *("dataset_run_id", "as_of_session", "first_session", "last_session", "bars"),
    *("tickers", "features", "basis", "target"),
)


def show_datasets(found: Sequence[dict[str, Any]], console: Console) -> None:
    """Lay the datasets out for a person."""
    if not found:
        console.print("no dataset yet: stock-assets retrain")
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("dataset", no_wrap=True)
    table.add_column("as of", no_wrap=True)
    for heading in ("bars", "tickers", "features"):
        table.add_column(heading, justify="right")
    table.add_column("candidate")
    for row in found:
        table.add_row(
            row["dataset_run_id"],
            str(row["as_of_session"]),
            f"{row['bars']:,}",
            str(row["tickers"]),
            str(row["features"]),
            _decided(row),
        )
    console.print(table)


def _decided(row: dict[str, Any]) -> str:
    if row["candidate_version"] is None:
        return "undecided"
    return f"v{row['candidate_version']} {'' if row['promoted'] else 'not '}promoted"


def gather_dataset(platform: Platform, dataset_id: str) -> dict[str, Any]:
    """Collect, as plain values, what is known of a dataset.

    Raises
    ------
    StockAssetsError
        There is no such dataset.
    """
    dataset_as_of(dataset_id)
    engine, arrays = platform.engine, ArrayStore(platform.locations.arrays_url)
    record, segments = load_panel(engine, dataset_id), segments_of(engine, dataset_id)
    scalers = scaler_summary(engine, dataset_id)
    decided = promotion_of(engine, dataset_id)
    versions = Registry(platform.params.tracking).versions_of(dataset_id)
    made = record.build_environment
    digests = {
        "rows": record.bars_digest,
        "panel": record.digest,
        "scalers": scalers["digest"] if scalers else None,
        "segments": segments[0].digest if segments else None,
        "code": plain_digest(made["code"]) if made else None,
    }
    return {
        **{name: getattr(record, name) for name in _SHOWN},
        "created_at": created_at(engine, dataset_id),
        "scaler": scalers["kind"] if scalers else None,
        "target_scaler": scalers["target_kind"] if scalers else None,
        "segments": [asdict(segment) for segment in segments],
        "digests": digests,
        "build_environment": made,
        "differs_now": differences(made, build_environment()) if made else None,
        "file": _file(arrays, record.location),
        "candidate_versions": [model.version for model in versions if model.refit_of is None],
        "refits": {model.version: model.refit_of for model in versions if model.refit_of},
        "promotion": asdict(decided) if decided else None,
        "params": record.params,
    }


def _file(arrays: ArrayStore, location: str) -> dict[str, Any]:
    """Where a file of a dataset is and how large; no path and no size where it is missing."""
    try:
        path = arrays.local_path(location)
    except StockAssetsError:
        return {"location": location, "path": None, "bytes": None}
    return {"location": location, "path": str(path), "bytes": path.stat().st_size}


def show_dataset(found: dict[str, Any], console: Console) -> None:
    """Lay a dataset out for a person."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for heading, told in (
        ("dataset", f"{found['dataset_run_id']}, made {found['created_at']:%Y-%m-%d %H:%M %Z}"),
        ("as of", str(found["as_of_session"])),
        ("span", f"{found['first_session']} to {found['last_session']}, {found['bars']:,} bars"),
        ("tickers", _listed(found["tickers"])),
        ("features", _listed(found["features"])),
        ("basis, target", f"{found['basis']}, {found['target']}"),
        *_segment_rows(found),
        ("scalers", _scalers(found)),
        *((f"digest: {name}", digest) for name, digest in found["digests"].items() if digest),
        ("made with", _makers(found)),
        *(("differs now", escape(line)) for line in found["differs_now"] or ()),
        ("array file", _file_told(found["file"])),
        ("candidate", _candidate(found)),
        ("decision", escape(found["promotion"]["reason"]) if found["promotion"] else "none yet"),
    ):
        table.add_row(heading, told)
    console.print(table)


def _listed(names: Sequence[str]) -> str:
    return f"{len(names)}: {', '.join(truncate(names, 40))}"


def _segment_rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    if not found["segments"]:
        return [("segments", "not made yet")]
    rows = [
        (
            segment["set_name"],
            f"{segment['first_session']} to {segment['last_session']}, "
            f"{segment['last_position'] - segment['first_position'] + 1} windows",
        )
        for segment in found["segments"]
    ]
    purged = f"{found['segments'][0]['purge_sessions']} sessions between two segments"
    return [*rows, ("purge", purged)]


def _scalers(found: dict[str, Any]) -> str:
    if found["scaler"] is None:
        return "not made yet"
    return f"{found['scaler']}, of the target {found['target_scaler']}"


def _makers(found: dict[str, Any]) -> str:
    made = found["build_environment"]
    if made is None:
        return "not recorded"
    libraries = ", ".join(f"{name} {version}" for name, version in made["libraries"].items())
    same = "" if found["differs_now"] else ", as installed now"
    return f"stock-assets {made['package']}, {libraries}{same}"


def _file_told(file: dict[str, Any]) -> str:
    if file["path"] is None:
        return f"{file['location']} is missing"
    return f"{escape(str(Path(file['path'])))}, {file['bytes'] / 1e6:.1f} MB"


def _candidate(found: dict[str, Any]) -> str:
    if not found["candidate_versions"]:
        return f"none yet: stock-assets retrain --dataset {found['dataset_run_id']}"
    candidates = [f"version {version}" for version in found["candidate_versions"]]
    refits = [f"version {version}, refit of {of}" for version, of in found["refits"].items()]
    return "; ".join(refits + candidates)


def verify_dataset(platform: Platform, dataset_id: str) -> dict[str, Any]:
    """Make a dataset again and tell, as plain values, which parts are what was recorded.

    Raises
    ------
    StockAssetsError
        There is no such dataset.
    """
    from stock_assets.datasets.build import verify

    dataset_as_of(dataset_id)
    found = verify(platform.engine, ArrayStore(platform.locations.arrays_url), dataset_id)
    return asdict(found) | {"equal": found.equal}


def export_dataset(platform: Platform, dataset_id: str, file: Path) -> int:
    """Write the panel of a dataset as Parquet; gives its rows.

    One row per session and ticker: the features in their own units, the label, and whether the row
    is valid. The file appears whole or not at all.

    Raises
    ------
    StockAssetsError
        There is no such dataset, or no folder to write to.
    """
    import pandas as pd

    from stock_assets.datasets.build import recorded_params
    from stock_assets.features.labels import session_labels
    from stock_assets.features.panel import Panel, to_frame
    from stock_assets.market.calendar import sessions

    dataset_as_of(dataset_id)
    if not file.absolute().parent.is_dir():
        raise StockAssetsError(f"there is no folder {file.parent}", "Make it, or choose another")
    record = load_panel(platform.engine, dataset_id)
    arrays = ArrayStore(platform.locations.arrays_url).read_tensors(record.location)
    panel = Panel(
        sessions=pd.DatetimeIndex(sessions(record.first_session, record.last_session)),
        tickers=tuple(record.tickers),
        features=tuple(record.features),
        **{name: arrays[name] for name in ("values", "valid", "close")},
    )
    frame = to_frame(panel, session_labels(panel.close, recorded_params(record).dataset.target))
    partial = file.with_name(f"{file.name}.partial")
    frame.to_parquet(partial, index=False)
    partial.replace(file)
    return len(frame)


def show_verification(found: dict[str, Any], console: Console) -> None:
    """Lay a verification out for a person, part by part."""
    console.print(f"Dataset {found['dataset_run_id']}, as of {found['as_of_session']}")
    for part in found["parts"]:
        mark = "[green]✓[/green]" if part["equal"] else "[red]✗[/red]"
        console.print(f"  {mark} {part['name']:<10} {escape(part['message'])}", soft_wrap=True)
    if found["equal"]:
        console.print("Equal: made again from the stored rows, it has the digests it had.")
    else:
        console.print("Not equal: it is not what it was recorded as.")
    if found["changes"]:
        console.print("Changed since it was made:")
    for change in found["changes"]:
        console.print(f"  {escape(change)}", soft_wrap=True)
