"""When a row must not answer: each condition of cdefs/attribution/row_lookup.c, one by one."""

from collections.abc import Callable

import pytest

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.vocabulary import frames as f
from tests.property.test_grouping import points_of
from tests.unit.world import HEX, MS, REAL, World

EXEC = 5


class Asked:
    """Process 100 of a container, which is a row with an answer, and its child 200, born at 5000 ms."""

    def __init__(self) -> None:
        self.world = World()
        self.world.fork(1, 100, 10)
        self.world.attach(100, f"/docker/{HEX}", 20)
        self.correlator = Correlator(self.world.model)
        self.learn(100, 4000)
        self.world.fork(100, 199, 4500)
        self.learn(199, 4600)  # children of 100 have an answer of their own
        self.world.fork(100, 200, 5000)

    def rows(self, *points: tuple[int, int, float], now: float = 0) -> bool:
        """Whether rows answer these (pid, flags, ms) at ``now`` (ms), soon after the last one."""
        late = int((now or max(at for _, _, at in points) + 50) * MS)
        found = points_of([(pid, flags, int(at)) for pid, flags, at in points], REAL // MS)
        return self.correlator.answer_ready(found, late) is not None

    def learn(self, pid: int, at: float) -> None:
        """``pid`` is asked about, and has an answer from then on."""
        for _ in range(2):
            points = points_of([(pid, 1, int(at))], REAL // MS)
            if self.correlator.answer_ready(points, int((at + 50) * MS)) is None:
                self.correlator.answer(points, int((at + 50) * MS))

    def exec(self, pid: int, at: float) -> None:
        self.world.put(f.K_EXEC, at, pid=pid, tid=pid, ppid=pid, payload=b"/bin/x\0")

    def end(self, pid: int, at: float) -> None:
        self.world.put(f.K_EXIT_SAMPLE, at, pid=pid, tid=pid)
        self.world.put(f.K_EXIT, at, pid=pid, tid=pid)


@pytest.fixture
def asked() -> Asked:
    return Asked()


def test_a_row_answers_from_its_birth_to_its_end(asked: Asked) -> None:
    assert asked.rows((100, 1, 4500), (200, 1, 5010))
    asked.end(200, 6000)
    assert asked.rows((200, 1, 5900))
    assert not asked.rows((200, 1, 6002))


def test_a_child_answers_a_little_before_its_birth_where_nobody_had_the_pid(asked: Asked) -> None:
    assert asked.rows((200, 1, 4999))
    assert not asked.rows((200, 1, 4900))


def test_who_may_be_forgotten_may_have_had_the_pid(asked: Asked) -> None:
    asked.world.model.expire(5000 * MS)
    asked.world.put(f.K_COMM, 5001, pid=200, tid=200, payload=b"x\0")
    asked.world.put(f.K_CLOCK, 5002, source=f.S_PIPELINE, arg=REAL)
    assert not asked.rows((200, 1, 4999))
    assert asked.rows((200, 1, 5010))


def test_a_former_holder_of_the_pid_may_be_meant(asked: Asked) -> None:
    asked.end(200, 5999)
    asked.world.fork(100, 200, 6000)
    assert not asked.rows((200, 1, 5999))
    assert asked.rows((200, 1, 6010))
    assert asked.rows((200, 1, 5900))  # the former one, alone


def test_a_former_holder_that_ended_before_is_not_meant(asked: Asked) -> None:
    asked.end(200, 5500)
    asked.world.fork(100, 200, 6000)
    assert asked.rows((200, 1, 5999))


def test_a_state_that_has_changed_is_no_answer_for_before(asked: Asked) -> None:
    asked.world.attach(200, f"/docker/{'ab' * 32}", 5500)
    asked.learn(200, 7000)
    assert asked.rows((200, 1, 5600))
    assert not asked.rows((200, 1, 5499))
    assert not asked.rows((200, 1, 5400))


def test_a_loss_leaves_all_in_doubt_that_was_known_before(asked: Asked) -> None:
    asked.world.put(f.K_LOST, 5500, cgroup=5400 * MS)
    assert not asked.rows((200, 1, 6000))
    asked.world.proc(200, 100, 6100, start=5000, cg=f"/docker/{HEX}")
    asked.learn(200, 7000)
    assert asked.rows((200, 1, 7000))


def test_events_are_missing_up_to_a_moment(asked: Asked) -> None:
    asked.world.put(f.K_LOST, 5500, cgroup=5400 * MS)
    asked.world.fork(1, 300, 5600)
    asked.world.attach(300, f"/docker/{HEX}", 5601)
    asked.world.put(f.K_LOST, 5700, source=f.S_PERF, cgroup=5690 * MS)
    asked.world.proc(300, 1, 5800, start=5600, cg=f"/docker/{HEX}")
    asked.learn(300, 7000)
    assert asked.rows((300, 1, 5710))
    assert not asked.rows((300, 1, 5695))


def test_a_stamp_that_has_several_meanings(asked: Asked) -> None:
    assert asked.rows((200, 1, 5500))
    asked.world.put(f.K_CLOCK, 5600, source=f.S_PIPELINE, arg=REAL + 200 * MS)
    assert not asked.rows((200, 1, 5500))


def test_numbers_of_texts_that_were_dropped(asked: Asked) -> None:
    assert asked.rows((200, 1, 5500))
    asked.world.model.containers.renames += 1
    assert not asked.rows((200, 1, 5500))


def test_an_exec_is_answered_once(asked: Asked) -> None:
    asked.exec(200, 5100)
    assert asked.rows((200, EXEC, 5099))
    assert not asked.rows((200, EXEC, 5099))


UNCLEAR: dict[str, Callable[[Asked], object]] = {
    "no exec": lambda _: None,
    "two execs": lambda a: (a.exec(200, 5100), a.exec(200, 5150)),
    "before the stamp": lambda a: a.exec(200, 5050),
    "long after it": lambda a: a.exec(200, 7000),
}


@pytest.mark.parametrize("name", UNCLEAR)
def test_which_exec_is_meant_is_not_clear(asked: Asked, name: str) -> None:
    UNCLEAR[name](asked)
    assert not asked.rows((200, EXEC, 5099), now=8000)


def test_an_exec_of_one_of_several_holders(asked: Asked) -> None:
    asked.end(200, 5500)
    asked.world.fork(100, 200, 6000)
    asked.exec(200, 6100)
    assert asked.rows((200, EXEC, 6099))


def test_two_holders_of_the_pid_may_have_made_the_record(asked: Asked) -> None:
    asked.exec(200, 5490)
    asked.end(200, 5500)
    asked.world.fork(100, 200, 5510)
    asked.exec(200, 5520)
    assert not asked.rows((200, EXEC, 5489), now=30_000)


def test_a_former_holder_that_is_no_row_may_be_meant(asked: Asked) -> None:
    asked.world.attach(200, f"/docker/{'ab' * 32}", 5400)
    asked.end(200, 5500)
    asked.world.fork(100, 200, 6000)
    asked.exec(200, 6100)
    assert not asked.rows((200, EXEC, 6099))


def test_a_holder_that_is_no_row_and_ended_before_another_one_is_not_meant(asked: Asked) -> None:
    asked.world.attach(200, f"/docker/{'ab' * 32}", 5400)
    asked.end(200, 5500)
    for begun in (6000, 6500):
        asked.world.fork(100, 200, begun)
        asked.exec(200, begun + 100)
        asked.end(200, begun + 200)
    assert asked.rows((200, EXEC, 6599))
    assert not asked.rows((200, EXEC, 6099))


def test_an_exec_whose_record_is_answered_long_after(asked: Asked) -> None:
    asked.exec(200, 5100)
    assert asked.rows((200, EXEC, 5099), now=100_000)


def test_of_text_that_was_written_before_the_next_stamp_says_when(asked: Asked) -> None:
    asked.exec(200, 5300)
    asked.correlator.next_stamps = True
    points = points_of([(200, EXEC, 5099), (100, 1, 5100)], REAL // MS)
    points.serial[0], points.serial[1] = 1, 2
    # the record was there 112 ms behind the next one's stamp, and its exec is told of later
    assert asked.correlator.answer_ready(points, 8000 * MS) is None
    points.ms[1] += 200
    assert asked.correlator.answer_ready(points, 8000 * MS) is not None


def test_where_not_all_is_answered_nothing_is_consumed(asked: Asked) -> None:
    asked.exec(200, 5100)
    assert not asked.rows((200, EXEC, 5099), (999, 1, 5099))
    assert not asked.rows((200, EXEC, 5099), (200, EXEC, 5099))  # one of them means another exec
    assert asked.rows((200, EXEC, 5099))
