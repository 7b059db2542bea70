"""A journal with any damage is replayed, or refused with a DecodeError: never another error, never a hang."""

import random
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.audittext.scanner import TextStream
from auditns_connector.errors import DecodeError
from auditns_connector.journal.files import ranges
from auditns_connector.pipeline.offline import ReplayAnswers
from auditns_connector.vocabulary import frames as f
from tests.examples import examples
from tests.unit.world import HEX, World

TEXT = b"".join(
    b"type=SYSCALL msg=audit(1700000000.%03d:%d): arch=c000003e syscall=59 success=yes pid=%d\n" % (n * 5, n, pid)
    for n, pid in ((1, 100), (2, 7), (3, 59), (4, 8))
)


def journal() -> bytes:
    """A short recording with a frame of most kinds."""
    world = World()
    world.proc(100, 1, at=1, cg=f"/docker/{HEX}")
    world.fork(100, 7, 2)
    world.exec(7, 3)
    world.fork(1, 59, 4, pid=77)
    world.unshare(59, 5, pid=77, user=78)
    world.attach(59, "/x", 6)
    world.exit(59, 9)
    world.put(f.K_NSID, source=f.S_PROCFS, ppid=3, cgroup=1, arg=5)
    world.put(f.K_RESYNC, source=f.S_PROCFS, arg=1)
    world.proc(100, 1, at=10, cg=f"/docker/{HEX}")
    world.put(f.K_RESYNC, source=f.S_PROCFS, arg=2)
    world.put(f.K_NM, source=f.S_CN, pid=100, tid=100, arg=1 << 29, payload=f.NM_PAYLOAD.pack(1, 0, 5, 6))
    world.put(f.K_LOST, arg=5)
    world.put(f.K_MARK, source=f.S_PIPELINE, payload=ranges([1, 2, 3]))
    world.fork(100, 8, 20)
    world.exec(8, 21)
    world.put(f.K_MARK, source=f.S_PIPELINE, payload=ranges([4]))
    return b"".join(world.log)


GOOD = journal()


def replay(path: Path) -> int:
    """How many of the events were answered."""
    with ReplayAnswers([str(path)]) as answers:
        correlator, stream = Correlator(answers.model, nodes=answers.nodes), TextStream()
        answers.answer(correlator, stream.push(TEXT))
        answers.answer(correlator, stream.flush(eof=True))
        return correlator.answered


def damaged(seed: int) -> bytes:
    """The recording with bytes changed, put in or taken out."""
    rng, data = random.Random(seed), bytearray(GOOD)
    for _ in range(rng.choice([1, 1, 2, 5])):
        at = rng.randrange(len(data))
        if rng.randrange(2):
            data[at] = rng.randrange(256)
        else:
            data[at : at + rng.randrange(40)] = rng.randbytes(rng.randrange(40))
    return bytes(data[: rng.choice([len(data), rng.randrange(len(data))])])


@examples(400)
@given(st.integers(0, 1 << 48))
def test_damage_is_a_decode_error_or_harmless(seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        path.write_bytes(damaged(seed))
        try:
            assert replay(path) == 4
        except DecodeError as error:
            assert str(path) in str(error)
            assert "\n" not in str(error)


def test_undamaged_it_answers_all(tmp_path: Path) -> None:
    (tmp_path / "journal").write_bytes(GOOD)
    assert replay(tmp_path / "journal") == 4
