"""The decoder of perf records in C, against its reference and against what is expected."""

import struct

import pytest

from auditns_connector.vocabulary import frames
from tests.decoders import PERF_COUNTERS, perf_decode
from tests.perfrecords import (
    INODES,
    LAYOUT,
    comm,
    namespaces,
    raw_attach,
    raw_exec,
    raw_exit,
    raw_newtask,
    raw_setns,
    raw_unshare,
    record,
    sample,
    task,
)
from tests.reference.perfring import Layout, PerfDecoder

ALL = 0xFFFFFFFFFFFFFFFF
PAYLOAD = struct.pack("<8Q", 4, *INODES)
BLANK = frames.Frame(0, frames.S_PERF, 3, 1000, 0, 0, 0, 0, 0, 0, b"")

CASES = {
    "fork": (
        task(7, 1000, 20, 21, 10, 11),
        {"kind": frames.K_FORK, "pid": 20, "tid": 21, "ppid": 10, "ptid": 11},
    ),
    "exit": (
        task(4, 1000, 20, 21, 10, 11),
        {"kind": frames.K_EXIT, "pid": 20, "tid": 21, "ppid": 10, "ptid": 11},
    ),
    "exit of a task whose parent is gone": (
        task(4, 1000, 20, 21, -1, -1),
        {"kind": frames.K_EXIT, "pid": 20, "tid": 21},
    ),
    "comm": (
        comm(1000, 20, 21, b"sh"),
        {"kind": frames.K_COMM, "pid": 20, "tid": 21, "payload": b"sh".ljust(8, b"\0")},
    ),
    "comm by exec": (
        comm(1000, 20, 21, b"0123456", by_exec=True),
        {"kind": frames.K_COMM, "pid": 20, "tid": 21, "arg": 1, "payload": b"0123456\0"},
    ),
    "namespaces": (
        namespaces(1000, 20, 21),
        {"kind": frames.K_NAMESPACES, "pid": 20, "tid": 21, "payload": PAYLOAD},
    ),
    "more namespaces than known": (
        namespaces(1000, 20, 21, (*INODES, 5, 6)),
        {"kind": frames.K_NAMESPACES, "pid": 20, "tid": 21, "payload": PAYLOAD},
    ),
    "cgroup": (
        record(19, struct.pack("<Q", 4711) + b"/user.slice\0", 1000),
        {"kind": frames.K_CGROUP, "cgroup": 4711, "payload": b"/user.slice".ljust(16, b"\0")},
    ),
    "lost": (record(2, struct.pack("<QQ", 9, 12), 1000), {"kind": frames.K_LOST, "arg": 12}),
    "lost samples": (record(13, struct.pack("<Q", 5), 1000), {"kind": frames.K_LOST, "arg": 5}),
    "throttled": (record(5, struct.pack("<QQQ", 1, 2, 3), 1000), {"kind": frames.K_LOST, "arg": 0}),
    "exec": (
        sample(raw_exec(20, 21, b"/bin/true"), 1000, 20, 20),
        {
            "kind": frames.K_EXEC,
            "pid": 20,
            "tid": 20,
            "ppid": 21,
            "cgroup": 77,
            "payload": b"/bin/true".ljust(16, b"\0"),
        },
    ),
    "exit sample": (
        sample(raw_exit(21), 1000, 20, 21),
        {"kind": frames.K_EXIT_SAMPLE, "pid": 20, "tid": 21, "cgroup": 77},
    ),
    "attach": (
        sample(raw_attach(21, 3, 4712, b"/a/b"), 1000, 1, 1),
        {"kind": frames.K_ATTACH, "tid": 21, "cgroup": 4712, "arg": 3, "payload": b"/a/b".ljust(8, b"\0")},
    ),
    "newtask": (
        sample(raw_newtask(30, 0x200000011), 1000, 20, 21),
        {"kind": frames.K_NEWTASK, "tid": 30, "ppid": 20, "ptid": 21, "arg": 0x200000011},
    ),
    "unshare": (
        sample(raw_unshare(0x80), 1000, 20, 21),
        {"kind": frames.K_UNSHARE, "pid": 20, "tid": 21, "arg": 0x80},
    ),
    "setns": (
        sample(raw_setns(3, 0x40000000), 1000, 20, 20),
        {"kind": frames.K_SETNS, "pid": 20, "tid": 20, "arg": 0x40000000},
    ),
}


def both(data, layout=LAYOUT, cpu=3, cut=ALL):
    """Frames, bytes used and counters, the same from both decoders."""
    block, used, counters = perf_decode(layout, data, cpu, cut)
    reference = PerfDecoder(layout, cpu)
    assert reference.decode(data, cut) == (block, used)
    assert {name: getattr(reference, name) for name in PERF_COUNTERS} == counters
    return list(frames.iter_frames(block)), used, counters


@pytest.mark.parametrize("name", CASES)
def test_every_record_becomes_its_frame(name):
    data, expected = CASES[name]
    found, used, counters = both(data)
    assert found == [BLANK._replace(**expected)]
    assert used == len(data)
    assert (counters["malformed"], counters["unknown"]) == (0, 0)


def test_fork_takes_in_the_namespaces_behind_it():
    data = task(7, 1000, 20, 21, 10, 11) + namespaces(1001, 20, 21) + namespaces(1002, 20, 21)
    found, _, counters = both(data)
    assert [(frame.kind, frame.time, frame.payload) for frame in found] == [
        (frames.K_FORK, 1000, PAYLOAD),
        (frames.K_NAMESPACES, 1002, PAYLOAD),
    ]
    assert counters["received"] == 3


def test_fork_takes_in_namespaces_behind_the_cut():
    data = task(7, 1000, 20, 21, 10, 11) + namespaces(1001, 20, 21)
    found, used, _ = both(data, cut=1000)
    assert [(frame.kind, frame.payload) for frame in found] == [(frames.K_FORK, PAYLOAD)]
    assert used == len(data)


@pytest.mark.parametrize(
    "behind",
    [namespaces(1001, 20, 22), comm(1001, 20, 21, b"sh") + namespaces(1002, 20, 21)],
    ids=["of another task", "not directly"],
)
def test_fork_leaves_other_namespaces_alone(behind):
    found, _, _ = both(task(7, 1000, 20, 21, 10, 11) + behind)
    assert found[0].payload == b""
    assert found[-1].kind == frames.K_NAMESPACES


def test_nothing_later_than_the_cut_is_taken():
    first = comm(1000, 20, 21, b"a")
    found, used, _ = both(first + comm(1001, 20, 21, b"b"), cut=1000)
    assert (len(found), used) == (1, len(first))


def test_the_time_before_a_loss_is_told():
    found, _, counters = both(comm(1000, 1, 1, b"a") + record(2, struct.pack("<QQ", 9, 12), 2000))
    assert (found[1].kind, found[1].time, found[1].cgroup, found[1].arg) == (frames.K_LOST, 2000, 1000, 12)
    assert counters["lost"] == 12


def test_unknown_records_are_kept():
    data = record(99, b"whatever", 1000)
    found, _, counters = both(data)
    assert found == [BLANK._replace(kind=frames.K_UNKNOWN, arg=99, payload=data)]
    assert counters["unknown"] == 1


@pytest.mark.parametrize("number", [0, 1, 366])
def test_samples_of_other_tracepoints_are_kept(number):
    data = sample(raw_exec(1, 1, b"/x", number=number), 1000, 5, 6)
    found, _, counters = both(data)
    assert [(frame.kind, frame.arg, frame.payload) for frame in found] == [(frames.K_UNKNOWN, 9, data)]
    assert counters["unknown"] == 1


def test_samples_without_a_cgroup():
    layout = Layout(False, LAYOUT.ids, LAYOUT.fields)
    found, _, counters = both(sample(raw_exec(20, 20, b"/bin/true"), 1000, 20, 20, cgroup=None), layout)
    assert (found[0].kind, found[0].cgroup) == (frames.K_EXEC, 0)
    assert counters["malformed"] == 0


@pytest.mark.parametrize("loc", [0xFFFF, 0xFFFFFFFF, 40 << 16 | 21, 40 << 16 | 30, 1 << 16 | 0xFFFF])
def test_a_string_outside_the_raw_data_is_empty(loc):
    raw = struct.pack("<HBBiIii", 365, 0, 0, 20, loc, 20, 20) + b"/bin/true\0"
    found, _, _ = both(sample(raw, 1000, 20, 20))
    assert (found[0].kind, frames.text(found[0].payload)) == (frames.K_EXEC, b"")


@pytest.mark.parametrize("name", CASES)
def test_a_cut_record_loses_what_is_behind_it_and_nothing_is_read_past(name):
    data, _ = CASES[name]
    for length in range(1, len(data)):
        found, used, counters = both(data[:length])
        assert [(frame.kind, frame.arg) for frame in found] == [(frames.K_LOST, 0)]
        assert (used, counters["malformed"]) == (length, 1)


@pytest.mark.parametrize("name", CASES)
def test_a_record_announced_too_short_is_at_most_counted(name):
    data, _ = CASES[name]
    kind, misc, size = struct.unpack_from("<IHH", data)
    for length in range(8, size, 8):
        both(struct.pack("<IHH", kind, misc, length) + data[8:length])


@pytest.mark.parametrize("size", [0, 4, 7, 12])
def test_a_size_that_cannot_be_desynchronises(size):
    good = comm(1000, 20, 21, b"a")
    found, used, counters = both(good + struct.pack("<IHH", 3, 0, size) + bytes(64))
    assert [frame.kind for frame in found] == [frames.K_COMM, frames.K_LOST]
    assert (used, counters["malformed"]) == (len(good) + 72, 1)
