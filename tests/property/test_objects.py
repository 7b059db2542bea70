"""JSON and pretty output stand whatever the input is."""

import json
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from auditns_connector.emit.records import parse
from tests.golden.enriching import DATA
from tests.golden.test_objects import render

from .audit_text import NAMES, stream

REAL = [line for name in ("raw", "enriched", "stream") for line in (DATA / f"{name}.log").read_bytes().splitlines(True)]
PIECES = [
    b"", b"a", b"=", b"==", b"a=", b"=a", b'"', b'""', b'"a', b'a"', b'"a b"', b"(null)", b"-0", b"0", b"00", b"-", b"-12",
    b"1234567890123456", b"41", b"4", b"4A00", b"4a", b"FF", b"C3A9", b"\xc3\xa9", b"\xff", b"\xe2\x82", b"\xf0\x9f\x98\x80",
    b"\xed\xa0\x80", b"\x1d", b"\x1dA=1 A=2", b"msg='x=1", b"msg='", b"xmsg='", b"'", b"a0=41", b"a00=42", b"a1[0]=43", b"a1[1]=44",
    b"a12345678=1", b"a1[=1", b"type=1", b"nstype=2", b"text=3", b"argv=4", b"enriched=5", b"msg=6", b"proctitle=410042",
    b"pid=7", b"pid=-0", b"comm=4142", b"name=(null)", b"\r", b"\0", b"\x7f", b"\t", b"\\", b"\\xff=1", b"\xff=2",
]  # fmt: skip
TYPES = [b"EXECVE", b"PROCTITLE", b"EOE", b"NS_INIT", b"A\xffB", b"Xtype=Y", b"SYSCALL"]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 1 << 48), st.integers(1, 400))
def test_any_stream_gives_one_line_an_object(seed: int, pieces: int) -> None:
    text = stream(seed)
    out = render(text, "json", pieces=pieces)
    assert out.isascii()
    for line in out.split(b"\n")[:-1]:
        assert json.loads(line)["v"] == 1
    pretty = render(text, "pretty", pieces=pieces).decode()
    assert all(c.isprintable() for c in pretty.replace("\n", ""))


def damaged(seed: int) -> bytes:
    """Real records and what the grammar makes, with bytes, words and lines changed."""
    rng = random.Random(seed)
    lines = rng.sample(REAL, 20) + stream(seed).splitlines(keepends=True)[:20]
    for _ in range(rng.randrange(1, 30)):
        i = rng.randrange(len(lines))
        words = lines[i].split(b" ")
        match rng.randrange(7):
            case 0:
                words.insert(rng.randrange(2, len(words) + 1) if len(words) > 1 else 0, rng.choice(PIECES))
            case 1:
                words.append(rng.choice(words))
            case 2:
                at = rng.randrange(len(words))
                words[at] = words[at].partition(b"=")[0] + b"=" + rng.choice(PIECES)
            case 3:
                at = rng.randrange(len(words))
                cut = rng.randrange(len(words[at]) + 1)
                words[at] = words[at][:cut] + rng.randbytes(rng.randrange(4)) + words[at][cut:]
            case 4:
                words = words[: rng.randrange(1, len(words) + 1)]
            case 5:
                lines.insert(rng.randrange(len(lines)), lines[i])
            case 6:
                words = [
                    word.replace(b"SYSCALL", rng.choice(TYPES)).replace(b"PATH", rng.choice(TYPES)) for word in words
                ]
        lines[i] = b" ".join(words)
    return b"".join(lines)


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 1 << 48), st.integers(20, 4000), st.booleans())
def test_damaged_records_are_the_same_in_c_and_in_python(seed: int, pieces: int, whole: bool) -> None:
    render(damaged(seed), "json", pieces=pieces, whole=whole)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_the_same_in_c_and_in_python(body: bytes) -> None:
    for kind in (b"SYSCALL", b"EXECVE", b"PROCTITLE", b"USER_CMD"):
        render(b"type=%s msg=audit(1.5:7):%s\n%s" % (kind, body.replace(b"\n", b" "), body), "json")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(NAMES))
def test_any_body_is_parsed(body: bytes, kind: str) -> None:
    json.dumps(parse(body, kind)).encode("ascii")
