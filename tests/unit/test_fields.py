"""The fields of records, decoded: what is easily torn or merged."""

import json
from collections.abc import Callable

import pytest

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.audittext.scanner import TextStream
from auditns_connector.emit.fields import added, argv_of, parse
from auditns_connector.matching.conditions import arguments_of
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.pipeline.text_stage import JSON, Enricher
from tests.unit.steps import steps


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'OUID="al ice" OGID="unknown(1000)"', {"OUID": "al ice", "OGID": "unknown(1000)"}),
        (b'UID="root" AUID="al ice" UID="b" UID=c', {"UID": ["root", "b", "c"], "AUID": "al ice"}),
        (b"SADDR={ a=1 b=2 a=3 }", {"SADDR": {"a": ["1", "3"], "b": "2"}}),
        (b'UID="root" AUID="o\'neil"', {"UID": "root", "AUID": "o'neil"}),
        (b'UID="a "b" c" AUID="x"', {"UID": 'a "b" c', "AUID": "x"}),
        (b"SADDR={ saddr_fam=local path=/run/my s }", {"SADDR": {"saddr_fam": "local", "path": "/run/my s"}}),
        (b"SADDR={ saddr_fam=local path=/run/a } b }", {"SADDR": {"saddr_fam": "local", "path": "/run/a } b"}}),
        (b"SADDR={ saddr_fam=local unnamed-socket }", {"SADDR": {"saddr_fam": "local", "text": "unnamed-socket"}}),
        (
            b'SADDR={ saddr_fam=inet laddr=::1 lport=53 } UID="root"',
            {"SADDR": {"saddr_fam": "inet", "laddr": "::1", "lport": "53"}, "UID": "root"},
        ),
        (b"SADDR=unknown-family(0)", {"SADDR": "unknown-family(0)"}),
        (b"SADDR={ saddr_fam=x", {"SADDR": "{", "saddr_fam": "x"}),
        (b"SYSCALL=openat ARCH=x86_64", {"SYSCALL": "openat", "ARCH": "x86_64"}),
        (b"SADDR=unknown family 7 UID=root", {"SADDR": "unknown family 7", "UID": "root"}),
        (b"stray words", {"text": "stray words"}),
    ],
)
def test_values_that_enriched_adds_are_whole(raw: bytes, expected: object) -> None:
    assert added(raw) == expected


@pytest.mark.parametrize(
    "make",
    [
        lambda n: b'A="x ' * n,
        lambda n: b"A={x " * n,
        lambda n: b"A={ " * n + b" }x" * n,
        lambda n: b"A={ " * n + b" }",
        lambda n: b'A="' + b'x" ' * n,
        lambda n: b'A="x" y' * n,
        lambda n: b'A="x" B="' * n,
        lambda n: b'"' * n,
    ],
)
def test_what_opens_and_is_not_closed_is_looked_for_once(make: Callable[[int], bytes]) -> None:
    """A process with CAP_AUDIT_WRITE, as containers have it, can put the byte 0x1D and what it likes into its msg=."""
    assert steps(lambda: added(make(2000))) < 6 * steps(lambda: added(make(500)))


def test_an_argument_that_the_kernel_split_is_one() -> None:
    bodies = [b'argc=4 a0="sh" a1_len=9 a1[0]="xxxxx"', b' a1[1]="yyyy" a2="mid" a3="end"']
    argv = argv_of(bodies)
    assert argv.fields() == {"a1_len": "9", "argv": ["sh", "xxxxxyyyy", "mid", "end"]}
    assert parse(bodies[0], "EXECVE", argv) == {"argc": 4, **argv.fields()}
    assert parse(bodies[1], "EXECVE", argv, first=False) == {}


def test_arguments_that_are_left_out_keep_the_index_of_the_others() -> None:
    assert parse(b'argc=9 a0="sh" a4="x"', "EXECVE")["argv"] == ["sh", None, None, None, "x"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'a0="sh" a0="bash" a1="x"', [["sh", "bash"], "x"]),
        (b"a0=6162 a1_len=8 a1[0]=63 a1[2]=64 a2=65", ["ab", ["c", None, "d"], "e"]),
        (b"a0[1]=6162", [[None, "ab"]]),
        (b"a0[0]=61 a0[1]=62 a0[1]=63", [["a", "b", "c"]]),
        (b'a0="x" a0[0]="y"', [["x", "y"]]),
        (b"a0[9999999]=61 a0[0]=62", [["b", None, "a"]]),
        (b"a0[1]=62 a0[0]=61", ["ab"]),
    ],
)
def test_pieces_that_cannot_be_put_together_are_not_merged(body: bytes, expected: list[object]) -> None:
    assert parse(body, "EXECVE")["argv"] == expected
    pieces = [word for one in expected for word in (one if isinstance(one, list) else [one])]
    assert arguments_of(body) == ["" if word is None else word for word in pieces]
    enricher = Enricher(Correlator(Model()), [JSON])
    stream = TextStream(whole=enricher.whole)
    stream.put(b"type=EXECVE msg=audit(1.000:1): " + body + b"\n")
    points = stream.flush(eof=True)
    block = enricher.take(points, lambda points: enricher._correlator.answer(points, 1))[JSON]
    assert json.loads(bytes(block))["records"][0]["argv"] == expected


def test_a_short_record_makes_no_long_list() -> None:
    assert parse(b"a9999999=41", "EXECVE") == {"a9999999": "41"}
