"""Answers are made once per state of the data, and a client that has one gets no second copy."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

import httpx
import pytest
from fastapi import Request
from pydantic import BaseModel
from sqlalchemy import Engine, create_engine, text

from stock_assets.service import response_cache as response_cache_module
from stock_assets.service.response_cache import DatabaseAwayError, ResponseCache


class Told(BaseModel):
    """Some answer."""

    text: str
    number: float = 1.5


class Counted:
    """Makes answers and counts them."""

    def __init__(self, text: str = "something") -> None:
        self.made, self.text = 0, text

    def __call__(self) -> Told:
        self.made += 1
        return Told(text=self.text)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Seconds that pass only when a test says so."""
    seconds = [1000.0]
    monkeypatch.setattr(response_cache_module.time, "monotonic", lambda: seconds[0])
    return seconds


def asking(path: str = "/a", query: str = "", **headers: str) -> Request:
    told = [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]
    scope = {
        **{"type": "http", "method": "GET", "scheme": "http", "path": path},
        **{"query_string": query.encode(), "headers": told, "server": ("127.0.0.1", 80)},
    }
    return Request(scope)


@pytest.fixture
def answers(engine: Engine) -> ResponseCache:
    return ResponseCache(engine, 2**20)


def test_a_path_with_a_question_mark_is_no_query(answers: ResponseCache):
    """Else whoever asks for the one could be given the other."""
    answers.json(asking("/a", "range=1Y"), Counted("with a query"))
    answer = answers.json(asking("/a?range=1Y"), Counted("with an odd path"))
    assert b"odd path" in answer.body


SOMETHING = text(
    "INSERT INTO instruments (ticker, currency, fetched_from, source) "
    "VALUES (gen_random_uuid()::text, 'USD', '2000-01-03', 'sample')"
)


def write_something(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(SOMETHING)


def test_an_answer_is_made_once(answers: ResponseCache, clock: list[float]):
    make = Counted()
    first, second = answers.json(asking(), make), answers.json(asking(), make)
    assert make.made == 1
    assert first.body == second.body == b'{"text":"something","number":1.5}'


def test_path_and_query_tell_answers_apart(answers: ResponseCache, clock: list[float]):
    for path, query in (("/a", ""), ("/a", "x=1"), ("/a", "x=2"), ("/b", "")):
        make = Counted(f"{path}{query}")
        assert make.text.encode() in answers.json(asking(path, query), make).body


def test_it_is_made_again_within_a_second_of_a_change(
    answers: ResponseCache, engine: Engine, clock: list[float]
):
    make = Counted()
    answers.json(asking(), make)
    write_something(engine)
    clock[0] += 1
    answers.json(asking(), make)
    assert make.made == 2


def test_the_stamp_is_the_same_until_something_is_committed(engine: Engine):
    stamps = []
    for change in (False, False, True):
        if change:
            write_something(engine)
        stamps.append(ResponseCache(engine, 1).stamp().split(" 20", 1)[0])
    assert stamps[0] == stamps[1] != stamps[2]


def test_an_open_transaction_does_not_hide_its_commit(engine: Engine):
    """The stamp taken while it was open is another one than after its commit."""
    with engine.begin() as connection:
        connection.execute(SOMETHING)
        during = ResponseCache(engine, 1).stamp()
    assert ResponseCache(engine, 1).stamp() != during


def test_a_failure_is_not_kept(answers: ResponseCache, clock: list[float]):
    def fail() -> Told:
        raise LookupError

    with pytest.raises(LookupError):
        answers.json(asking(), fail)
    make = Counted()
    answers.json(asking(), make)
    assert make.made == 1


def test_who_was_not_asked_for_the_longest_is_dropped(engine: Engine, clock: list[float]):
    answers = ResponseCache(engine, 4000)  # three answers of a thousand bytes and a few
    makes = {path: Counted() for path in ("/a", "/b", "/c", "/d")}
    for path in ("/a", "/b", "/c", "/a", "/d", "/a", "/b"):
        answers.json(asking(path), makes[path])
    assert {path: make.made for path, make in makes.items()} == {"/a": 1, "/b": 2, "/c": 1, "/d": 1}
    assert answers._size <= 4000


def test_whoever_has_it_is_not_sent_it_again(answers: ResponseCache, clock: list[float]):
    etag = answers.json(asking(), Counted()).headers["etag"]
    for told in (etag, f'"other", {etag}', etag.removeprefix("W/"), "*"):
        answer = answers.json(asking(if_none_match=told), Counted())
        assert (answer.status_code, answer.body) == (304, b"")
        assert answer.headers["etag"] == etag
    assert answers.json(asking(if_none_match='"other"'), Counted()).status_code == 200


def test_the_tag_outlives_changes_elsewhere(
    answers: ResponseCache, engine: Engine, clock: list[float]
):
    etag = answers.json(asking(), Counted()).headers["etag"]
    write_something(engine)
    clock[0] += 1
    assert answers.json(asking(if_none_match=etag), Counted()).status_code == 304
    changed = answers.json(asking("/b", if_none_match=etag), Counted("another"))
    assert changed.status_code == 200


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [("gzip", True), ("br, gzip;q=0.5", True), ("*", True), ("gzip;q=0", False), ("br", False)],
)
def test_a_long_answer_is_packed_for_who_can_unpack_it(
    answers: ResponseCache, clock: list[float], accepted: str, packed: bool
):
    long = Counted("word " * 500)
    answer = answers.json(asking(accept_encoding=accepted), long)
    assert (answer.headers.get("content-encoding") == "gzip") is packed
    assert answer.headers["vary"] == "Accept-Encoding"
    plain = gzip.decompress(answer.body) if packed else answer.body
    assert plain == answers.json(asking(), long).body


def test_a_short_answer_is_never_packed(answers: ResponseCache, clock: list[float]):
    answer = answers.json(asking(accept_encoding="gzip"), Counted())
    assert "content-encoding" not in answer.headers


def test_what_is_no_number_is_null(answers: ResponseCache, clock: list[float]):
    answer = answers.json(asking(), lambda: Told(text="", number=float("nan")))
    assert answer.body == b'{"text":"","number":null}'


def test_a_database_that_is_away_is_asked_once_a_second(clock: list[float]):
    away = create_engine("postgresql+psycopg2://nobody@127.0.0.1:1/none")
    answers = ResponseCache(away, 2**20)
    with pytest.raises(Exception, match="refused"):
        answers.json(asking(), Counted())
    with pytest.raises(DatabaseAwayError):
        answers.json(asking(), Counted())
    clock[0] += 1
    with pytest.raises(Exception, match="refused"):
        answers.json(asking(), Counted())


def test_the_readers_rights_suffice_for_the_stamp(own_reader: Engine):
    assert ResponseCache(own_reader, 1).stamp()


@pytest.mark.slow
def test_the_service_tells_it_too(client: httpx.Client):
    first = client.get("/tickers")
    again = client.get("/tickers", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert first.headers["cache-control"] == "no-cache"
