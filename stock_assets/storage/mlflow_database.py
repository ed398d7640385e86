"""Queries and corrections of MLflow's own database: artifact paths, version numbers."""

from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy import (
    ColumnClause,
    Connection,
    Text,
    bindparam,
    column,
    create_engine,
    func,
    literal,
    table,
    text,
    update,
)
from sqlalchemy.pool import NullPool

_LOCATIONS = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}
"""Columns with the absolute address of a folder, by table; experiments come first."""
_SOURCE = ("model_versions", "source")


def adopt_artifacts(url: str, folder: Path, experiment: str | None = None) -> list[str]:
    """Point MLflow's database to the artifacts in `folder` after a home was copied or moved.

    Experiments of this package keep their artifacts in the folder of this name in the home that
    created them, and MLflow stores its absolute address. Addresses below another home's folder of
    the same name are replaced; all others are left alone.

    Parameters
    ----------
    url : str
        Address of MLflow's database.
    folder : Path
        The artifacts folder of this home.
    experiment : str, optional
        Replace only the addresses of the home that this experiment names.

    Returns
    -------
    list of str
        The addresses that were replaced, of the other homes' folders.
    """
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        if not _has_tables(connection):
            return []
        own = folder.as_uri()
        query = text(
            "SELECT artifact_location FROM experiments WHERE :name IS NULL OR name = :name"
        ).bindparams(bindparam("name", experiment, Text))
        locations = connection.scalars(query).all()
        pattern = re.compile(rf"file://.*/{re.escape(folder.name)}")
        others = sorted({one for one in locations if one != own and pattern.fullmatch(one or "")})
        for other in others:
            for name, address in (*_LOCATIONS.items(), _SOURCE):
                stored: ColumnClause[str] = column(address)
                below = (stored == other) | stored.startswith(f"{other}/", autoescape=True)
                moved = literal(own) + func.substr(stored, len(other) + 1)
                connection.execute(update(table(name, stored)).where(below).values({stored: moved}))
        return others


def datasets_of_versions(url: str, model_name: str) -> dict[int, str | None]:
    """Return the dataset of each assigned version number, deleted versions included.

    Parameters
    ----------
    url : str
        Address of MLflow's database.
    model_name : str
        Name of the registered model.
    """
    query = text(
        "SELECT v.version, t.value FROM model_versions v LEFT JOIN model_version_tags t "
        "ON t.name = v.name AND t.version = v.version AND t.key = 'dataset_run_id' "
        "WHERE v.name = :name"
    )
    with create_engine(url, poolclass=NullPool).connect() as connection:
        if not _has_tables(connection):
            return {}
        rows = connection.execute(query, {"name": model_name}).all()
        return {int(version): dataset for version, dataset in rows}


def restore_version(url: str, model_name: str, version: int, source: str, run_id: str) -> None:
    """Undo the deletion of a version of a registered model: MLflow keeps its row and its tags.

    Parameters
    ----------
    url : str
        Address of MLflow's database.
    model_name, version : str, int
        The deleted version.
    source : str
        Address of the folder with its files.
    run_id : str
        The run that logged it.
    """
    restore = text(
        "UPDATE model_versions SET current_stage = 'None', source = :source, "
        "storage_location = :source, run_id = :run_id, run_link = NULL "
        "WHERE name = :name AND version = :version AND current_stage = 'Deleted_Internal'"
    )
    values = {"name": model_name, "version": version, "source": source, "run_id": run_id}
    with create_engine(url, poolclass=NullPool).begin() as connection:
        connection.execute(restore, values)


def _has_tables(connection: Connection) -> bool:
    """Whether MLflow has migrated its database, which it does when it is first used."""
    return connection.scalar(text("SELECT to_regclass('logged_models') IS NOT NULL")) is True
