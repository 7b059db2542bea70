"""JSON and pretty output stand whatever the input is."""

import json
import random

from hypothesis import given
from hypothesis import strategies as st

from auditns_connector.emit.fields import parse
from tests.examples import examples
from tests.golden.enriching import DATA
from tests.golden.test_objects import render

from .audit_text import NAMES, stream

FILES = [DATA / f"{name}.log" for name in ("raw", "enriched", "stream")]
REAL = [line for file in FILES for line in file.read_bytes().splitlines(keepends=True)]
#: words to put in, between newlines
PIECES = rb"""
a
=
==
a=
=a
"
""
"a
a"
"a b"
(null)
-0
0
00
-
-12
1234567890123456
41
4
4A00
4a
FF
C3A9
msg='x=1
msg='
xmsg='
'
a0=41
a00=42
a1[0]=43
a1[1]=44
a1[3]=45
a0[0]=46
a12345678=1
a1[=1
type=1
nstype=2
text=3
argv=4
enriched=5
msg=6
proctitle=410042
pid=7
pid=-0
comm=4142
name=(null)
\
\xff=1
""".split(b"\n")
PIECES += [b"\xc3\xa9", b"\xff", b"\xe2\x82", b"\xf0\x9f\x98\x80", b"\xed\xa0\x80", b"\xff=2"]
PIECES += [b"\x1d", b"\x1dA=1 A=2", b"\r", b"\0", b"\x7f", b"\t"]
TYPES = [b"EXECVE", b"PROCTITLE", b"EOE", b"NS_INIT", b"A\xffB", b"Xtype=Y", b"SYSCALL"]


@examples(150)
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


@examples(400)
@given(st.integers(0, 1 << 48), st.integers(20, 4000))
def test_damaged_records_are_the_same_in_c_and_in_python(seed: int, pieces: int) -> None:
    render(damaged(seed), "json", pieces=pieces)


@examples(200)
@given(st.binary(max_size=300))
def test_any_bytes_are_the_same_in_c_and_in_python(body: bytes) -> None:
    for kind in (b"SYSCALL", b"EXECVE", b"PROCTITLE", b"USER_CMD"):
        render(b"type=%s msg=audit(1.500:7):%s\n%s" % (kind, body.replace(b"\n", b" "), body), "json")


#: what values are made of, and their neighbours in ASCII
LETTERS = [b"0123456789", b"0123456789ABCDEF", b"0123456789ABCDEF/:@G`afg\x10\xb1", bytes(range(9, 0x80)), b"-0"]
FIELDS = [b"pid", b"comm", b"a0", b"proctitle", b"nobody-knows-this"]


@st.composite
def values(draw: st.DrawFn) -> bytes:
    """A value of any length, that may be a number, hex or a quoted text, or nearly so."""
    letters = draw(st.sampled_from(LETTERS))
    text = bytes(draw(st.lists(st.sampled_from(letters), max_size=60))).replace(b"\n", b"")
    return draw(st.sampled_from((b"%b", b'"%b"', b"-%b", b'"%b'))) % text


@examples(300)
@given(st.lists(values(), min_size=5, max_size=5), st.booleans())
def test_values_are_the_same_in_c_and_in_python(found: list[bytes], enriched: bool) -> None:
    body = b" ".join(name + b"=" + value for name, value in zip(FIELDS, found, strict=True))
    if enriched:
        body += b"\x1d" + body.replace(b"pid", b"PID")
    for kind in (b"PROCTITLE", b"SYSCALL"):
        render(b"type=%s msg=audit(1.500:7): %s\n" % (kind, body), "json")


@examples(300)
@given(st.binary(max_size=200), st.sampled_from(NAMES))
def test_any_body_is_parsed(body: bytes, kind: str) -> None:
    json.dumps(parse(body, kind)).encode("ascii")
