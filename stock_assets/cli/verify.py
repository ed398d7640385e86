"""``stock-assets verify``: whether the record holds."""

from __future__ import annotations

from itertools import islice
from typing import Any

from rich.console import Console
from rich.markup import escape

from stock_assets.cli.platform import Platform
from stock_assets.storage.record import head


def accept_restore(platform: Platform, why: str) -> None:
    """Append a link that accepts links lost with a restored backup."""
    from stock_assets.cli.versions import person
    from stock_assets.defs.metadata import known_heads
    from stock_assets.pipeline import verification

    by = person()
    note = f"{why} (accepted by {by})" if by else why
    verification.accept_restore(platform.engine, known_heads(platform.instance), note)


def verify_record(platform: Platform, *, every: bool) -> dict[str, Any]:
    """Walk the record; return its newest link and the first fault, or `every` one."""
    from stock_assets.defs.metadata import known_heads
    from stock_assets.pipeline.verification import find_faults
    from stock_assets.registry import Registry
    from stock_assets.storage.arrays import ArrayStore

    newest = head(platform.engine)
    found = find_faults(
        platform.engine,
        ArrayStore(platform.locations.arrays_url),
        Registry(platform.params.tracking),
        known_heads(platform.instance),
    )
    faults = [fault.to_dict() for fault in islice(found, None if every else 1)]
    return {
        "holds": not faults,
        "newest_link": newest.number if newest else None,
        "newest_digest": newest.digest if newest else None,
        "written_at": newest.written_at if newest else None,
        "faults": faults,
    }


def show_record(found: dict[str, Any], console: Console) -> None:
    """Print whether the record holds, or where it does not."""
    for fault in found["faults"]:
        place = f"[red]✗[/red] {fault['part']}"
        console.print(f"{place}: {escape(fault['message'])}", soft_wrap=True)
    if found["newest_link"] is None:
        console.print("Nothing is recorded yet.")
    elif found["holds"]:
        console.print(
            f"[green]✓[/green] The record holds up to link {found['newest_link']:,} of "
            f"{found['written_at']:%Y-%m-%d %H:%M:%S} UTC, digest {found['newest_digest']}.",
            soft_wrap=True,
        )
