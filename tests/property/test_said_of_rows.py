"""JSON, and lines for people, of points that rows answered are what the reference makes of the same points."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.audittext.scanner import TextStream
from auditns_connector.emit.render import JSON, Renderer
from auditns_connector.pipeline.text_stage import PRETTY
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import INITIAL_INODES_618
from tests.examples import examples
from tests.unit.world import HEX, MS, REAL, World

PIDS = (100, 101, 200, 201, 300)  # of a container, of another one, of the host
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["fork", "fork apart"]), st.sampled_from(PIDS), st.sampled_from(PIDS)),
        st.tuples(st.sampled_from(["exec", "comm", "exit"]), st.sampled_from(PIDS), st.none()),
        st.tuples(
            st.just("attach"), st.sampled_from(PIDS), st.sampled_from([f"/docker/{HEX}", f"/docker/{'cd' * 32}"])
        ),
    ),
    max_size=5,
)
EVENTS = st.lists(
    st.tuples(st.sampled_from(PIDS), st.sampled_from([59, 56, 58, 62]), st.sampled_from([101, 2, -1])),
    min_size=1, max_size=6,
)  # fmt: skip
ROUNDS = st.lists(st.tuples(STEPS, EVENTS), min_size=1, max_size=6)


def step(world: World, now: float, name: str, pid: int, what: Any) -> None:
    """One thing that happens at ``now`` (ms)."""
    if name.startswith("fork"):
        inodes = world.ns(pid=77) if name == "fork apart" else world.ns()
        world.put(f.K_FORK, now, pid=what, tid=what, ppid=pid, ptid=pid, payload=inodes)
    elif name == "exec":
        world.exec(pid, now)
    elif name == "comm":
        world.put(f.K_COMM, now, pid=pid, tid=pid, payload=b'"%d"\0' % now)
    elif name == "exit":
        world.put(f.K_EXIT_SAMPLE, now, pid=pid, tid=pid)
        world.put(f.K_EXIT, now, pid=pid, tid=pid)
    else:
        world.attach(pid, what, now)


@examples(150)
@given(ROUNDS, st.sampled_from(["off", "all"]))
def test_what_is_said_of_rows_is_what_is_said_of_processes(rounds: list[Any], ns: str) -> None:
    world, serial, now = World(), 1, 5000.0
    for pid in PIDS:
        apart = {**INITIAL_INODES_618, "pid": 77} if pid % 100 else INITIAL_INODES_618
        world.proc(
            pid, 1, 0, ns=apart, cg={1: f"/docker/{HEX}", 2: f"/docker/{'cd' * 32}", 3: "/x.service"}[pid // 100]
        )
    correlator = Correlator(world.model, ns=ns)
    correlator.keep_states = True
    source = TextStream(whole=True)
    for steps, events in rounds:
        for one in steps:
            now += 20
            step(world, now, *one)
        now += 20
        text = ""
        for pid, call, number in events:
            ms = REAL // MS + int(now)
            text += (
                f"type=SYSCALL msg=audit({ms // 1000}.{ms % 1000:03d}:{serial}): arch=c000003e syscall={call} "
                f'success={"no" if number < 0 else "yes"} exit={number} ppid=1 pid={pid} comm="x"\n'
            )
            serial += 1
        now += 20
        source.push(text.encode())
        points = source.flush()
        correlator.answer(points, int(now * MS))
        renderer = Renderer(correlator)  # a process is told as it is when it is told first
        for name in (JSON, PRETTY):
            assert bytes(renderer.render(name, points)) == renderer.reference(name, points)
