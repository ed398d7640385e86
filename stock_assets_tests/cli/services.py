"""`stock-assets up` on free ports, and the requests of a browser."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from subprocess import Popen
from typing import Any

import psutil

from stock_assets_tests.cli.conftest import Installation, free_port, is_free, wait_until


@dataclass(frozen=True)
class Services:
    """A running ``stock-assets up``."""

    installation: Installation
    process: Popen[bytes]
    dashboard_port: int
    dagster_port: int
    mlflow_port: int

    @property
    def dashboard(self) -> str:
        """Address of the dashboard and the API."""
        return f"http://127.0.0.1:{self.dashboard_port}"

    @property
    def dagster(self) -> str:
        """Address of the Dagster UI."""
        return f"http://127.0.0.1:{self.dagster_port}"

    @property
    def mlflow(self) -> str:
        """Address of the MLflow UI."""
        return f"http://127.0.0.1:{self.mlflow_port}"

    def wait_until_ready(self) -> None:
        """Wait until the addresses are printed."""
        wait_until(
            lambda: "Ctrl-C stops everything." in self.installation.output,
            "the addresses of all services",
        )

    def query_dagster(self, query: str) -> Any:
        """Query the GraphQL API."""
        request = urllib.request.Request(
            f"{self.dagster}/graphql",
            json.dumps({"query": query}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)["data"]

    def stop(self, number: signal.Signals) -> None:
        """Send a signal to ``up`` alone, and require that nothing of it is left."""
        self.process.send_signal(number)
        assert self.process.wait() == 0, self.installation.output
        assert self.installation.output.rstrip().endswith("Stopped.")
        self.require_nothing_left()

    def _left(self) -> set[psutil.Process]:
        """Its processes, but not those that this process has started: ``up`` itself has ended."""
        own = psutil.Process().children(recursive=True)
        return set(self.installation.processes()) - set(own)

    def require_nothing_left(self) -> None:
        """No process of the installation, and nothing that listens on its ports."""
        wait_until(lambda: not self._left(), "the end of all processes")
        assert is_free(self.dashboard_port)
        assert is_free(self.dagster_port)
        assert is_free(self.mlflow_port)


@contextmanager
def begin_up(installation: Installation) -> Iterator[Services]:
    """Start ``up`` with the database stopped, so that it starts and stops that too."""
    installation.run("db", "stop")
    ports = [free_port() for _ in range(3)]
    names = ("dashboard", "dagster", "mlflow")
    words = [
        word
        for name, port in zip(names, ports, strict=True)
        for word in (f"--{name}-port", str(port))
    ]
    services = Services(installation, installation.begin("up", *words), *ports)
    try:
        yield services
    finally:
        with suppress(ProcessLookupError):
            os.killpg(services.process.pid, signal.SIGTERM)
        services.process.wait()
