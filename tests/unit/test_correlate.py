"""The join on points of real audit text, answered from a small world."""

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.audittext.insertion import assemble
from auditns_connector.audittext.scanner import TextStream
from auditns_connector.vocabulary.frames import K_COMM
from tests.unit.world import MS, REAL, World

AT = (REAL + 1000 * MS) // MS


def enriched(w: World, text: bytes, **options: bool) -> list[str]:
    """The lines of ours that ``text`` gets."""
    stream = TextStream()
    correlator = Correlator(w.model, **options)  # type: ignore[arg-type]
    stream.push(text)
    points = stream.flush(eof=True)
    lines = assemble(points, correlator.answer(points, w.now), correlator.tails[0]).decode().splitlines()
    return [line for line in lines if line.startswith("type=CONTAINER_")]


def clone(pid: int, returned: int) -> bytes:
    """The record of a clone by ``pid``."""
    return (
        f"type=SYSCALL msg=audit({AT // 1000}.{AT % 1000:03}:7): arch=c000003e syscall=56 success=yes exit={returned} "
        f'a0=0 items=0 ppid=1 pid={pid} auid=0 uid=0 comm="x" exe="/x" key=(null)\n'
    ).encode()


def sandbox() -> World:
    w = World()
    w.fork(1, 400, 900, pid=31)
    w.fork(400, 401, 1000.2)
    w.put(K_COMM, 1100, pid=1, tid=1)
    return w


def test_container_info_tells_what_a_clone_returned_as_the_host_counts() -> None:
    _, info = enriched(sandbox(), clone(400, 2), info=True)
    assert info.endswith(" exit-pid=401")


def test_a_clone_of_two_possible_children_returned_somebody_unknown() -> None:
    w = sandbox()
    w.fork(400, 402, 1100.3)
    w.put(K_COMM, 1200, pid=1, tid=1)
    _, info = enriched(w, clone(400, 2), info=True)
    assert info.endswith(" exit-pid=?")


def test_without_container_info_nothing_is_added_for_a_clone() -> None:
    (line,) = enriched(sandbox(), clone(400, 2))
    assert line.startswith("type=CONTAINER_ID ")
