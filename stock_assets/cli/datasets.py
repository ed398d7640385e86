"""``stock-assets dataset``: list, show and verify datasets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stock_assets.cli.output import print_facts
from stock_assets.cli.platform import Platform
from stock_assets.core.digests import DamagedFileError
from stock_assets.core.fingerprints import (
    build_environment,
    custom_names,
    differences,
    plain_digest,
)
from stock_assets.core.moments import write_moment
from stock_assets.core.text import truncate
from stock_assets.registry import Registry
from stock_assets.storage.arrays import ArrayStore
from stock_assets.storage.datasets import (
    created_at,
    load_panel,
    scaler_summary,
    segments_of,
)
from stock_assets.storage.decisions import promotion_of

_PANEL_FIELDS = (
    *("dataset_run_id", "as_of_session", "first_session", "last_session", "bars"),
    *("known_at", "tickers", "features", "basis", "target"),
)


def show_datasets(found: Sequence[dict[str, Any]], console: Console) -> None:
    """Print the datasets as a table."""
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
            _decision(row),
        )
    console.print(table)


def _decision(row: dict[str, Any]) -> str:
    if row["candidate_version"] is None:
        return "undecided"
    return f"v{row['candidate_version']} {'' if row['promoted'] else 'not '}promoted"


def gather_dataset(platform: Platform, dataset_id: str) -> dict[str, Any]:
    """Return the stored facts of a dataset, as plain values.

    Raises
    ------
    StockAssetsError
        There is no such dataset.
    """
    from stock_assets.pipeline.versions import newest_label

    engine, arrays = platform.engine, ArrayStore(platform.locations.arrays_url)
    record, segments = load_panel(engine, dataset_id), segments_of(engine, dataset_id)
    scalers = scaler_summary(engine, dataset_id)
    promotion = promotion_of(engine, platform.params.tracking.model_name, dataset_id)
    versions = Registry(platform.params.tracking).versions_of(dataset_id)
    built = record.build_environment
    now = build_environment(custom_names(built) if built else ())
    digests = {
        "rows": record.bars_digest,
        "panel": record.digest,
        "scalers": scalers["digest"] if scalers else None,
        "segments": segments[0].digest if segments else None,
        "code": plain_digest(built["code"]) if built else None,
    }
    return {
        **{name: getattr(record, name) for name in _PANEL_FIELDS},
        "created_at": created_at(engine, dataset_id),
        "scaler": scalers["kind"] if scalers else None,
        "target_scaler": scalers["target_kind"] if scalers else None,
        "segments": [asdict(segment) for segment in segments],
        "digests": digests,
        "build_environment": built,
        "differs_now": differences(built, now) if built else None,
        "file": _file(arrays, record.location),
        "candidate_versions": [model.version for model in versions if model.refit_of is None],
        "refits": {model.version: model.refit_of for model in versions if model.refit_of},
        "newest_labels": {model.version: newest_label(engine, model) for model in versions},
        "promotion": promotion.to_dict() if promotion else None,
        "params": record.params,
    }


def _file(arrays: ArrayStore, location: str) -> dict[str, Any]:
    """Return the path and size of a dataset's file, or the problem of one that is unusable."""
    try:
        path = arrays.local_path(location)
    except DamagedFileError as error:
        return {"location": location, "path": None, "bytes": None, "problem": error.problem}
    return {"location": location, "path": str(path), "bytes": path.stat().st_size, "problem": None}


def show_dataset(found: dict[str, Any], console: Console) -> None:
    """Print a dataset as a table."""
    facts = (
        ("dataset", f"{found['dataset_run_id']}, built {found['created_at']:%Y-%m-%d %H:%M %Z}"),
        ("as of", str(found["as_of_session"])),
        ("prices known at", _known_at(found["known_at"])),
        ("span", f"{found['first_session']} to {found['last_session']}, {found['bars']:,} bars"),
        ("tickers", _listed(found["tickers"])),
        ("features", _listed(found["features"])),
        ("basis, target", f"{found['basis']}, {found['target']}"),
        *_segment_rows(found),
        ("scalers", _scalers(found)),
        *((f"digest: {name}", digest) for name, digest in found["digests"].items() if digest),
        ("built with", _build_environment(found)),
        *(("differs now", escape(line)) for line in found["differs_now"] or ()),
        ("array file", _describe_file(found["file"])),
        ("candidate", _candidate(found)),
        ("decision", escape(found["promotion"]["reason"]) if found["promotion"] else "none yet"),
    )
    print_facts(facts, console)


def _known_at(moment: datetime | None) -> str:
    return "not recorded" if moment is None else write_moment(moment)


def _listed(names: Sequence[str]) -> str:
    return f"{len(names)}: {', '.join(truncate(names, 40))}"


def _segment_rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    if not found["segments"]:
        return [("segments", "not built yet")]
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
        return "not built yet"
    return f"{found['scaler']}, of the target {found['target_scaler']}"


def _build_environment(found: dict[str, Any]) -> str:
    built = found["build_environment"]
    if built is None:
        return "not recorded"
    libraries = ", ".join(f"{name} {version}" for name, version in built["libraries"].items())
    same = "" if found["differs_now"] else ", as installed now"
    return f"stock-assets {built['package']}, {libraries}{same}"


def _describe_file(file: dict[str, Any]) -> str:
    if file["path"] is None:
        return escape(file["problem"])
    return f"{escape(str(Path(file['path'])))}, {file['bytes'] / 1e6:.1f} MB"


def _candidate(found: dict[str, Any]) -> str:
    if not found["candidate_versions"]:
        return f"none yet: stock-assets retrain --dataset {found['dataset_run_id']}"
    labels = found["newest_labels"]
    candidates = [f"version {version}" for version in found["candidate_versions"]]
    refits = [f"version {version}, refit of {of}" for version, of in found["refits"].items()]
    numbers = [*found["refits"], *found["candidate_versions"]]
    return "; ".join(
        f"{text}, newest label {labels[number]}"
        for text, number in zip(refits + candidates, numbers, strict=True)
    )


def verify_dataset(platform: Platform, dataset_id: str) -> dict[str, Any]:
    """Rebuild a dataset; return each part's comparison and the changes since, as plain values.

    Raises
    ------
    StockAssetsError
        There is no such dataset.
    """
    from stock_assets.datasets.verify import verify

    found = verify(platform.engine, ArrayStore(platform.locations.arrays_url), dataset_id)
    return asdict(found) | {"equal": found.equal}


def show_verification(found: dict[str, Any], console: Console) -> None:
    """Print a verification, one line per part."""
    known_at = found["known_at"]
    rows = "as stored now" if known_at is None else f"as known at {write_moment(known_at)}"
    console.print(
        f"Dataset {found['dataset_run_id']}, as of {found['as_of_session']}, prices {rows}",
        soft_wrap=True,
    )
    marks = {True: "[green]✓[/green]", False: "[red]✗[/red]", None: "[dim]–[/dim]"}
    for part in found["parts"]:
        mark = marks[part["equal"]]
        console.print(f"  {mark} {part['name']:<10} {escape(part['message'])}", soft_wrap=True)
    if found["equal"]:
        console.print("Equal: rebuilt from these prices, it has the recorded digests.")
    else:
        console.print("Not equal: the rebuilt dataset differs from the recorded one.")
    if found["changes"]:
        console.print("Changed since it was built:")
    for change in found["changes"]:
        console.print(f"  {escape(change)}", soft_wrap=True)
