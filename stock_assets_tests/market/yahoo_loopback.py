"""A small Yahoo on 127.0.0.1, for the real yfinance.

It keeps bars as they traded and shows them as Yahoo would at a settable moment: divided by every
split up to that moment, with a partial bar while a session is open. It is an HTTPS proxy: whoever
sends requests through it and trusts its certificate (``environment``) talks to it under Yahoo's own
host names, so that no code of the library or of the project changes.
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo

import pandas as pd
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NEW_YORK = ZoneInfo("America/New_York")
QUOTES = ("open", "high", "low", "close", "volume")
COOKIE = "A3=loopback; Max-Age=86400; Domain=.yahoo.com; Path=/; Secure"
HOSTS = ("*.yahoo.com", "*.finance.yahoo.com")


@dataclass
class Yahoo:
    """What the server knows and was asked.

    Attributes
    ----------
    bars : DataFrame
        Bars as traded.
    now : datetime
        The moment at which Yahoo is seen.
    faults : dict of str to (int, str)
        Ticker to the status and body that answer every request for it.
    log : list of str
        Host and path of every request, in order.
    environment : dict of str to str
        Variables that send a process's requests to the server.
    """

    bars: pd.DataFrame
    now: datetime
    faults: dict[str, tuple[int, str]] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)

    def answer(self, host: str, path: str, query: dict[str, str]) -> tuple[int, str]:
        """Answer one GET request with a status and a body."""
        self.log.append(host + path)
        if path == "/v1/test/getcrumb":
            return 200, "crumb"
        if not path.startswith("/v8/finance/chart/"):
            return 404, ""  # as fc.yahoo.com does, when it hands out the cookie
        ticker = path.rsplit("/", 1)[-1]
        if ticker in self.faults:
            return self.faults[ticker]
        shown = self.shown(ticker)
        if shown.empty:
            return 404, error("Not Found", "No data found, symbol may be delisted")
        if "period1" in query:
            start = datetime.fromtimestamp(int(query["period1"]), NEW_YORK)
            if start > self.now:
                return 400, error("Bad Request", "start date cannot be after end date")
            shown = shown[shown["session"] >= pd.Timestamp(start.date())]
        return 200, json.dumps({"chart": {"result": [self.chart(ticker, shown)], "error": None}})

    def shown(self, ticker: str) -> pd.DataFrame:
        """Give one ticker's bars as Yahoo shows them now: split-adjusted, the last one partial."""
        today = self.now.astimezone(NEW_YORK)
        opened = today.date() if today.time() >= time(9, 30) else today.date() - timedelta(days=1)
        bars = self.bars[self.bars["ticker"] == ticker]
        bars = bars[bars["session"] <= pd.Timestamp(opened)].reset_index(drop=True)
        splits = bars.loc[bars["stock_splits"] > 0, ["session", "stock_splits"]]
        for ex_date, ratio in splits.itertuples(index=False):
            before = bars["session"] < ex_date
            bars.loc[before, ["open", "high", "low", "close", "dividends"]] /= ratio
            bars.loc[before, "volume"] *= ratio
        in_session = bars["session"].eq(pd.Timestamp(today.date())) & (today.time() < time(16))
        bars.loc[in_session, "close"] = bars["open"]
        bars.loc[in_session, "volume"] //= 2
        return bars

    def chart(self, ticker: str, shown: pd.DataFrame) -> dict[str, Any]:
        """Write bars in the form of Yahoo's chart endpoint."""
        stamps = [self.stamp(session.date()) for session in shown["session"]]
        events: dict[str, dict[str, Any]] = {"dividends": {}, "splits": {}}
        for at, cash, ratio in zip(stamps, shown["dividends"], shown["stock_splits"], strict=True):
            if cash > 0:
                events["dividends"][str(at)] = {"amount": cash, "date": at}
            if ratio > 0:
                events["splits"][str(at)] = {"date": at, "numerator": ratio, "denominator": 1.0}
        quotes = {name: shown[name].tolist() for name in QUOTES}
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
            "events": events,
            "indicators": {
                "quote": [quotes if stamps else {}],
                "adjclose": [{"adjclose": quotes["close"]}],
            },
        }

    def stamp(self, session: date) -> int:
        """Give a bar's time: the opening of its session, or now while it is open."""
        opening = datetime.combine(session, time(9, 30), NEW_YORK)
        closing = datetime.combine(session, time(16), NEW_YORK)
        return int((self.now if opening <= self.now < closing else opening).timestamp())


def error(code: str, description: str) -> str:
    """Write an error in the form of Yahoo's chart endpoint."""
    return json.dumps(
        {"chart": {"result": None, "error": {"code": code, "description": description}}}
    )


@contextmanager
def serve(bars: pd.DataFrame, now: datetime, folder: Path) -> Iterator[Yahoo]:
    """Run the server; ``environment`` of what it gives sends a process's requests to it.

    Parameters
    ----------
    bars : DataFrame
        Bars as traded.
    now : datetime
        The moment at which Yahoo is seen, until it is set to another.
    folder : Path
        Where its certificate is written.
    """
    yahoo = Yahoo(bars, now)
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
        server.shutdown()
        server.server_close()


def handler(yahoo: Yahoo, tls: ssl.SSLContext) -> type[BaseHTTPRequestHandler]:
    """Make the request handler: it ends the TLS of each tunnel itself and answers inside it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
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
            status, text = yahoo.answer(self.host, url.path, dict(parse_qsl(url.query)))
            body = text.encode()
            self.send_response(status)
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
