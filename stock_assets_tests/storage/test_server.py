"""The server: the embedded one's life, an external one by address, its databases."""

from __future__ import annotations

import subprocess
import warnings
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from stock_assets.cli.platform import Platform
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.locations import Locations
from stock_assets.storage import server
from stock_assets.storage.database import DRIVER, STORE_URL_VARIABLE
from stock_assets.storage.server import DATABASES, EXTERNAL_VARIABLE


def locations(folder: Path) -> Locations:
    return Locations(project=folder, home=folder / "home", arrays_url=str(folder / "arrays"))


def test_an_embedded_server_starts_keeps_running_and_stops(tmp_path: Path) -> None:
    here = locations(tmp_path)
    assert not server.is_running(here)
    assert not server.stop(here)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        url = server.start(here, keep=True)
    assert url.drivername == DRIVER
    assert server.is_running(here)
    assert server.start(here) == url
    engine = create_engine(url)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT 1")) == 1
        assert connection.scalar(text("SHOW listen_addresses")) == ""
    engine.dispose()
    assert server.stop(here)
    assert not server.is_running(here)
    assert not server.stop(here)


def test_a_copy_of_a_running_installation_has_its_own_server(tmp_path: Path) -> None:
    original, copied = locations(tmp_path / "original"), locations(tmp_path / "copied")
    original.project.mkdir()
    engine = create_engine(server.start(original, keep=True))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE note AS SELECT 'original' AS place"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("CHECKPOINT"))
    subprocess.run(["cp", "-a", str(original.project), str(copied.project)], check=True)
    assert not server.is_running(copied)
    assert not server.stop(copied)
    second = create_engine(server.start(copied, keep=True))
    with second.begin() as connection:
        connection.execute(text("UPDATE note SET place = 'copied'"))
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT place FROM note")) == "original"
    second.dispose()
    assert server.stop(copied)
    assert server.is_running(original)
    engine.dispose()
    assert server.stop(original)


def test_an_installation_that_was_moved_while_it_ran_is_refused(tmp_path: Path) -> None:
    before, now = locations(tmp_path / "before"), locations(tmp_path / "now")
    before.project.mkdir()
    server.start(before, keep=True)
    before.project.rename(now.project)
    try:
        with pytest.raises(StockAssetsError, match=r"moved .* while its database was running"):
            server.start(now)
    finally:
        now.project.rename(before.project)
        assert server.stop(before)


def test_is_running_is_true_for_the_server_of_the_tests(platform: Platform) -> None:
    assert server.is_running(platform.locations)


def test_external_url_is_none_without_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(EXTERNAL_VARIABLE, raising=False)
    assert server.external_url() is None
    monkeypatch.setenv(EXTERNAL_VARIABLE, "")
    assert server.external_url() is None


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg2", "postgresql+psycopg"])
def test_external_url_has_the_driver(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    monkeypatch.setenv(EXTERNAL_VARIABLE, f"{scheme}://me:s%40crt@db.example:6543/stock_assets")
    url = server.external_url()
    assert url is not None
    assert url.drivername == DRIVER
    assert (url.host, url.port, url.password) == ("db.example", 6543, "s@crt")


@pytest.mark.parametrize(
    "address", ["db.example:5432", "postgresql://u:pa:ss@h:x/db", "sqlite:///here.db"]
)
def test_an_address_of_another_kind_is_an_error_without_its_password(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv(EXTERNAL_VARIABLE, address)
    with pytest.raises(
        StockAssetsError, match="not the address of a PostgreSQL database"
    ) as caught:
        server.external_url()
    assert "postgresql://USER:PASSWORD@HOST:5432/stock_assets" in caught.value.remedy
    assert "\n" not in str(caught.value)
    assert "pa:ss" not in str(caught.value)


def test_an_external_server_is_used_and_never_stopped(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = platform.variables[STORE_URL_VARIABLE]
    monkeypatch.setenv(EXTERNAL_VARIABLE, address)
    here = locations(tmp_path)
    assert server.start(here) == make_url(address)
    assert not here.home.exists()
    with pytest.raises(StockAssetsError, match=r"external \(STOCK_ASSETS_DATABASE_URL is set\)"):
        server.stop(here)
    assert server.is_running(platform.locations)


def test_a_server_that_does_not_answer_is_an_error_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(EXTERNAL_VARIABLE, "postgresql://me:secret@127.0.0.1:1/stock_assets")
    with pytest.raises(StockAssetsError, match=r"no database at .*refused") as caught:
        server.start(locations(tmp_path))
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_prepare_databases_is_idempotent(platform: Platform) -> None:
    url = make_url(platform.variables[STORE_URL_VARIABLE])
    server.prepare_databases(url)
    engine = create_engine(url)
    with engine.connect() as connection:
        present = connection.scalars(text("SELECT datname FROM pg_database")).all()
        relaxed = connection.scalars(
            text(
                "SELECT d.datname FROM pg_db_role_setting s JOIN pg_database d "
                "ON d.oid = s.setdatabase WHERE 'synchronous_commit=off' = ANY(s.setconfig)"
            )
        ).all()
    engine.dispose()
    assert set(DATABASES) <= set(present)
    assert sorted(relaxed) == ["dagster", "mlflow", "optuna"]  # market data wait for the disk


def test_a_user_without_createdb_is_an_error_with_a_remedy(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = make_url(platform.variables[STORE_URL_VARIABLE])
    monkeypatch.setattr(server, "DATABASES", (*DATABASES, "missing"))
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("CREATE ROLE visitor LOGIN PASSWORD 'pass'"))
        try:
            with pytest.raises(StockAssetsError, match=r"permission denied .*CREATEDB") as caught:
                server.prepare_databases(url.set(username="visitor", password="pass"))
        finally:
            connection.execute(text("DROP ROLE visitor"))
    engine.dispose()
    assert "\n" not in str(caught.value)


def test_environment_has_the_variables_of_plain_commands(platform: Platform) -> None:
    url = make_url("postgresql+psycopg2://me:s%40crt@db.example/postgres")
    variables = server.environment(platform.locations, url)
    assert variables == {
        "DAGSTER_HOME": str(platform.locations.project),
        "STOCK_ASSETS_PROJECT": str(platform.locations.project),
        "STOCK_ASSETS_HOME": str(platform.locations.home),
        "STOCK_ASSETS_ARRAYS_URL": platform.locations.arrays_url,
        "STOCK_ASSETS_COMPUTE_LOGS": str(platform.locations.home / "compute_logs"),
        "STOCK_ASSETS_STORE_URL": "postgresql+psycopg2://me:s%40crt@db.example/stock_assets",
        "STOCK_ASSETS_DAGSTER_URL": "postgresql+psycopg2://me:s%40crt@db.example/dagster",
        "STOCK_ASSETS_OPTUNA_URL": "postgresql+psycopg2://me:s%40crt@db.example/optuna",
        "MLFLOW_TRACKING_URI": "postgresql+psycopg2://me:s%40crt@db.example/mlflow",
    }
    assert platform.variables.keys() == variables.keys()
