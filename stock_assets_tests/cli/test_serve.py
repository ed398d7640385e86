"""`stock-assets serve`: where it listens, what it refuses, and that it ends well."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from stock_assets.storage.reader import READER
from stock_assets_tests.cli.conftest import Installation, free_port, is_free, wait_until

pytestmark = pytest.mark.slow


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


def refused(installation: Installation, *words: str, **variables: str) -> str:
    """Run ``serve``, which must end with a complaint of one line."""
    finished = installation.run("serve", *words, **variables)
    assert finished.returncode == 1
    assert finished.stdout == ""
    (line,) = finished.stderr.splitlines()
    return line.removeprefix("error: ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_answers_until_it_is_interrupted(new_home: Installation, number: signal.Signals):
    """On an empty home it makes the database, tells the address, and takes all down again."""
    with begun(new_home) as (process, port):
        assert f"http://127.0.0.1:{port}" in new_home.output
        process.send_signal(number)
        assert process.wait(60) == 0
        wait_until(lambda: not new_home.processes(), "a process is left")
        assert is_free(port)
        assert "Traceback" not in new_home.output


def test_beyond_this_machine_it_needs_a_key(new_home: Installation):
    line = refused(new_home, "--host", "0.0.0.0")

    assert line == (
        "0.0.0.0 can be reached from other machines, and no key is asked for. "
        "Set STOCK_ASSETS_API_KEY, or say --allow-anyone."
    )
    assert not new_home.home.exists(), "nothing was begun"


def test_a_short_key_is_refused_and_not_shown(new_home: Installation):
    line = refused(new_home, "--host", "0.0.0.0", STOCK_ASSETS_API_KEY="hunter2")

    assert line.startswith("STOCK_ASSETS_API_KEY: a key needs 16 characters or more. ")
    assert "hunter2" not in line


def test_anyone_may_ask_if_that_is_said(demoed: Installation):
    with begun(demoed, "--host", "0.0.0.0", "--allow-anyone") as (_, port):
        request = urllib.request.Request(f"http://127.0.0.1:{port}/tickers")
        request.add_header("Host", "forecasts.example")
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 200


def test_a_port_in_use(new_home: Installation):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        assert refused(new_home, "--port", str(port)) == (
            f"port {port} on 127.0.0.1 is in use. "
            "Stop the program that listens there, or choose another port with --port."
        )


def test_an_external_database_needs_a_reader_and_the_sql_is_told(new_home: Installation):
    address = "postgresql://me:secret@db.example/stock_assets"
    line = refused(new_home, STOCK_ASSETS_DATABASE_URL=address)

    problem, _, remedy = line.partition(". ")
    assert problem == "the database is external, and STOCK_ASSETS_READER_URL is not set"
    assert f"CREATE ROLE {READER} LOGIN PASSWORD 'PASSWORD'; " in remedy
    assert f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {READER}; " in remedy
    assert 'FOR ROLE "me"' in remedy
    assert f"STOCK_ASSETS_READER_URL=postgresql://{READER}:PASSWORD@db.example/stock_assets" in line
    assert "secret" not in line


def test_a_role_that_can_write_is_refused(demoed: Installation):
    owner = demoed.address("stock_assets").render_as_string(hide_password=False)
    line = refused(demoed, STOCK_ASSETS_READER_URL=owner)

    assert line.startswith("postgres may write to the database (")
    assert line.endswith("Name a role in STOCK_ASSETS_READER_URL that can only read.")


def test_a_database_that_does_not_answer(new_home: Installation):
    line = refused(new_home, STOCK_ASSETS_READER_URL=f"postgresql://{READER}@127.0.0.1:1/x")

    assert line.startswith(f"no database at postgresql+psycopg2://{READER}@127.0.0.1:1/x: ")
    assert line.endswith("Start it, or correct STOCK_ASSETS_READER_URL.")
