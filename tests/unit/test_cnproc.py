"""The proc connector's decoder in C, against its reference, against pyroute2's, and against what is expected."""

import struct

import pytest
from pyroute2.netlink.connector.cn_proc import ProcEventMarshal

from auditns_connector.vocabulary import frames
from tests.decoders import CN_COUNTERS, cn_decode, cn_message, proc_event
from tests.reference import cnproc

TIME = 1_700_000_000_123

CASES = {
    "ack": (cnproc.ACK, struct.pack("<I", 22), {"kind": frames.K_ACK, "arg": 22}),
    "fork": (
        cnproc.FORK,
        struct.pack("<iiii", 11, 10, 21, 20),
        {"kind": frames.K_FORK, "pid": 20, "tid": 21, "ppid": 10, "ptid": 11},
    ),
    "exec": (cnproc.EXEC, struct.pack("<ii", 21, 20), {"kind": frames.K_EXEC, "pid": 20, "tid": 21}),
    "uid": (
        cnproc.UID,
        struct.pack("<iiII", 21, 20, 1000, 4294967295),
        {"kind": frames.K_UID, "pid": 20, "tid": 21, "payload": struct.pack("<II", 1000, 4294967295)},
    ),
    "gid": (
        cnproc.GID,
        struct.pack("<iiII", 21, 20, 5, 6),
        {"kind": frames.K_GID, "pid": 20, "tid": 21, "payload": struct.pack("<II", 5, 6)},
    ),
    "sid": (cnproc.SID, struct.pack("<ii", 21, 20), {"kind": frames.K_SID, "pid": 20, "tid": 21}),
    "ptrace": (
        cnproc.PTRACE,
        struct.pack("<iiii", 21, 20, 31, 30),
        {"kind": frames.K_PTRACE, "pid": 20, "tid": 21, "ppid": 30, "ptid": 31},
    ),
    "comm": (
        cnproc.COMM,
        struct.pack("<ii16s", 21, 20, b"kworker/0:1"),
        {"kind": frames.K_COMM, "pid": 20, "tid": 21, "payload": b"kworker/0:1".ljust(16, b"\0")},
    ),
    "comm of 16 bytes without a NUL": (
        cnproc.COMM,
        struct.pack("<ii16s", 21, 20, b"0123456789abcdef"),
        {"kind": frames.K_COMM, "pid": 20, "tid": 21, "payload": b"0123456789abcdef".ljust(24, b"\0")},
    ),
    "coredump": (
        cnproc.COREDUMP,
        struct.pack("<iiii", 21, 20, 11, 10),
        {"kind": frames.K_COREDUMP, "pid": 20, "tid": 21, "ppid": 10, "ptid": 11},
    ),
    "exit": (
        cnproc.EXIT,
        struct.pack("<iiIIii", 21, 20, 256, 17, 11, 10),
        {"kind": frames.K_EXIT, "pid": 20, "tid": 21, "ppid": 10, "ptid": 11, "arg": 256},
    ),
    "nonzero exit": (
        cnproc.NONZERO_EXIT,
        struct.pack("<iiIIii", 21, 20, 9, 17, 11, 10),
        {"kind": frames.K_EXIT, "pid": 20, "tid": 21, "ppid": 10, "ptid": 11, "arg": 9},
    ),
    "namespace": (
        cnproc.NM,
        struct.pack("<iiIIQQ", 21, 20, 0x40000000, 2, 4026531833, 4026532000),
        {
            "kind": frames.K_NM,
            "pid": 20,
            "tid": 21,
            "arg": 0x40000000,
            "payload": struct.pack("<IIQQ", 2, 0, 4026531833, 4026532000),
        },
    ),
    "unknown": (
        0x00000800,
        bytes(range(24)),
        {
            "kind": frames.K_UNKNOWN,
            "arg": 0x800,
            "payload": struct.pack("<IIQ", 0x800, 3, TIME) + bytes(range(24)),
        },
    ),
}
BLANK = frames.Frame(0, frames.S_CN, 3, TIME, 0, 0, 0, 0, 0, 0, b"")


#: every event in the union of mainline (24 bytes) and of a kernel with PROC_EVENT_NM (32)
UNIONS = [(name, union) for name, case in CASES.items() for union in (24, 32) if len(case[1]) <= union]


@pytest.mark.parametrize(("name", "union"), UNIONS)
def test_every_event_becomes_its_frame(name, union):
    what, body, expected = CASES[name]
    datagram = cn_message(proc_event(what, body, cpu=3, time=TIME, size=union))
    if name == "unknown":
        expected = {**expected, "payload": expected["payload"].ljust(16 + union, b"\0")}

    out, counters = cn_decode([datagram])
    reference = cnproc.CnDecoder()

    assert BLANK._replace(**expected) == next(frames.iter_frames(out[0]))
    assert reference.decode(datagram) == out[0]
    assert {key: getattr(reference, key) for key in CN_COUNTERS} == counters
    assert counters["malformed"] == 0


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("nonzero exit", "namespace", "unknown")])
def test_pyroute2_reads_the_same(name):
    what, body, _ = CASES[name]
    datagram = cn_message(proc_event(what, body, cpu=3, time=TIME), seq=7)
    (theirs,) = ProcEventMarshal().parse(datagram)
    (ours,) = frames.iter_frames(cn_decode([datagram])[0][0])

    assert ours.time == theirs["timestamp_ns"]
    assert ours.cpu == theirs["cpu"]
    if what == cnproc.ACK:
        return
    if what == cnproc.FORK:
        pid, tid, ppid, ptid = "child_tgid", "child_pid", "parent_tgid", "parent_pid"
    else:
        pid, tid = "process_tgid", "process_pid"
        ppid, ptid = ("tracer_tgid", "tracer_pid") if what == cnproc.PTRACE else ("parent_tgid", "parent_pid")
    assert (ours.pid, ours.tid) == (theirs[pid], theirs[tid])
    assert (ours.ppid, ours.ptid) == (theirs.get(ppid, 0) or 0, theirs.get(ptid, 0) or 0)
    if what == cnproc.EXIT:
        assert ours.arg == theirs["exit_code"]
    if what == cnproc.COMM:
        assert frames.text(ours.payload).decode() == theirs["comm"]
    if what == cnproc.UID:
        assert frames.IDS_PAYLOAD.unpack(ours.payload) == (theirs["ruid"], theirs["euid"])


@pytest.mark.parametrize("name", CASES)
def test_every_cut_of_a_message_is_counted_and_never_read_past(name):
    what, body, _ = CASES[name]
    whole = cn_message(proc_event(what, body, cpu=3, time=TIME, size=len(body)))
    for length in range(len(whole)):
        out, counters = cn_decode([whole[:length]])
        assert out == [b""]
        assert counters["malformed"] == (1 if length else 0)


@pytest.mark.parametrize("name", [name for name in CASES if name != "unknown"])
def test_an_announced_length_too_short_for_the_event_is_malformed(name):
    what, body, _ = CASES[name]
    data = proc_event(what, body, size=len(body))
    for length in range(len(data)):
        out, counters = cn_decode([cn_message(data[:length])])
        assert (out, counters["malformed"]) == ([b""], 1)


def test_several_messages_in_one_datagram():
    one = cn_message(proc_event(cnproc.EXEC, struct.pack("<ii", 1, 1)), seq=0)
    two = cn_message(proc_event(cnproc.SID, struct.pack("<ii", 2, 2)), seq=1)
    out, counters = cn_decode([one + two])
    assert [frame.kind for frame in frames.iter_frames(out[0])] == [frames.K_EXEC, frames.K_SID]
    assert counters["malformed"] == 0


@pytest.mark.parametrize(
    "datagram",
    [
        cn_message(proc_event(cnproc.EXEC, struct.pack("<ii", 1, 1)), idx=3),
        cn_message(proc_event(cnproc.EXEC, struct.pack("<ii", 1, 1)), kind=2),
        struct.pack("<IHHII", 0xFFFFFFFF, 3, 0, 0, 0) + bytes(60),
        struct.pack("<IHHII", 15, 3, 0, 0, 0) + bytes(60),
    ],
    ids=["another connector", "not NLMSG_DONE", "length beyond the datagram", "length below the header"],
)
def test_what_the_proc_connector_does_not_send_is_malformed(datagram):
    out, counters = cn_decode([datagram])
    assert (out, counters["malformed"]) == ([b""], 1)


def sequences(*seqs, cpu=1):
    body = struct.pack("<ii", 5, 5)
    return [cn_message(proc_event(cnproc.EXEC, body, cpu=cpu, time=100 + i), seq=s) for i, s in enumerate(seqs)]


def test_a_gap_is_a_loss_in_front_of_the_event_which_shows_it():
    out, counters = cn_decode(sequences(40, 41, 45))
    lost, event = frames.iter_frames(out[2])
    assert (lost.kind, lost.cpu, lost.arg, lost.time, lost.cgroup) == (frames.K_LOST, 1, 3, 102, 101)
    assert event.kind == frames.K_EXEC
    assert counters["lost"] == 3


def test_sequence_numbers_are_of_each_cpu_and_wrap():
    datagrams = sequences(0xFFFFFFFF, 0, 1) + sequences(7, 8, cpu=2)
    out, counters = cn_decode(datagrams)
    assert [len(list(frames.iter_frames(block))) for block in out] == [1] * 5
    assert counters["lost"] == 0


def test_a_number_going_back_is_a_loss_of_unknown_size():
    out, counters = cn_decode(sequences(40, 41, 41))
    lost, _ = frames.iter_frames(out[2])
    assert (lost.kind, lost.arg) == (frames.K_LOST, 0)
    assert (counters["lost"], counters["disorder"]) == (0, 1)


def test_gaps_of_a_filtered_socket_mean_nothing():
    out, counters = cn_decode(sequences(40, 50), filtered=True)
    assert [frame.kind for block in out for frame in frames.iter_frames(block)] == [frames.K_EXEC, frames.K_EXEC]
    assert counters["lost"] == 0


@pytest.mark.parametrize("cpu", [8191, 8192, 65535, 70000, 0xFFFFFFFF])
def test_cpu_numbers_at_the_edges(cpu):
    datagrams = sequences(1, 5, cpu=cpu)
    out, counters = cn_decode(datagrams)
    reference = cnproc.CnDecoder()
    assert [reference.decode(datagram) for datagram in datagrams] == out
    assert counters["lost"] == (3 if cpu < 8192 else 0)
    assert next(frames.iter_frames(out[0])).cpu == min(cpu, 0xFFFF)
