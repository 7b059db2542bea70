"""Lines of NS_INIT, NS_CHANGE and NS_DEL: C and its readable form are byte-identical."""

from hypothesis import given
from hypothesis import strategies as st

from auditns_connector._native import ffi, lib
from auditns_connector.audittext import own_records as text
from auditns_connector.emit.lifecycle import KINDS, RECORD, LifecycleRows
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.model.entry import Session
from auditns_connector.model.outputs import NsChange, NsDel, NsInit, NsLeft
from auditns_connector.model.places import UNKNOWN, Container, Instance
from auditns_connector.model.process import OBSERVED, Process, State
from auditns_connector.vocabulary.namespaces import ALL_ORDER
from tests.reference import lifecycle_records as reference

U64 = st.integers(0, (1 << 64) - 1)
U32 = st.integers(0, (1 << 32) - 1)
COMM = st.one_of(st.just(b""), st.binary(max_size=16), st.sampled_from([b"bash", b'a"b', b"a b", b"\xff", b"\x7f~!"]))
CONTAINERS = st.sampled_from([None, UNKNOWN, 1, (1 << 64) - 2])
IDS = st.none() | st.tuples(st.just(1), st.none() | U32, st.none() | U32, st.none() | U32)


@st.composite
def instances(draw: st.DrawFn) -> Instance:
    dev = draw(st.sampled_from([0, 4, (259 << 8) | 7]))
    found = Instance(1, draw(st.integers(0, 7)), dev, draw(U64), 0, initial=False)
    found.serial = draw(st.none() | U64)
    return found


@st.composite
def outputs(draw: st.DrawFn) -> list[NsInit | NsChange | NsLeft | NsDel]:
    """Outputs of processes in containers with an identifier, or in none."""
    out: list[NsInit | NsChange | NsLeft | NsDel] = []
    for _ in range(draw(st.integers(1, 5))):
        inst, old = draw(instances()), draw(st.none() | instances())
        which, container = draw(CONTAINERS), None
        if isinstance(which, int):
            container = Container((("docker", str(which)),), "runtime", 0, None)
            container.text = str(which)
        else:
            container = which
        session = draw(st.none() | st.builds(Session, U32, U32, st.just("procfs")))
        state = State(0, container, None, OBSERVED, session=session)
        process = Process(draw(st.integers(0, (1 << 31) - 1)), 0, state, None)
        process.comm, process.ids = draw(COMM), draw(IDS)
        process.creator = draw(st.none() | st.tuples(st.integers(0, 1 << 22), U32))
        tid, time = draw(st.integers(0, 1 << 22)), draw(st.integers(-5_000_000, 1 << 61))
        comm = draw(COMM)
        kind = draw(st.integers(0, 3))
        if kind == 0:
            out.append(NsInit(time, inst, old, process, state, comm))
        elif kind == 1:
            reason = draw(st.sampled_from(["clone", "unshare", "setns", "set"]))
            last, exe = draw(st.booleans()), draw(COMM)
            out.append(NsChange(time, inst, old, process, state, reason, tid, last=last, comm=comm, exe=exe))
        elif kind == 2:
            out.append(NsLeft(time, inst, process, state, tid, comm))
        else:
            last = draw(st.sampled_from([None, process]))
            out.append(NsDel(time, inst, draw(st.sampled_from([False, None])), last))
    return out


def actor(
    model: Model, process: Process | None, state: State | None, since: int, comm: bytes | None
) -> reference.Actor:
    if process is None:
        return reference.Actor(contid="?")
    ids = process.ids[1:] if process.ids is not None and process.ids[0] >= since else (None, None, None)
    container = (state or process.state).container
    contid = None if container is None else model.containers.text(container)
    session = (state or process.state).session
    uid, *whose = ids if session is None else (ids[0], session.auid, session.ses)
    ppid = process.creator[0] if process.creator is not None else None
    name = (process.comm if comm is None else comm) or None
    return reference.Actor(process.pid, uid, *whose, comm=name, contid=contid, ppid=ppid)


def place(inst: Instance) -> reference.NsPlace:
    return reference.NsPlace(inst.serial, inst.dev, inst.ino)


def expected(model: Model, output: NsInit | NsChange | NsLeft | NsDel, numeric: bool) -> bytes:
    inst = output.inst
    kind = ALL_ORDER[inst.index]
    if isinstance(output, NsDel):
        who = actor(model, output.process, None, output.time, None)
        return reference.ns_del(kind, place(inst), who, "no" if output.held is False else "unknown", numeric)
    who = actor(model, output.process, output.state, output.time, output.comm)
    if isinstance(output, NsInit):
        return reference.ns_init(kind, place(inst), output.old.serial if output.old else None, who, numeric)
    if isinstance(output, NsLeft):
        return reference.ns_change(kind, "exit", place(inst), None, who, numeric, tid=output.tid, last=True)
    old = place(output.old) if output.old else reference.NsPlace(None, None, None)
    new = place(inst)
    who = who._replace(exe=output.exe or None)
    return reference.ns_change(kind, output.reason, old, new, who, numeric, tid=output.tid, last=output.last)


@given(outputs(), st.booleans(), st.sampled_from([b"", b"node=here "]), U32)
def test_many_at_once_are_what_each_is(
    told: list[NsInit | NsChange | NsLeft | NsDel], numeric: bool, node: bytes, serial: int
) -> None:
    model = Model()
    rows = LifecycleRows(model)
    lines = []
    for i, output in enumerate(told):
        ms = output.time // 1_000_000
        rows.add(output, ms)
        lines.append(text.stamp(expected(model, output, numeric), ms, (serial + i) % (1 << 32), node))
    assert rows.text(numeric, node, serial) == b"".join(lines)


def test_a_row_is_the_struct() -> None:
    assert RECORD.size == ffi.sizeof("struct lifecycle_record")
    assert len(KINDS) == lib.RECORD_KINDS
    row = ffi.new("struct lifecycle_record *")
    ffi.memmove(row, RECORD.pack(*range(23)), RECORD.size)
    fields = [name for name, _ in ffi.typeof("struct lifecycle_record").fields]
    assert [getattr(row, name) for name in fields] == list(range(23))


def test_a_row_that_names_what_is_not_there_is_refused() -> None:
    row = ffi.new("struct lifecycle_record *")
    names = [ffi.new("char[]", b"X")] * lib.RECORD_KINDS
    types, out = ffi.new("const char *[]", names), ffi.new("uint8_t[]", 1024)
    for field, value in (
        ("comm", 4),
        ("comm_len", 4),
        ("contid_len", 4),
        ("word", 1 << 31),
        ("exe_len", 4),
        ("kind", 3),
    ):
        ffi.buffer(row)[:] = bytes(RECORD.size)
        setattr(row, field, value)
        assert lib.records_lines(row, 1, b"abc", 3, types, b"", 0, 1, out) == -1
