"""The fields of records, decoded: what is easily torn or merged."""

import pytest

from auditns_connector.emit.fields import added, argv_of, parse


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'OUID="al ice" OGID="unknown(1000)"', {"OUID": "al ice", "OGID": "unknown(1000)"}),
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


def test_an_argument_that_the_kernel_split_is_one() -> None:
    bodies = [b'argc=4 a0="sh" a1_len=9 a1[0]="xxxxx"', b' a1[1]="yyyy" a2="mid" a3="end"']
    argv = argv_of(bodies)
    assert argv.fields() == {"a1_len": "9", "argv": ["sh", "xxxxxyyyy", "mid", "end"]}
    assert parse(bodies[0], "EXECVE", argv) == {"argc": 4, **argv.fields()}
    assert parse(bodies[1], "EXECVE", argv, first=False) == {}


def test_arguments_that_are_left_out_keep_the_index_of_the_others() -> None:
    assert parse(b'argc=9 a0="sh" a4="x"', "EXECVE")["argv"] == ["sh", None, None, None, "x"]


def test_a_short_record_makes_no_long_list() -> None:
    assert parse(b"a9999999=41", "EXECVE") == {"a9999999": "41"}
