"""Whatever bytes come: the C decoders and their references give the same frames and counters, and read no further."""

import struct

from hypothesis import example, given
from hypothesis import strategies as st

from auditns_connector.vocabulary import frames
from tests.decoders import CN_COUNTERS, PERF_COUNTERS, cn_decode, cn_message, perf_decode, proc_event
from tests.perfrecords import (
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
from tests.reference.cnproc import EVENTS, CnDecoder
from tests.reference.perfring import Layout, PerfDecoder

pids = st.integers(-2, 2**31 - 1)
u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
few = st.integers(0, 3)


@st.composite
def damaged(draw, source):
    """What ``source`` draws, whole, cut, prolonged, or with bytes replaced."""
    data = bytearray(draw(source))
    kind = draw(st.sampled_from(["whole", "whole", "cut", "longer", "bytes"]))
    if kind == "cut":
        del data[draw(st.integers(0, len(data))) :]
    elif kind == "longer":
        data += draw(st.binary(max_size=80))
    elif kind == "bytes" and data:
        for place, value in draw(st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)), max_size=6)):
            data[place] = value
    return bytes(data)


events = st.builds(
    proc_event,
    st.one_of(st.sampled_from(sorted(EVENTS)), u32),
    st.binary(max_size=32),
    st.one_of(few, st.sampled_from([8191, 8192, 65534, 65535, 65536, 2**32 - 1])),
    u64,
    st.sampled_from([0, 8, 24, 32, 100]),
)
messages = st.builds(cn_message, events, st.one_of(few, u32), st.sampled_from([1, 1, 1, 2]), st.sampled_from([3, 3, 2]))
datagrams = st.lists(
    st.one_of(damaged(messages), st.lists(messages, max_size=3).map(b"".join), st.binary(max_size=200)), max_size=8
)


@given(datagrams, st.booleans())
@example([cn_message(proc_event(2, b"", cpu=1), seq=5), cn_message(proc_event(2, b"", cpu=1), seq=3)], False)
def test_connector_datagrams(blocks, filtered):
    out, counters = cn_decode(blocks, filtered)
    reference = CnDecoder(filtered)
    assert [reference.decode(block) for block in blocks] == out
    assert {name: getattr(reference, name) for name in CN_COUNTERS} == counters
    kinds = [frame.kind for block in out for frame in frames.iter_frames(block)]
    assert sum(kind not in (frames.K_LOST, frames.K_ACK) for kind in kinds) == counters["received"]
    assert kinds.count(frames.K_UNKNOWN) == counters["unknown"]


raws = st.one_of(
    st.builds(raw_exec, pids, pids, st.binary(max_size=40), st.sampled_from([365, 365, 0, 4])),
    st.builds(raw_exit, pids),
    st.builds(raw_attach, pids, pids, u64, st.binary(max_size=40)),
    st.builds(raw_newtask, pids, u64),
    st.builds(raw_unshare, u64),
    st.builds(raw_setns, u64, u64),
    st.binary(max_size=60),
)
times = st.integers(0, 50)
records = st.one_of(
    st.builds(task, st.sampled_from([4, 7, 7]), times, few, few, pids, pids),
    st.builds(namespaces, times, few, few),
    st.builds(comm, times, pids, pids, st.binary(max_size=20), st.booleans()),
    st.builds(record, st.sampled_from([2, 5, 6, 13, 16, 19, 20, 77]), st.binary(max_size=40), times, few),
    st.builds(sample, damaged(raws), times, pids, pids, st.one_of(st.none(), u64)),
)
rings = st.lists(damaged(records), max_size=8).map(b"".join)
layouts = st.one_of(
    st.just(LAYOUT),
    st.just(Layout(False, LAYOUT.ids, LAYOUT.fields)),
    st.builds(
        Layout,
        st.booleans(),
        st.just(LAYOUT.ids),
        st.fixed_dictionaries({name: st.tuples(st.integers(0, 70), st.integers(0, 12)) for name in LAYOUT.fields}),
    ),
)


@given(layouts, st.one_of(rings, st.binary(max_size=300)), st.one_of(times, st.just(2**64 - 1)))
@example(LAYOUT, struct.pack("<IHH", 9, 0, 8), 2**64 - 1)
def test_perf_records(layout, data, cut):
    block, used, counters = perf_decode(layout, data, 1, cut)
    reference = PerfDecoder(layout, 1)
    assert reference.decode(data, cut) == (block, used)
    assert {name: getattr(reference, name) for name in PERF_COUNTERS} == counters
    assert all(frame.time <= cut for frame in frames.iter_frames(block))
