"""Opening an installation: the data folder, .env, ports, and the environment of services."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from dotenv import dotenv_values
from sqlalchemy.engine import make_url

from stock_assets.cli import platform as opening
from stock_assets.cli.platform import Platform, open_platform, require_free_port, write_env_file
from stock_assets.cli.services import INTERRUPTS, Ports, _answers, _services
from stock_assets.cli.signals import recorded_signals
from stock_assets.core.errors import StockAssetsError
from stock_assets_tests.conftest import write_project


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A separate project in which nothing was started."""
    project = write_project(tmp_path / "project")
    monkeypatch.setenv("STOCK_ASSETS_PROJECT", str(project))
    monkeypatch.setenv("STOCK_ASSETS_HOME", str(project / "home"))
    return project


def test_an_unwritable_data_folder_is_named_in_one_line(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = elsewhere / "params.yaml" / "home"
    monkeypatch.setenv("STOCK_ASSETS_HOME", str(home))
    with pytest.raises(StockAssetsError, match=r"cannot be written: .*STOCK_ASSETS_HOME") as caught:
        open_platform()
    assert str(home) in caught.value.problem
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["dagster.yaml", "workspace.yaml"])
def test_a_project_file_that_is_not_yaml_is_named_in_one_line(elsewhere: Path, name: str) -> None:
    (elsewhere / name).write_text("storage: [\n  x: {")
    with pytest.raises(StockAssetsError, match=rf"{name} is not valid YAML: .*line 2") as caught:
        open_platform()
    assert "\n" not in str(caught.value)


def test_the_environment_file_is_private_and_keeps_other_lines(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("# a note\nAPI_KEY=1\nexport DAGSTER_HOME=/old\nSTOCK_ASSETS_HOME=/old")
    file.chmod(0o644)
    url = "postgresql+psycopg2://me:p%40@db:5432/x?host=/tmp"
    ours = {"DAGSTER_HOME": "/new", "STOCK_ASSETS_HOME": "/a #folder's \\ name", "URL": url}
    write_env_file(file, ours)
    assert dotenv_values(file) == {"API_KEY": "1", **ours}
    assert file.read_text().startswith("# a note\n")
    assert "\nDAGSTER_HOME=/new\n" in file.read_text()
    assert f"\nURL={url}\n" in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [".env"]


def test_a_failed_write_leaves_the_environment_file_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("DAGSTER_HOME=/old\n")
    with pytest.raises(UnicodeEncodeError):
        write_env_file(file, {"DAGSTER_HOME": "/new", "URL": "\udcff"})
    assert file.read_text() == "DAGSTER_HOME=/old\n"
    assert [path.name for path in tmp_path.iterdir()] == [".env"]


class _Refusing(socket.socket):
    def bind(self, address: object) -> None:
        raise PermissionError


def test_a_privileged_port_is_not_called_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening.socket, "socket", _Refusing)
    with pytest.raises(StockAssetsError, match=r"port 80 .* privileged .*1024 .*--dagster-port"):
        require_free_port("127.0.0.1", 80, "--dagster-port")


def test_loopback_addresses_bypass_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as proxy:
        proxy.bind(("127.0.0.1", 0))
        proxy.listen()
        proxy.settimeout(0)
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.delenv("no_proxy", raising=False)
        assert not _answers("http://127.0.0.1:1")
        with pytest.raises(BlockingIOError):
            proxy.accept()


def test_no_service_has_a_password_on_its_command_line(platform: Platform, tmp_path: Path) -> None:
    store = "postgresql+psycopg2://me:secret@db.example/mlflow"
    here = replace(
        platform,
        locations=platform.locations.model_copy(update={"home": tmp_path}),
        variables={"MLFLOW_TRACKING_URI": store},
    )
    reader = make_url("postgresql+psycopg2://stock_assets_reader:secret@db.example/stock_assets")
    services = _services(here, Ports(8000, 3000, 5000), reader)
    assert not any("secret" in word for service in services for word in service.command)
    (given,) = (service.variables for service in services if service.name == "MLflow")
    assert given["MLFLOW_BACKEND_STORE_URI"] == store
    assert "MLFLOW_BACKEND_STORE_URI" not in os.environ


@contextmanager
def handled_by(number: signal.Signals, handler: signal.Handlers) -> Iterator[None]:
    """The handlers that this process was started with, such as those of nohup."""
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", INTERRUPTS)
def test_a_signal_is_recorded_while_services_run(number: signal.Signals) -> None:
    with handled_by(number, signal.SIG_DFL):
        with recorded_signals(*INTERRUPTS) as received:
            os.kill(os.getpid(), number)
            assert received == [number]
        assert signal.getsignal(number) == signal.SIG_DFL


def test_sighup_stays_ignored_under_nohup() -> None:
    with handled_by(signal.SIGHUP, signal.SIG_IGN), recorded_signals(*INTERRUPTS) as received:
        os.kill(os.getpid(), signal.SIGHUP)
        assert received == []
