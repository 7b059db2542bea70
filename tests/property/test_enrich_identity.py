"""The whole way of the text: what comes out, less the records of ours, is what went in, for any bytes at all."""

import random
from collections.abc import Sequence
from functools import cache

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.audittext.scanner import InsertionPoints, TextStream
from auditns_connector.emit.pretty import Pretty
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.pipeline.text_stage import JSON, NUMERIC, PRETTY, RAW, Enricher
from auditns_connector.vocabulary import record_types as rectypes
from tests.examples import examples
from tests.unit.world import HEX, World

from .audit_text import stream

NOW = 30_000_000_000
PIECES = st.lists(st.binary(max_size=80), max_size=8)

ONE = b" msg=audit(1700000000.010:1): "
TWO = b" msg=audit(1700000000.020:2): "
WORDS = [
    b"type=SYSCALL" + ONE + b'arch=c000003e syscall=59 success=yes pid=4711 comm="x"',
    b"type=PATH" + ONE + b'item=0 name="/bin/x"',
    b"type=PROCTITLE" + ONE + b"proctitle=00",
    b"type=OBJ_PID" + ONE + b"opid=59",
    b"type=EOE" + ONE,
    b"type=USER_CMD" + TWO + b"pid=100 msg='type=CONTAINER_ID" + TWO + b"contid=1'",
    b"type=CONTAINER_ID" + ONE + b"contid=1",
    b"type=UNKNOWN[1340]" + ONE + b"contid=1",
    b"node=h1 type=AVC" + ONE + b"pid=7",
    *(b"\n", b"\r", b"\x1d", b"\0", b"\xff", b"msg=audit(", b"):"),
]


@cache
def world() -> World:
    """Processes of the host, of a container and of a sandbox; some have ended, one number was used twice."""
    made = World()
    made.proc(2, 1, at=1)
    made.proc(100, 1, at=1, cg=f"/docker/{HEX}")
    made.fork(100, 7, 2)
    made.exec(7, 3)
    made.fork(2, 59, 4, pid_for_children=77)
    made.unshare(59, 5, pid=77, user=78)
    made.fork(100, 4711, 6)
    made.exit(4711, 7)
    made.fork(2, 4711, 9)
    made.exit(59, 5000)
    return made


def model() -> Model:
    """The model of that world, and nobody else's: an exec that a record was answered by is answered no more."""
    made = Model()
    made.apply(b"".join(world().log))
    return made


def enrich(pieces: Sequence[bytes], formats: Sequence[str], *, flush: int | None = None) -> dict[str, bytes]:
    """The output in each format of text that comes in these pieces; at number ``flush`` a silence lets all go."""
    correlator = Correlator(
        model(), spellings=[name == NUMERIC for name in formats], ns="all", info=True, nodes={b"h1"}
    )
    enricher = Enricher(correlator, formats, lines=Pretty(namespaces=True))
    text = TextStream(capacity=64, whole=enricher.whole)
    out = dict.fromkeys(formats, b"")

    def take(points: InsertionPoints) -> None:
        for name, block in enricher.take(points, lambda p: correlator.answer(p, NOW)).items():
            out[name] += block

    for i, piece in enumerate(pieces):
        if i == flush:
            take(text.flush())
        take(text.push(piece))
    take(text.flush(eof=True))
    return out


def is_less_ours(out: bytes, text: bytes, numeric: bool) -> bool:
    """Whether whole lines of ours can be taken out of ``out`` so that ``text`` is left.

    Our lines are told from the input's own (which may hold such lines too) by the order: a line that is the next
    one of the input is taken for it. An unterminated last line is ended where one of ours follows it.
    """
    wanted, at = text.split(b"\n"), 0
    names = [rectypes.spelling(number, numeric).encode() for number in rectypes.OWN_AUXILIARY]
    kinds = tuple(name + start for name in names for start in (b" msg=audit(", b" audit("))
    lines = out.split(b"\n")
    for i, line in enumerate(lines):
        if at < len(wanted) and line == wanted[at]:
            at += 1
        elif i == len(lines) - 1 and not line:
            continue
        elif not line.partition(b"type=")[2].startswith(kinds):
            return False
    return at == len(wanted)


def check(pieces: Sequence[bytes], flush: int | None = None) -> None:
    out = enrich(pieces, (RAW, NUMERIC), flush=flush)
    text = b"".join(pieces)
    assert is_less_ours(out[RAW], text, False)
    assert is_less_ours(out[NUMERIC], text, True)


def cut(text: bytes, rng: random.Random) -> list[bytes]:
    spots = sorted(rng.randrange(len(text) + 1) for _ in range(rng.randrange(5)))
    return [text[a:b] for a, b in zip([0, *spots], [*spots, len(text)], strict=True)]


@examples(300)
@given(st.integers(0, 1 << 48))
def test_grammar_and_its_mutations(seed: int) -> None:
    rng = random.Random(seed)
    pieces = cut(stream(seed), rng)
    check(pieces, flush=rng.choice([None, len(pieces) // 2]))


@examples(300)
@given(PIECES)
@example([b"type=SYSCALL msg=audit(1.000:1): pid=100", b""])
@example([b"type=SYSCALL msg=audit(1.000:1): pid=100", b"\n", b"type=CONTAINER_ID msg=audit(1.000:1): contid=9\n"])
@example([b"\n\r\n\0\n"])
def test_arbitrary_bytes(pieces: list[bytes]) -> None:
    check(pieces)


@examples(200)
@given(st.lists(st.sampled_from(WORDS), max_size=30))
def test_words_of_the_language_in_any_order(words: list[bytes]) -> None:
    check([b"".join(words)])
    check(words)


@examples(150)
@given(st.integers(0, 1 << 48))
def test_objects_lose_no_event(seed: int) -> None:
    """JSON and lines for people, of the same bytes: one ASCII object or one printable line for each event or line."""
    out = enrich(cut(stream(seed), random.Random(seed)), (JSON, PRETTY))
    assert out[JSON].isascii()
    assert out[JSON].count(b"\n") == out[PRETTY].count(b"\n")
    assert not [c for c in out[PRETTY].decode().replace("\n", "") if not c.isprintable()]


def test_the_world_gives_every_kind_of_answer() -> None:
    """What the properties above rest on: the answers differ, so that all sorts of records are put in."""
    text = b"".join(
        b"type=SYSCALL msg=audit(1700000000.%03d:%d): arch=c000003e syscall=1 pid=%d\n" % (ms, pid * 1000 + ms, pid)
        for pid, ms in ((2, 100), (100, 100), (7, 100), (59, 100), (4711, 100), (99999, 100))
    )
    (out,) = enrich([text], (RAW,)).values()
    contids = [line.rpartition(b"=")[2] for line in out.splitlines() if b"type=CONTAINER_ID" in line]
    assert len(contids) == 4
    assert len(set(contids)) == 3


@pytest.mark.parametrize("size", [60_000, 70_000, 1_200_000])
def test_lines_longer_than_any_buffer(size: int) -> None:
    head = b"type=SYSCALL msg=audit(1700000000.100:5): syscall=1 pid=100 comm="
    for tail in (b"\n", b"", b"\ntype=PROCTITLE msg=audit(1700000000.100:5): proctitle=00\n"):
        check([head + b"x" * size + tail])
        check([head, b"x" * size, tail])
