"""The records of ours, byte for byte."""

import pytest

from auditns_connector.audittext import own_records as text
from auditns_connector.vocabulary import record_types as rectypes
from tests.reference import lifecycle_records as lifecycle


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (b"ls", b'"ls"'),
        (b"", b'""'),
        (b"a b", b"612062"),
        (b'a"b', b"612262"),
        (b"\n", b"0A"),
        (b"~", b'"~"'),
        (b"\x7f", b"7F"),
        ("ö".encode(), b"C3B6"),
        (b"\0\1", b"0001"),
    ],
)
def test_untrusted_strings_are_written_as_the_kernel_does(value: bytes, written: bytes) -> None:
    assert text.encode_untrusted(value) == written


def test_container_id_of_the_last_revision() -> None:
    tail = text.container_id(text.contid_chain([4, 2, 1]), 1, numeric=False)
    expected = b"type=CONTAINER_ID msg=audit(1559314831.001:5): record=1 contid=4,^2,^1\n"
    assert text.stamp(tail, 1559314831001, 5) == expected


def test_container_id_of_a_packet_in_the_numeric_spelling_with_a_node() -> None:
    tail = text.container_id(",".join(map(text.contid_chain, [(2, 1), (3, 1)])), None, numeric=True)
    expected = b"node=h type=UNKNOWN[1340] msg=audit(1.000:18446744073709551615): contid=2,^1,3,^1\n"
    assert text.stamp(tail, 1000, 2**64 - 1, b"node=h ") == expected


def body(tail: bytes) -> bytes:
    assert tail.startswith(b"\1type=")
    assert tail.endswith(b"\n")
    assert tail.count(b"\n") == 1
    return tail.split(b" \0 ")[1][:-1]


def test_ns_info_is_in_hex_and_says_what_it_does_not_know() -> None:
    tail = text.ns_info([0x97, 2, 1, 4, 3, None, 0xAB, 8], None, numeric=False)
    assert body(tail) == b"netns=97 utsns=2 ipcns=1 pidns=4 userns=3 mntns=? cgroupns=ab timens=8"


def test_ns_info_needs_every_type() -> None:
    with pytest.raises(ValueError, match="shorter"):
        text.ns_info([1], None, numeric=False)


def test_container_op() -> None:
    done = text.container_op("set", 8730, "4515122123205246976", "-1", numeric=False)
    assert body(done) == b"op=set opid=8730 contid=4515122123205246976 old-contid=-1 res=1"
    refused = text.container_op(
        "set", 5, "7", "6", numeric=False, caller="pid=9 uid=0", comm=b"a b", exe=b"/bin/x", error="EEXIST"
    )
    assert body(refused) == (
        b'op=set opid=5 contid=7 old-contid=6 pid=9 uid=0 comm=612062 exe="/bin/x" error=EEXIST res=0'
    )


def test_container_info_encodes_names() -> None:
    tail = text.container_info("7", "observed", numeric=False, runtime="docker", full_id="ab12", name="my web\n")
    assert body(tail) == b'contid=7 origin=observed runtime="docker" ctr-id="ab12" ctr-name=6D79207765620A'


def test_namespace_lifecycle() -> None:
    systemd = lifecycle.Actor(524, 0, 0xFFFFFFFF, 0xFFFFFFFF, b"systemd")
    nobody, inside = lifecycle.Actor(), lifecycle.Actor(858, 1, 2, 3, b"a b", "7,^1")
    old, new, unknown = (
        lifecycle.NsPlace(1, 4, 4026531957),
        lifecycle.NsPlace(0xA1, 4, 4026532142),
        lifecycle.NsPlace(None, None, None),
    )
    assert body(lifecycle.ns_init("mnt", new, 0, systemd, numeric=False)) == (
        b'pid=524 uid=0 auid=4294967295 ses=4294967295 type=20000 old_snum=0 snum=a1 comm="systemd" dev=00:04'
        b" ino=4026532142 res=1"
    )
    assert body(lifecycle.ns_init("time", unknown, None, nobody, numeric=True)) == (
        b"pid=? uid=? auid=? ses=? type=80 old_snum=? snum=? comm=? dev=? ino=? res=1"
    )
    assert body(lifecycle.ns_del("net", new, inside, "no", numeric=False)) == (
        b"pid=858 uid=1 auid=2 ses=3 type=40000000 snum=a1 comm=612062 contid=7,^1 dev=00:04"
        b" ino=4026532142 held=no res=1"
    )
    assert body(lifecycle.ns_change("net", "unshare", old, new, systemd, numeric=False)) == (
        b"pid=524 ppid=? auid=4294967295 ses=4294967295 type=40000000 reason=unshare old_snum=1 snum=a1"
        b' comm="systemd" exe=? dev=00:04 old-ino=4026531957 ino=4026532142 res=1'
    )
    inside = inside._replace(ppid=7, exe=b"/a b")
    assert body(lifecycle.ns_change("net", "exit", new, None, inside, numeric=False, tid=859, last=True)) == (
        b"pid=858 tid=859 ppid=7 auid=2 ses=3 type=40000000 reason=exit old_snum=a1 snum=0 comm=612062 contid=7,^1"
        b" exe=2F612062 dev=00:04 old-ino=4026532142 ino=0 last=1 res=1"
    )


def test_container_lost() -> None:
    assert body(text.container_lost("perf", 3, 17, "1.000", None, numeric=True)) == (
        b"source=perf cpu=3 count=17 from=1.000 to=?"
    )


def test_our_numbers_are_in_the_free_range_and_no_other_type_has_our_names() -> None:
    assert set(rectypes.OWN) == set(range(1340, 1348))
    assert all(name.startswith(("CONTAINER_", "NS_")) for name in rectypes.OWN.values())
    assert len(rectypes.NUMBERS) == len(rectypes.NAMES)


@pytest.mark.parametrize(
    ("name", "number"),
    [("SYSCALL", 1300), ("UNKNOWN[1340]", 1340), ("UNKNOWN[65536]", 0), ("UNKNOWN[]", 0), ("UNKNOWN[１]", 0), ("X", 0)],
)
def test_type_numbers(name: str, number: int) -> None:
    assert rectypes.number(name) == number
