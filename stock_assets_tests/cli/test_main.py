"""Unexpected errors and interrupts: one line without a password, or none."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import click
import pytest

from stock_assets.cli import main as command_line


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """Put the signals back that the command line takes over."""
    taken = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
    before = {number: signal.getsignal(number) for number in taken}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def ended(monkeypatch: pytest.MonkeyPatch, error: BaseException, *, traceback: bool) -> object:
    """Run a command line whose command raises `error`; its status."""

    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(command_line, "app", fail)
    monkeypatch.setitem(command_line._options, "traceback", traceback)
    with pytest.raises(SystemExit) as caught:
        command_line.main()
    return caught.value.code


def test_an_unforeseen_error_is_one_line_without_a_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = ValueError("cannot reach postgresql://me:pa:ss@host/db.\nsecond line")
    assert ended(monkeypatch, error, traceback=False) == 1
    assert capsys.readouterr().err == (
        "error: ValueError: cannot reach postgresql://me:***@host/db. "
        "Add --traceback to see where.\n"
    )


def test_the_traceback_option_shows_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(monkeypatch, RuntimeError(), traceback=True) == 1
    printed = capsys.readouterr().err
    assert "Traceback" in printed
    assert printed.splitlines()[-1] == "error: RuntimeError."


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), click.Abort()])
def test_an_interrupt_ends_quietly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], interrupt: BaseException
) -> None:
    assert ended(monkeypatch, interrupt, traceback=False) == 130
    assert capsys.readouterr().err == ""
