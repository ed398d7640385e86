"""``stock-assets up``: dashboard, Dagster and MLflow in the foreground."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from rich.console import Console
from sqlalchemy.engine import URL

from stock_assets.cli.orphaned_runs import end_orphaned_runs
from stock_assets.cli.platform import Platform, open_platform, require_free_port
from stock_assets.cli.serve import find_reader
from stock_assets.cli.signals import recorded_signals
from stock_assets.core.errors import StockAssetsError
from stock_assets.service.settings import VARIABLES
from stock_assets.storage.reader import READER_VARIABLE

HOST = "127.0.0.1"
READY_SECONDS = 120
STOP_SECONDS = 20
INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)

# A proxy that the environment names cannot reach a loopback address of this machine.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Service:
    """A program, its address, and the log file of its output.

    `probe` is the address that answers once it is ready. Passwords are in `variables`: every user
    of the machine can read the command line.
    """

    name: str
    command: Sequence[str]
    variables: Mapping[str, str]
    address: str
    probe: str
    log: Path


@dataclass(frozen=True)
class Ports:
    """Port of each user interface."""

    dashboard: int
    dagster: int
    mlflow: int


def run_services(console: Console, ports: Ports) -> None:
    """Start database, dashboard, Dagster and MLflow, print their addresses, and wait for Ctrl-C.

    Raises
    ------
    StockAssetsError
        A port is in use or given twice, the database has no reader, or a service ended; all
        services are stopped first.
    """
    _require_ports(ports)
    platform = open_platform()
    reader = find_reader()
    end_orphaned_runs(platform)
    services = _services(platform, ports, reader)
    with recorded_signals(*INTERRUPTS) as interrupted, _running(services, platform) as processes:
        _wait_until_ready(services, processes, interrupted)
        if not interrupted:
            for service in services:
                console.print(f"  {service.name:<12} [link]{service.address}[/link]")
            console.print("Ctrl-C stops everything.")
        while not interrupted:
            _require_alive(services, processes)
            time.sleep(0.5)
        console.print("Stopping …")
    console.print("Stopped.")


def _require_ports(ports: Ports) -> None:
    options: dict[int, str] = {}
    for name, port in asdict(ports).items():
        option = f"--{name}-port"
        if port in options:
            raise StockAssetsError(
                f"port {port} is given twice",
                f"Choose another with {options[port]} or {option}",
            )
        options[port] = option
    for port, option in options.items():
        require_free_port(HOST, port, option)


def _services(platform: Platform, ports: Ports, reader: URL) -> list[Service]:
    programs = Path(sys.executable).parent
    logs = platform.locations.home / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    platform.locations.artifacts_folder.mkdir(parents=True, exist_ok=True)
    workspace = platform.locations.project / "workspace.yaml"
    dashboard = [programs / "stock-assets", "serve", "--host", HOST, "--port", ports.dashboard]
    links = {
        READER_VARIABLE: reader.render_as_string(hide_password=False),
        VARIABLES["dagster_ui"]: f"http://{HOST}:{ports.dagster}",
        VARIABLES["mlflow_ui"]: f"http://{HOST}:{ports.mlflow}",
    }
    dagster = [programs / "dagster", "dev", "-w", workspace, "-h", HOST, "-p", ports.dagster]
    mlflow = [
        *(programs / "mlflow", "server", "--host", HOST, "--port", ports.mlflow),
        *("--workers", 1),
        *("--artifacts-destination", platform.locations.artifacts_folder.as_uri()),
    ]
    store = {"MLFLOW_BACKEND_STORE_URI": platform.variables["MLFLOW_TRACKING_URI"]}
    return [
        Service(
            name,
            [str(word) for word in command],
            variables,
            f"http://{HOST}:{port}",
            f"http://{HOST}:{port}{probe}",
            logs / f"{name.lower()}.log",
        )
        for name, command, variables, port, probe in (
            ("Dashboard", dashboard, links, ports.dashboard, "/healthz"),
            ("Dagster", dagster, {}, ports.dagster, ""),
            ("MLflow", mlflow, store, ports.mlflow, ""),
        )
    ]


@contextmanager
def _running(
    services: Sequence[Service], platform: Platform
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run services, each in its own process group, and stop all groups at the end."""
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for service in services:
            with service.log.open("wb") as log:
                processes.append(
                    subprocess.Popen(  # noqa: S603 - our own programs
                        service.command,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        stdin=subprocess.DEVNULL,
                        cwd=platform.locations.project,
                        env=os.environ | service.variables,
                        start_new_session=True,
                    )
                )
        yield processes
    finally:
        _stop(processes)


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Interrupt all groups, wait, and kill the rest, also what has left its group."""
    started = [child for process in processes for child in _descendants(process.pid)]
    _signal_groups(processes, signal.SIGINT)
    deadline = time.monotonic() + STOP_SECONDS
    for process in processes:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    _signal_groups(processes, signal.SIGKILL)
    for child in started:
        with suppress(psutil.NoSuchProcess):
            child.kill()


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _signal_groups(processes: Sequence[subprocess.Popen[bytes]], number: int) -> None:
    for process in processes:
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            continue  # the whole group has ended


def _wait_until_ready(
    services: Sequence[Service],
    processes: Sequence[subprocess.Popen[bytes]],
    interrupted: Sequence[int],
) -> None:
    deadline = time.monotonic() + READY_SECONDS
    waiting = list(services)
    while waiting and not interrupted:
        _require_alive(services, processes)
        if time.monotonic() > deadline:
            raise StockAssetsError(
                f"{waiting[0].name} did not answer within {READY_SECONDS} s",
                f"Read {waiting[0].log}",
            )
        waiting = [service for service in waiting if not _answers(service.probe)]
        time.sleep(0.25)


def _answers(address: str) -> bool:
    try:
        with _DIRECT.open(address, timeout=2):
            return True
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False


def _require_alive(
    services: Sequence[Service], processes: Sequence[subprocess.Popen[bytes]]
) -> None:
    for service, process in zip(services, processes, strict=True):
        if process.poll() is not None:
            raise StockAssetsError(
                f"{service.name} ended with status {process.returncode}", f"Read {service.log}"
            )
