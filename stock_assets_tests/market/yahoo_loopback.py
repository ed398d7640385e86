"""A small Yahoo on 127.0.0.1, for the real yfinance.

It keeps bars and actions as they traded and shows them as Yahoo would at a settable moment: divided
by every split up to that moment, prices as 32-bit floats and dividends with six decimals, with a
partial bar while a session is open. It is an HTTPS proxy: a process that sends requests
through it and trusts its certificate (``environment``) reaches it under Yahoo's own host names. No
code of the library or of the project changes.

What goes wrong is scripted per ticker, with :mod:`stock_assets_tests.market.yahoo_faults`:
``yahoo.answers("IBM", limited, limited)`` turns the next two answers for IBM into HTTP 429,
``yahoo.always_answers(EVERYONE, down)`` all answers for all.
"""

from __future__ import annotations

import json
import ssl
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pandas as pd
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from stock_assets.market.corporate_actions import DIVIDEND, SPLIT, actions_of
from stock_assets_tests.market.yahoo_faults import (
    NEW_YORK,
    OPENING,
    Fault,
    Reply,
    delisted,
    explained,
    opening_of,
    sound,
)

CLOSING = time(16)
PRICES = ("open", "high", "low", "close")
COOKIE = "A3=loopback; Max-Age=86400; Domain=.yahoo.com; Path=/; Secure"
HOSTS = ("*.yahoo.com", "*.finance.yahoo.com")
EVERYONE = "*"


@dataclass
class Yahoo:
    """The data of the server and its log of requests.

    Attributes
    ----------
    now : datetime
        The moment at which Yahoo is seen.
    log : list of str
        Host and path of every request, in order.
    environment : dict of str to str
        Variables that send a process's requests to the server.
    """

    now: datetime
    log: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    _traded: dict[str, pd.DataFrame] = field(default_factory=dict)
    _actions: dict[str, pd.DataFrame] = field(default_factory=dict)
    _script: dict[str, deque[Fault]] = field(default_factory=dict)
    _always: dict[str, Fault] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closing: threading.Event = field(default_factory=threading.Event)

    def list_anew(self, bars: pd.DataFrame, actions: pd.DataFrame | None = None) -> None:
        """Know these bars and actions as traded, and no others; forget faults and log.

        Without actions it knows those that the bars carry.
        """
        known = actions_of(bars) if actions is None else actions
        self._traded = {str(ticker): rows for ticker, rows in bars.groupby("ticker")}
        self._actions = {str(ticker): rows for ticker, rows in known.groupby("ticker")}
        self.recover()

    def recover(self) -> None:
        """Forget faults and log."""
        self._script.clear()
        self._always.clear()
        self.log.clear()

    def answers(self, ticker: str, *faults: Fault) -> None:
        """Answer the next requests for a ticker or ``EVERYONE`` with faults; then soundly."""
        self._script[ticker] = deque(faults)

    def always_answers(self, ticker: str, fault: Fault) -> None:
        """Answer every request for a ticker, or for ``EVERYONE``, with a fault."""
        self._always[ticker] = fault

    @property
    def charts(self) -> list[str]:
        """The requested tickers in order."""
        return [path.rsplit("/", 1)[-1] for path in self.log if "/chart/" in path]

    @contextmanager
    def reached(self) -> Iterator[None]:
        """Send this process's requests to the server; yfinance is set up anew for it."""
        from stock_assets.market.sources.yahoo_chart import connection

        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            connection.cache_clear()
            yield
        connection.cache_clear()

    def reply(self, host: str, path: str, query: dict[str, str]) -> Reply:
        """Answer one GET request, with the faults that are due."""
        ticker = path.rsplit("/", 1)[-1]
        with self._lock:
            self.log.append(host + path)
            fault = self._due(ticker, EVERYONE if "/chart/" in path else ticker)
        reply = fault(self._sound(path, query))
        if reply.late:
            self._closing.wait()
        return reply

    def _due(self, *names: str) -> Fault:
        scripted = next((script for name in names if (script := self._script.get(name))), None)
        lasting = (fault for name in names if (fault := self._always.get(name)))
        return scripted.popleft() if scripted else next(lasting, sound)

    def _sound(self, path: str, query: dict[str, str]) -> Reply:
        if path == "/v1/test/getcrumb":
            return Reply(200, "crumb")
        if "/chart/" not in path:
            return Reply(404, "")  # as fc.yahoo.com does, when it hands out the cookie
        ticker = path.rsplit("/", 1)[-1]
        start = datetime.fromtimestamp(int(query.get("period1", 0)), NEW_YORK)
        if start > self.now:
            return Reply(400, explained("Bad Request", "start date cannot be after end date"))
        traded = self._traded.get(ticker)
        if traded is None or traded["session"].iloc[0] > self._opened():
            return delisted(Reply(200, ""))
        result = self._chart(ticker, pd.Timestamp(start.date()))
        return Reply(200, json.dumps({"chart": {"result": [result], "error": None}}))

    def shown(self, ticker: str, start: pd.Timestamp = pd.Timestamp.min) -> pd.DataFrame:
        """Return a ticker's bars as Yahoo shows them now: split-adjusted, the last one partial."""
        bars = self._traded[ticker]
        bars = bars[bars["session"].between(start, self._opened())].reset_index(drop=True)
        later = self._later_ratio(ticker, bars["session"])
        single = (bars[list(PRICES)].div(later, axis="index")).astype(np.float32)
        bars = bars.assign(**single.astype(float), volume=(bars["volume"] * later).round())
        today = self.now.astimezone(NEW_YORK)
        partial = bars["session"].eq(pd.Timestamp(today.date())) & (today.time() < CLOSING)
        bars.loc[partial, "close"] = bars["open"]
        bars.loc[partial, "volume"] //= 2
        return bars

    def _opened(self) -> pd.Timestamp:
        """Return the newest day on which the exchange could open by now."""
        today = self.now.astimezone(NEW_YORK)
        day = today.date() - timedelta(days=int(today.time() < OPENING))
        return pd.Timestamp(day)

    def _known(self, ticker: str, kind: str) -> pd.DataFrame:
        actions = self._actions.get(ticker)
        if actions is None:
            return pd.DataFrame({"ex_date": pd.Series(dtype="datetime64[ns]"), "value": []})
        return actions[(actions["kind"] == kind) & (actions["ex_date"] <= self._opened())]

    def _later_ratio(self, ticker: str, days: pd.Series) -> pd.Series:
        ratio = pd.Series(1.0, index=days.index)
        for _, split in self._known(ticker, SPLIT).iterrows():
            ratio[days < split["ex_date"]] *= split["value"]
        return ratio

    def _chart(self, ticker: str, start: pd.Timestamp) -> dict[str, Any]:
        """Write bars and events in the form of Yahoo's chart endpoint."""
        shown = self.shown(ticker, start)
        stamps = [self._stamp(session.date()) for session in shown["session"]]
        quotes = {name: shown[name].tolist() for name in (*PRICES, "volume")}
        return {
            "meta": {
                "currency": "USD",
                "symbol": ticker,
                "instrumentType": "EQUITY",
                "exchangeTimezoneName": "America/New_York",
                "exchangeName": "NMS",
                "regularMarketPrice": quotes["close"][-1] if stamps else None,
                "priceHint": 2,
                "dataGranularity": "1d",
                "validRanges": ["1d", "max"],
            },
            "timestamp": stamps,
            "events": self._events(ticker, start),
            "indicators": {
                "quote": [quotes if stamps else {}],
                "adjclose": [{"adjclose": list(quotes["close"])}],
            },
        }

    def _events(self, ticker: str, start: pd.Timestamp) -> dict[str, dict[str, dict[str, float]]]:
        events: dict[str, dict[str, dict[str, float]]] = {"dividends": {}, "splits": {}}
        paid, splits = self._known(ticker, DIVIDEND), self._known(ticker, SPLIT)
        amounts = (paid["value"] / self._later_ratio(ticker, paid["ex_date"])).round(6)
        for day, amount in zip(paid["ex_date"], amounts, strict=True):
            at = opening_of(day.date())
            events["dividends"][str(at)] = {"amount": amount, "date": at}
        for day, ratio in zip(splits["ex_date"], splits["value"], strict=True):
            at = opening_of(day.date())
            events["splits"][str(at)] = {"date": at, "numerator": ratio, "denominator": 1.0}
        since = opening_of(start.date())
        return {
            kind: {at: event for at, event in found.items() if int(at) >= since}
            for kind, found in events.items()
        }

    def _stamp(self, session: date) -> int:
        """Return a bar's time: the opening of its session, or now while it is open."""
        opening = datetime.combine(session, OPENING, NEW_YORK)
        closing = datetime.combine(session, CLOSING, NEW_YORK)
        return int((self.now if opening <= self.now < closing else opening).timestamp())


@contextmanager
def serve(
    bars: pd.DataFrame, now: datetime, folder: Path, actions: pd.DataFrame | None = None
) -> Iterator[Yahoo]:
    """Run the server; ``environment`` of its result sends a process's requests to it.

    Parameters
    ----------
    bars : DataFrame
        Bars as traded.
    now : datetime
        The moment at which Yahoo is seen, until it is set to another.
    folder : Path
        Where its certificate is written.
    actions : DataFrame, optional
        Actions as traded, where they are not those that the bars carry.
    """
    yahoo = Yahoo(now)
    yahoo.list_anew(bars, actions)
    certificate = write_certificate(folder / "yahoo.pem")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(yahoo, tls))
    server.daemon_threads = True
    yahoo.environment = {
        "https_proxy": f"http://127.0.0.1:{server.server_address[1]}",
        "CURL_CA_BUNDLE": str(certificate),
        "REQUESTS_CA_BUNDLE": str(certificate),
    }
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield yahoo
    finally:
        yahoo._closing.set()
        server.shutdown()
        server.server_close()


def handler(yahoo: Yahoo, tls: ssl.SSLContext) -> type[BaseHTTPRequestHandler]:
    """Make the request handler: it ends the TLS of each tunnel itself and answers inside it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        host = ""

        def do_CONNECT(self) -> None:
            self.host = self.path.split(":")[0]
            self.send_response(200, "Connection established")
            self.end_headers()
            self.connection = tls.wrap_socket(self.connection, server_side=True)
            self.rfile = self.connection.makefile("rb")
            self.wfile = self.connection.makefile("wb", buffering=0)
            self.close_connection = False
            while not self.close_connection:
                self.handle_one_request()

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            reply = yahoo.reply(self.host, url.path, dict(parse_qsl(url.query)))
            if reply.body is None or reply.late:
                self.close_connection = True
                return
            body = reply.body.encode()
            self.send_response(reply.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            if self.host == "fc.yahoo.com":
                self.send_header("Set-Cookie", COOKIE)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Keep the terminal quiet: ``Yahoo.log`` has the requests."""

    return Handler


def write_certificate(file: Path) -> Path:
    """Write a key and a certificate for Yahoo's hosts that is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback Yahoo")])
    today = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in HOSTS]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return file
