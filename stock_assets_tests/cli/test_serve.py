"""`stock-assets serve`: where it listens, what it refuses, and that it ends well."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stock_assets.storage.reader import READER
from stock_assets_tests.cli.conftest import (
    Command,
    Installation,
    free_port,
    is_free,
    wait_until,
)
from stock_assets_tests.prepared import write_project


@contextmanager
def begun(
    installation: Installation, *words: str, probe: str = "127.0.0.1"
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run ``serve`` until it answers; gives the process and its port."""
    port = free_port()
    process = installation.begin("serve", "--port", str(port), *words)
    try:
        wait_until(lambda: process.poll() is not None or not is_free(port), "it listens")
        assert process.poll() is None, installation.output
        with urllib.request.urlopen(f"http://{probe}:{port}/healthz", timeout=30) as answer:
            assert answer.status == 200
        yield process, port
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)]
)
def test_the_service_runs_until_it_is_interrupted(bare_home: Installation, number: signal.Signals):
    """Where nothing was started before, it creates the database, and stops it at the end."""
    with begun(bare_home) as (process, port):
        assert f"http://127.0.0.1:{port}" in bare_home.output
        process.send_signal(number)
        assert process.wait() == 0
        wait_until(lambda: not bare_home.processes(), "no process is left")
        assert is_free(port)
        assert "Traceback" not in bare_home.output


def test_other_machines_may_send_requests_if_that_is_allowed(looped: Installation):
    with begun(looped, "--host", "0.0.0.0", "--allow-anyone") as (_, port):
        request = urllib.request.Request(f"http://127.0.0.1:{port}/tickers")
        request.add_header("Host", "forecasts.example")
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.status == 200


@pytest.fixture
def refused(command: Command, tmp_path: Path) -> Callable[..., str]:
    """Run ``serve`` in this process on an installation that it must not begin; its error."""
    project = write_project(tmp_path)

    def run(*words: str, **variables: str) -> str:
        home = project / "home"
        finished = command(
            "serve", *words, project=project, STOCK_ASSETS_HOME=str(home), **variables
        )
        assert finished.returncode == 1
        assert finished.stdout == ""
        assert not home.exists()
        return finished.error

    return run


@pytest.mark.timeout(300)  # one that is not refused would serve for ever
class TestARefusal:
    """Nothing is started, and the line names the variable or the option that helps."""

    def test_other_addresses_need_a_key(self, refused: Callable[..., str]):
        line = refused("--host", "0.0.0.0")

        assert "0.0.0.0" in line
        assert "STOCK_ASSETS_API_KEY" in line
        assert "--allow-anyone" in line

    def test_a_short_key_is_not_shown(self, refused: Callable[..., str]):
        line = refused("--host", "0.0.0.0", STOCK_ASSETS_API_KEY="hunter2")

        assert line.startswith("STOCK_ASSETS_API_KEY: ")
        assert "hunter2" not in line

    def test_a_port_in_use_is_named(self, refused: Callable[..., str]):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]

            line = refused("--port", str(port))

        assert f"port {port} on 127.0.0.1 is in use" in line
        assert "--port" in line

    def test_an_external_database_needs_a_reader_and_the_sql_is_shown(
        self, refused: Callable[..., str]
    ):
        address = "postgresql://me:secret@db.example/stock_assets"
        line = refused(STOCK_ASSETS_DATABASE_URL=address)

        _, _, remedy = line.partition(". ")
        assert f"CREATE ROLE {READER} LOGIN PASSWORD 'PASSWORD'; " in remedy
        assert f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {READER}; " in remedy
        assert 'FOR ROLE "me"' in remedy
        assert f"STOCK_ASSETS_READER_URL=postgresql://{READER}:PASSWORD@db.example/" in remedy
        assert "secret" not in line

    def test_a_role_that_can_write_is_named(
        self, refused: Callable[..., str], looped: Installation
    ):
        owner = looped.address("stock_assets").render_as_string(hide_password=False)
        line = refused(STOCK_ASSETS_READER_URL=owner)

        assert line.startswith("postgres may write")
        assert "STOCK_ASSETS_READER_URL" in line

    def test_a_database_that_does_not_answer_is_named(self, refused: Callable[..., str]):
        line = refused(STOCK_ASSETS_READER_URL=f"postgresql://{READER}@127.0.0.1:1/x")

        assert f"postgresql+psycopg2://{READER}@127.0.0.1:1/x" in line
        assert "STOCK_ASSETS_READER_URL" in line
