"""Recorded audit text in, JSON lines and lines for people out."""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from auditns_connector._native import lib
from auditns_connector.attribution.states import PointStates
from auditns_connector.audittext.scanner import InsertionPoints, TextStream
from auditns_connector.daemon import terminal
from auditns_connector.emit import json_objects as jsonout
from auditns_connector.emit.fields import NUMERIC, UNTRUSTED
from auditns_connector.emit.render import Renderer
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.model.process import State
from auditns_connector.vocabulary.audit_text import LINE_LATE

from .enriching import DATA

Check = Callable[[str, bytes], None]


class Reference(Renderer):
    """A renderer that takes every even pid for one of container "web", every third for unknown."""

    def __init__(self, colour: bool) -> None:
        self.correlator: Any = SimpleNamespace(generation=0, alone=lambda points: [], model=Model())
        #: by number of a point: what its clone returned
        self.made: dict[int, int] = {}
        super().__init__(self.correlator, colour)

    def take(self, points: InsertionPoints) -> None:
        self.correlator.states = PointStates(points.n)
        for i, pid in enumerate(points.pid[: points.n]):
            self.correlator.states.put(i, State(i, None, None, origin=str(pid)))

    def _made(self, points: InsertionPoints, rows: Any = None) -> dict[int, int]:
        return {i: child for i, child in self.made.items() if i < points.n}

    def _who_of(self, state: State) -> jsonout.Who:
        pid = int(state.origin or 1)
        if pid < 0 or pid % 3 == 0:
            return jsonout.Who("?")
        if pid % 2:
            return jsonout.HOST
        web = {"runtime": "docker", "id": "ab" * 32, "name": "web", "origin": "observed"}
        return jsonout.Who(f"{pid},^7", web, {"net": {"serial": "a1", "dev": 4, "ino": 4026532142}, "mnt": None})


def render(text: bytes, name: str, colour: bool = False, pieces: int = 1 << 20) -> bytes:
    """All of ``text``, given in pieces of that many bytes; JSON is made in C and held against the reference."""
    stream, renderer, out = TextStream(whole=True), Reference(colour), b""
    for at in range(0, len(text), pieces):
        out += one(renderer, stream.push(text[at : at + pieces]), name)
    return out + one(renderer, stream.flush(eof=True), name)


def one(renderer: Reference, points: InsertionPoints, name: str) -> bytes:
    """What an answer gives, in C as in Python, filtered too."""
    renderer.take(points)
    out = renderer.render(name, points)
    assert out == renderer.reference(name, points)
    events = [number for number in points.l_event[: points.line_n] if number < LINE_LATE]
    if events and name == "json":
        first = min(events)
        keep = bytes(number % 3 > 0 for number in range(first, max(events) + 1))
        renderer.made = {0: 4711, 1: 0}
        assert renderer.render(name, points, keep, first) == renderer.reference(name, points, keep, first)
        renderer.made = {}
    return out


@pytest.mark.parametrize("name", ["raw", "enriched", "stream"])
def test_json(golden: Check, name: str) -> None:
    out = render((DATA / f"{name}.log").read_bytes(), "json")
    for line in out.splitlines():
        assert json.loads(line)["v"] == 1
    golden(f"{name}.json", out)


def test_json_has_every_event_once_with_all_its_records() -> None:
    text = (DATA / "stream.log").read_bytes()
    events = [json.loads(line) for line in render(text, "json").splitlines()]
    assert len({event["serial"] for event in events}) == len(events)
    records = [record["type"] for event in events for record in event["records"]]
    expected = [line.split()[0].removeprefix(b"type=").decode() for line in text.splitlines()]
    assert sorted(records) == sorted(kind for kind in expected if kind != "EOE")


def test_json_of_more_names_than_are_kept() -> None:
    def line(serial: int, body: str) -> bytes:
        return f"type=SYSCALL msg=audit(1.500:{serial}): {body}\n".encode()

    plain = "pid=7 comm=4142 " + " ".join(f"{'n' * size}=1" for size in range(1, 30))
    many = " ".join(f"name{i}=x" for i in range(1000))
    text = line(1, plain) + line(2, many) + line(3, many + " " + many) + line(4, plain)
    text += b"".join(line(5 + i, f"{plain} pid{i}={i} \x1dPID=7 NEW{i}=8") for i in range(2000))
    for event in map(json.loads, render(text, "json").splitlines()):
        [record] = event["records"]
        assert event["serial"] in (2, 3) or (record["pid"], record["comm"]) == (7, "AB")


def test_json_of_any_byte_at_any_place() -> None:
    text = b""
    for byte in set(range(256)) - set(b"\n"):
        for at in range(18):
            word, number = _with(b"0123456789ABCDEF40", at, byte), _with(b"987654321012345", at % 15, byte)
            text += b'type=CWD msg=audit(1.500:%d): comm=%b a0=%b cwd="%b" pid=%b ' % (byte, word, word, word, number)
            text += b"%b=1 \n" % _with(b"any-name-of-bytes", at % 17, byte)
    events = map(json.loads, render(text, "json").splitlines())
    assert [len(event["records"]) for event in events] == [18] * 255


def _with(text: bytes, at: int, byte: int) -> bytes:
    return text[:at] + bytes((byte,)) + text[at + 1 :]


def test_json_of_names_that_are_taken() -> None:
    bodies = ("type=1", "nstype=1 type=2", "enriched=1", "enriched=1 \x1dA=2", "a=1 \x1da=2 enriched=3 enriched=4")
    text = b"".join(f"type=NS_INIT msg=audit(1.500:{i}): {body}\n".encode() for i, body in enumerate(bodies))
    assert [json.loads(line)["records"][0] for line in render(text, "json").splitlines()] == [
        {"type": "NS_INIT", "nstype": "1"},
        {"type": "NS_INIT", "nstype": ["1", "2"]},
        {"type": "NS_INIT", "enriched": "1"},
        {"type": "NS_INIT", "enriched": {"A": "2"}},
        {"type": "NS_INIT", "a": "1", "enriched": {"a": "2", "enriched": ["3", "4"]}},
    ]


def test_names_with_a_kind_are_not_too_long_for_the_c() -> None:
    assert max(map(len, NUMERIC | UNTRUSTED)) <= lib.AUDITNS_JSON_NAME


def test_json_is_the_same_in_any_pieces() -> None:
    text = (DATA / "stream.log").read_bytes()
    assert render(text, "json", pieces=100) == render(text, "json")


def test_pretty(golden: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    out = render((DATA / "raw.log").read_bytes(), "pretty")
    assert b"\x1b" not in out
    golden("raw.pretty", out)


def test_colours_only_when_asked() -> None:
    text = (DATA / "raw.log").read_bytes()
    assert b"\x1b[" in render(text, "pretty", colour=True)


def test_a_terminal_is_not_commanded_by_a_file_name() -> None:
    assert terminal.clean("a\x1b[2Jb\n\u202e\udcff") == "a\\x1b[2Jb\\n\\u202e\\udcff"
    assert len(terminal.clean("x" * 1000)) == 160
