"""What the model has to tell, as events of our own."""

import json
import re
from typing import Any

import pytest

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.audittext import own_records as text
from auditns_connector.audittext.scanner import InsertionPoints
from auditns_connector.audittext.serials import SerialGap
from auditns_connector.emit.container_op import container_op
from auditns_connector.emit.render import Renderer
from auditns_connector.model.outputs import ContainerInfo, ContainerOp, Output
from auditns_connector.pipeline.filters import EventFilter
from auditns_connector.pipeline.lifecycle_budget import LifecycleBudget, Maker
from auditns_connector.pipeline.standalone_records import StandaloneRecords
from auditns_connector.sinks.loss import Lifecycle
from auditns_connector.sinks.loss import Loss as SinkLoss
from auditns_connector.state.event_serials import HALF, EventSerials
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.audit_text import P_NODE
from auditns_connector.vocabulary.namespaces import PID
from tests.unit.test_registry import SHELL, TASK, Registering
from tests.unit.world import MS, REAL, World


def standalone(w: World, *formats: str, **more: Any) -> StandaloneRecords:
    return StandaloneRecords(w.model, EventSerials(None), formats or ("raw",), **more)


def tell(w: World, n: StandaloneRecords) -> dict[str, bytes]:
    return joined(n.format_outputs(taken(w)))


def taken(w: World) -> list[Output]:
    """The model's outputs without those about containers, which test_container_records.py is for."""
    outputs, w.model.outputs = w.model.outputs, []
    return [output for output in outputs if not isinstance(output, ContainerInfo)]


def joined(several: list[dict[str, Any]]) -> dict[str, bytes]:
    """Each format's blocks as one text."""
    return {name: b"".join(blocks[name] for blocks in several) for name in (several[0] if several else ())}


def seen(serials: list[int], ms: int = 1_700_000_000_123, node: bytes = b"", rtype: int = 1300) -> InsertionPoints:
    points = InsertionPoints()
    points.grow(max(len(serials), 1), 1)
    points.n = len(serials)
    points.over(node)
    for i, serial in enumerate(serials):
        points.serial[i], points.ms[i], points.rtype[i] = serial, ms, rtype
        points.flags[i], points.node_len[i], points.lead_len[i] = P_NODE if node else 0, len(node), len(node)
    return points


def test_a_loss_of_kernel_events_is_one_event() -> None:
    w = World()
    w.put(f.K_COMM, 1500, pid=1, tid=1)
    w.put(f.K_LOST, 2000, cpu=1, arg=17)
    assert tell(w, standalone(w)) == {
        "raw": b"type=CONTAINER_LOST msg=audit(1700000002.000:%d): source=perf cpu=1 count=17 from=1700000001.500"
        b" to=1700000002.000\n" % HALF
    }


def test_how_many_and_where_may_not_be_known() -> None:
    w = World()
    w.put(f.K_LOST, 2000, f.S_CN, cpu=f.CPU_UNKNOWN)
    assert b"source=connector cpu=? count=? " in tell(w, standalone(w))["raw"]


def test_the_spellings_have_the_same_serials() -> None:
    w = World()
    w.put(f.K_LOST, 2000, cpu=1, arg=1)
    w.put(f.K_LOST, 2001, cpu=1, arg=1)
    out = tell(w, standalone(w, "raw", "numeric"))
    assert out["numeric"].count(b"type=UNKNOWN[1343] ") == 2
    assert out["numeric"].replace(b"UNKNOWN[1343]", b"CONTAINER_LOST") == out["raw"]
    assert b":%d): " % (HALF + 1) in out["raw"]


def test_serials_stay_away_from_the_kernels_and_node_is_that_of_the_host() -> None:
    w = World()
    n = standalone(w)
    n.saw(seen([5000, 5001], node=b"node=here "))
    w.put(f.K_LOST, 2000, cpu=1, arg=1)
    line = tell(w, n)["raw"]
    assert line.startswith(b"node=here type=CONTAINER_LOST ")
    assert b":%d): " % (5001 + HALF) in line
    n.saw(seen([5002]))
    w.put(f.K_LOST, 2000, cpu=1, arg=1)
    assert tell(w, n)["raw"].startswith(b"type=")


def test_as_json() -> None:
    w = World()
    w.put(f.K_LOST, 2000, cpu=1, arg=1)
    line = tell(w, standalone(w, "json", renderer=Renderer(Correlator(w.model))))["json"]
    assert json.loads(line) == {
        "v": 1, "time": "1700000002.000", "serial": HALF, "contid": None,
        "records": [{"type": "CONTAINER_LOST", "source": "perf", "cpu": 1, "count": 1, "from": "1700000000.000",
                     "to": "1700000002.000"}],
    }  # fmt: skip


def test_an_unset_contid_is_null_and_the_host() -> None:
    drop = text.stamp(text.container_op("drop", 7, "-1", "4", False), 1_700_000_000_000, 9)
    renderer = Renderer(Correlator(World().model))
    assert json.loads(renderer.line("json", drop))["contid"] is None
    assert renderer.line("pretty", drop).startswith(b"host ")


def test_an_attempt_is_an_event_of_the_container_it_is_about() -> None:
    w = Registering()
    n = standalone(w, "json", renderer=Renderer(Correlator(w.model)))
    n.formatters[ContainerOp] = lambda output, numeric: container_op(w.model, output, numeric)
    assert w.set(TASK, 4, 10, names={"name": "web"}) == ""
    assert w.set(TASK, 5, 11) == "EEXIST"
    w.fork(SHELL, 101, 12)
    assert w.set(101, 4, 13, new=True) == "ENOTUNIQ"
    assert w.set(101, 4, 14, new=True, hook=True, rehash=True) == ""
    rehashed = w.who(101, 100)
    w.exit(TASK, 100)
    assert w.set(4711, 6, 110) == "ESRCH"
    told = [json.loads(line) for line in tell(w, n)["json"].splitlines()]
    found = [(one["contid"], *(one["records"][0].get(key) for key in ("op", "contid", "error"))) for one in told]
    assert found == [
        ("4", "set", "4", None),
        ("4", "set", "5", "EEXIST"),
        (None, "set", "4", "ENOTUNIQ"),
        (rehashed, "set", "4", "ENOTUNIQ"),
        (rehashed, "set", rehashed, None),
        ("4", "drop", "-1", None),
        ("?", "set", "?", "ESRCH"),
    ]
    assert told[-2]["container"]["name"] == "web"


def test_holes_in_the_audit_serials() -> None:
    n, gap = standalone(World()), SerialGap(7, 9, 3, 1_700_000_000_000, 1_700_000_001_000)
    n.events.missing.append(gap)
    line = b"type=CONTAINER_LOST msg=audit(1700000001.000:%d): source=%s cpu=? count=3 from=7 to=9\n"
    assert joined(n.gaps())["raw"] == line % (HALF, b"audit")
    assert (n.events.missing, n.lost) == ([], 3)
    assert joined(n.dropped([gap]))["raw"] == line % (HALF + 1, b"intake")


def test_what_was_dropped_for_want_of_room_is_no_hole_as_well() -> None:
    n = standalone(World(), track=True)
    n.saw(seen([100, 101], ms=1000))
    n.dropped([SerialGap(102, 200, 99, 1001, 1002)])
    n.saw(seen([201, 202], ms=1003))
    assert (n.events.next, n.events.incomplete) == (203, False)
    n.dropped([SerialGap(205, 300, 96, 1004, 1005)])  # and 203 and 204 are missing
    n.saw(seen([301], ms=1006))
    n.saw(seen([302], ms=9000))
    assert [(gap.first, gap.last) for gap in n.events.missing] == [(203, 204)]


@pytest.mark.parametrize(
    ("blocks", "missing"),
    [
        ([[1, 2, 3], [4, 5], [6]], 0),
        ([[1, 2], [4, 3, 5], [6]], 0),
        ([[1, 2], [4, 5], [3, 6]], 0),
        ([[1, 2], [5, 6], [7, 8]], 2),
        ([[1, 1, 2, 2], [4, 4], [5]], 1),
    ],
)
def test_holes_that_the_source_does_not_find(blocks: list[list[int]], missing: int) -> None:
    w = World()
    n = standalone(w, track=True)
    for i, block in enumerate(blocks):
        n.saw(seen(block, ms=1000 + i))
    n.saw(seen([blocks[-1][-1] + 1], ms=9000))
    n.saw(seen([blocks[-1][-1] + 2], ms=9001))
    assert sum(gap.events for gap in n.events.missing) == missing
    n.gaps()
    assert n.events.missing == []


@pytest.mark.parametrize("rtype", [1200, 1203, 1299])
def test_auditd_counts_its_own_events_by_itself(rtype: int) -> None:
    """Their serials are no step in the kernel's: ours do not follow them, and nothing is missing before them."""
    n = standalone(World(), track=True)
    n.saw(seen([100, 101], ms=1000))
    n.saw(seen([7_000_000], ms=1001, rtype=rtype))
    assert n.serials.take() == 101 + HALF
    n.saw(seen([102, 103], ms=1002))
    both = seen([104, 7_000_001, 105], ms=1003)
    both.rtype[1] = rtype
    n.saw(both)
    n.saw(seen([106], ms=9000))
    assert n.events.missing == []


def test_what_others_count_is_no_hole_in_the_middle_either() -> None:
    """auditd's own events, and those of another host, whose numbers are near the kernel's."""
    n = standalone(World(), track=True)
    n.saw(seen([100, 101], ms=1000))
    auditds = seen([102, 140, 103], ms=1001)
    auditds.rtype[1] = 1205
    n.saw(auditds)
    others = seen([104, 150, 105], ms=1002, node=b"node=there ")
    for i in (0, 2):
        others.flags[i] = others.node_len[i] = 0
    n.saw(others)
    n.events.finish()
    assert n.events.missing == []


@pytest.mark.parametrize("rtype", [1199, 1300])
def test_what_the_kernel_counts_is_missed(rtype: int) -> None:
    n = standalone(World(), track=True)
    n.saw(seen([100, 101], ms=1000))
    n.saw(seen([103], ms=1001, rtype=rtype))
    n.saw(seen([104], ms=9000))
    assert [gap.events for gap in n.events.missing] == [1]
    assert n.serials.take() == 104 + HALF


def test_lines_that_a_sink_dropped() -> None:
    w = World()
    n = standalone(w, "raw")
    n.saw(seen([100], ms=REAL // 1_000_000))
    line = n.sink_lost("numeric")
    assert line is n.sink_lost("numeric")
    assert line(SinkLoss("file", 4, 400, "1.000:7", "2.500:9", 3)) == (
        b"type=UNKNOWN[1343] msg=audit(2.500:%d): source=sink-file cpu=? count=4 from=1.000:7 to=2.500:9 audit=3\n"
        % (100 + HALF)
    )
    assert b"audit(1700000000.000:" in n.sink_lost("raw")(SinkLoss("file", 4, 400, "", ""))
    own = n.sink_lost("raw")(SinkLoss("file", 4, 400, "1.000:?", "2.000:?"))
    assert b" msg=audit(2.000:" in own
    assert own.endswith(b" count=4 from=1.000:? to=2.000:? audit=0\n")


# -- namespaces


def namespaces() -> World:
    w = World(lifecycle=True)
    w.model.outputs.clear()
    w.fork(1, 100, 1000)
    w.unshare(100, 1000)
    w.put(f.K_COMM, 1001, pid=100, tid=100, payload=b"my cmd\0")
    w.unshare(100, 1002, uts=11)
    for inst in w.born():
        serial = 0xA1 if inst.ino == 11 else inst.number
        w.put(f.K_NSID, 1003, f.S_PROCFS, ppid=inst.index, cgroup=inst.number, arg=serial)
    return w


def test_a_namespace_begins_with_what_proc_said_of_its_maker_afterwards() -> None:
    w = namespaces()
    w.proc(100, 1, at=1004, start=1000, uids=[5, 0, 0, 0], loginuid=1000, sessionid=7)
    begun, changed = tell(w, standalone(w))["raw"].splitlines()
    assert begun == (
        b"type=NS_INIT msg=audit(1700000001.002:%d): pid=100 uid=5 auid=1000 ses=7 type=4000000 old_snum=2 snum=a1"
        b" comm=6D7920636D64 dev=00:04 ino=11 res=1" % HALF
    )
    assert changed == (
        b"type=NS_CHANGE msg=audit(1700000001.002:%d): pid=100 ppid=1 auid=1000 ses=7 type=4000000"
        b" reason=unshare old_snum=2 snum=a1 comm=6D7920636D64 exe=? dev=00:04 old-ino=4026531838 ino=11 res=1"
        % (HALF + 1)
    )


def test_whose_user_it_is_proc_said_before_or_no_longer_is_unknown() -> None:
    w = World(lifecycle=True)
    w.proc(100, 1, at=900, start=800, uids=[5, 0, 0, 0], loginuid=1000, sessionid=7)
    w.unshare(100, 1002, uts=11)
    assert b" pid=100 uid=? auid=1000 ses=7 type=4000000 old_snum=? snum=? " in tell(w, standalone(w))["raw"]


def test_the_initial_ones_are_told_once() -> None:
    w = namespaces()
    n = standalone(w, "numeric")
    out = joined(n.emit_initial_namespaces(w.now))["numeric"].splitlines()
    assert len(out) == 8
    assert all(b": pid=0 uid=0 auid=4294967295 ses=4294967295 type=" in line for line in out)
    assert all(b" old_snum=0 " in line for line in out)
    assert all(line.startswith(b"type=UNKNOWN[1345] ") for line in out)
    assert n.emit_initial_namespaces(w.now) == []


@pytest.mark.parametrize(
    ("wanted", "kinds"),
    [
        ({"types": ["NS_CHANGE"]}, [b"NS_CHANGE"]),
        ({"pids": [100]}, [b"NS_INIT", b"NS_CHANGE"]),
        ({"pids": [101]}, []),
        ({"keys": ["k"]}, []),
        ({"runtimes": ["docker"]}, []),
    ],
)
def test_filters_hold_for_them_but_not_for_losses(wanted: dict[str, Any], kinds: list[bytes]) -> None:
    w = namespaces()
    w.put(f.K_LOST, 2000, cpu=1, arg=1)
    lines = tell(w, standalone(w, wanted=EventFilter(**wanted)))["raw"].splitlines()
    assert [line.split()[0].removeprefix(b"type=") for line in lines] == [*kinds, b"CONTAINER_LOST"]


def test_telling_mints_nothing() -> None:
    """The model must not depend on who listens, or a replay would differ from the run."""
    w = World(lifecycle=True)
    w.fork(1, 100, 1000, uts=11)
    before = w.model.namespaces.mint_next
    tell(w, standalone(w))
    assert w.model.namespaces.mint_next == before


# -- more of them than are told


def lives(w: World, parent: int, first: int, count: int, at: float, step: float) -> None:
    """``count`` lives of a pid namespace (four lines each: init, change, exit, del) made by ``parent``."""
    for i in range(count):
        w.fork(parent, first + i, at + i * step, pid=first + i)
        payload = (first + i).to_bytes(8, "little")
        w.put(f.K_NSID, at + i * step, f.S_PROCFS, ppid=PID, cgroup=w.model.namespaces.created, payload=payload)
        w.exit(first + i, at + i * step)


BORN = (b"type=NS_INIT", b"type=NS_CHANGE")
GONE = (b"type=NS_CHANGE", b"type=NS_DEL")


def storm() -> World:
    """Two makers on the host: 100 of uid 1000 and 110 of uid 2000."""
    w = World(lifecycle=True)
    for pid, uid in ((100, 1000), (110, 2000)):
        w.fork(1, pid, 1000)
        w.proc(pid, 1, at=1001, start=1000, uids=[uid] * 4, loginuid=uid, sessionid=7)
        w.put(f.K_COMM, 1001, pid=pid, tid=pid, payload=b"by%d\0" % uid)
    w.model.outputs.clear()
    w.model.forget_questions()
    return w


def test_beyond_a_rate_they_are_counted_and_told_as_one() -> None:
    w = storm()
    n = standalone(w, budget=LifecycleBudget(each=40, total=1000))
    n.saw(seen([500]))
    lives(w, 100, 10_000, 20, 2000, 10)
    first = tell(w, n)["raw"].splitlines()
    assert [line.split()[0] for line in first] == [*BORN, *GONE] * 10
    n.saw(seen([700]))
    lives(w, 110, 20_000, 3, 2500, 10)
    lives(w, 100, 11_000, 5, 2600, 10)
    assert len(tell(w, n)["raw"].splitlines()) == 12  # another maker has its own
    assert n.late(2_999 * MS) == []
    lost = joined(n.late(3_000 * MS))["raw"]
    assert lost.startswith(b"type=CONTAINER_LOST msg=audit(1700000002.640:")
    assert lost.endswith(
        b": source=lifecycle cpu=? count=60 from=1700000002.100:500 to=1700000002.640:700 makers=1 most=60 uid=1000"
        b' comm="by1000"\n'
    )
    assert n.late(9_000 * MS) == []
    assert n.lifecycle() == {"told": 52, "counted": 60}


def test_who_is_full_is_whose_next_line_would_not_be_told() -> None:
    budget, makers = LifecycleBudget(each=20, total=40), [Maker(1000, None), Maker(1001, None), Maker(1001, "7")]
    full = []
    for number in range(90):
        maker = makers[number * number % 7 % 3]
        full.append(budget.full(maker))
        assert budget.admits(number, number, maker, b"x") is not full[-1]
    assert {False, True} == set(full)


def test_the_count_of_a_second_comes_before_what_the_next_one_tells_and_yields_to_nobody() -> None:
    w = storm()
    n = standalone(w, budget=LifecycleBudget(each=8, total=1000))
    lives(w, 100, 10_000, 20, 2000, 100)
    told = n.format_outputs(taken(w))
    assert [type(blocks["raw"]) for blocks in told] == [Lifecycle, bytes, Lifecycle]
    kinds = [re.findall(rb"type=([A-Z_]+)", blocks["raw"]) for blocks in told]
    assert [len(kind) for kind in kinds] == [8, 1, 8]
    assert kinds[1] == [b"CONTAINER_LOST"]
    serials = [int(found) for blocks in told for found in re.findall(rb"\.\d+:(\d+)\):", blocks["raw"])]
    assert serials == list(range(serials[0], serials[0] + 17))


def test_whose_it_was_is_what_is_around_the_sandboxes_and_the_nearest_known_user() -> None:
    w = storm()
    n = standalone(w, budget=LifecycleBudget(each=8, total=1000))
    for i in range(10):  # each is a sandbox of its own, and its user id was never read
        w.fork(100, 10_000 + i, 2000 + i, pid=10_000 + i)
        w.fork(10_000 + i, 20_000 + i, 2000 + i)
        w.unshare(20_000 + i, 2000 + i, uts=30_000 + i, pid=10_000 + i)
    tell(w, n)
    lost = joined(n.late(9_000 * MS))["raw"]
    assert b" makers=1 " in lost
    assert b" uid=1000 " in lost
    assert b" contid=" not in lost


def test_a_count_in_json_and_for_people() -> None:
    w = storm()
    for name in ("json", "pretty"):
        n = standalone(w, name, renderer=Renderer(Correlator(w.model)), budget=LifecycleBudget(each=8, total=1000))
        lives(w, 100, 10_000 if name == "json" else 20_000, 4, 2000 if name == "json" else 4000, 1)
        tell(w, n)
        line = joined(n.late(9_000 * MS))[name]
        if name == "json":
            (record,) = json.loads(line)["records"]
            assert (record["count"], record["makers"], record["most"], record["uid"]) == (8, 1, 8, 1000)
            assert record["comm"] == "by1000"
        else:
            assert b"CONTAINER_LOST source=lifecycle" in line
