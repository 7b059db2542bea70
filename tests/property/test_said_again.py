"""What is remembered of records of ours in the text is what is made of them each time."""

from collections.abc import Iterable
from typing import Any
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from auditns_connector.attribution import attributor
from auditns_connector.attribution.attributor import Correlator
from auditns_connector.attribution.row_lookup import RowLookup
from auditns_connector.audittext.scanner import TextStream
from auditns_connector.emit.render import Renderer
from auditns_connector.pipeline.text_stage import JSON, PRETTY, RAW, Enricher
from tests.examples import examples
from tests.unit.world import HEX, World, contid

NOW = 30_000_000_000
HERE = contid(HEX)
WORDS = (f"contid={HERE}", "contid=?", "contid=4", f"record=1 contid={HERE}", f"record=2 contid={HERE}", "x=1")
KINDS = ("CONTAINER_ID", "CONTAINER_INFO", "UNKNOWN[1340]", "CONTAINER_OP", "UNKNOWN[1345]")
#: seconds at which events are stamped: when the host was up, and before anything was known of it
TIMES = (1700000020, 1600000000)
OURS = st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from(WORDS)), max_size=2)
PIDS = (2, 7, 100, 300, -1)  # of the host, two of a container, nobody; and records of ours alone
EVENT = st.tuples(st.sampled_from(PIDS), OURS, st.booleans(), st.sampled_from(["", "node=h1 ", "node=else "]))
BLOCKS = st.lists(st.lists(EVENT, min_size=1, max_size=8), min_size=2, max_size=5)


def text_of(serial: int, events: Iterable[tuple[int, list[tuple[str, str]], bool, str]], seconds: int) -> bytes:
    """These events: a SYSCALL each, in front of or behind records of ours, or without a pid these alone."""
    out = []
    for number, (pid, ours, behind, node) in enumerate(events, serial):
        stamp = f"msg=audit({seconds}.100:{number}):"
        lines = [f"{node}type={kind} {stamp} {words}\n" for kind, words in ours]
        if pid < 0:
            alone = f'{node}type=NS_INIT {stamp} pid=7 type=40000000 comm="x" contid=4 res=1\n'
            out += [alone, *lines] if behind else [*lines, alone]
            continue
        call = f"{node}type=SYSCALL {stamp} arch=c000003e syscall=62 success=yes exit=0 ppid=1 pid={pid}\n"
        out += [call, *lines] if behind else [*lines, call]
        out.append(f"{node}type=EOE {stamp} \n")
    return "".join(out).encode()


def answers(blocks: list[list[Any]], name: str = RAW, seconds: int = TIMES[0]) -> tuple[bytes, tuple[int, ...], str]:
    """What comes out of these blocks of events, and what was counted."""
    world = World()
    world.proc(2, 1, at=1)
    world.proc(100, 1, at=1, cg=f"/docker/{HEX}")
    world.fork(100, 7, 2)
    correlator = Correlator(world.model, nodes={b"h1"})
    enricher = Enricher(correlator, [name])
    source, out, serial = TextStream(patient=True, whole=enricher.whole), b"", 1
    source.hold(True)
    for events in blocks:
        text = text_of(serial, events, seconds)
        serial += len(events)
        for decide in (lambda text=text: source.push(text), source.flush):
            for block in enricher.take(decide(), lambda p: correlator.answer(p, NOW)).values():
                out += bytes(block)
    counted = (correlator.answered, correlator.attributed, correlator.unknown, correlator.contradicted)
    return out, counted, correlator.contradiction


@examples(120)
@given(BLOCKS, st.sampled_from([1, 4]), st.sampled_from([RAW, JSON, PRETTY]), st.sampled_from(TIMES))
def test_what_is_remembered_is_what_is_made_each_time(
    blocks: list[list[Any]], many: int, name: str, seconds: int
) -> None:
    with mock.patch.object(RowLookup, "says", return_value=None):
        wanted = [answers(some, name, seconds) for some in (blocks, [*blocks, *blocks])]
    with mock.patch.object(attributor, "_MANY", many):  # fewer are looked at one by one
        assert [answers(some, name, seconds) for some in (blocks, [*blocks, *blocks])] == wanted


@examples(120)
@given(BLOCKS, st.sampled_from([JSON, PRETTY]), st.sampled_from(TIMES))
def test_objects_of_it_are_those_of_the_reference(blocks: list[list[Any]], name: str, seconds: int) -> None:
    def reference(self: Renderer, name: str, *args: Any, lasting: bool = True) -> bytes:
        self._alone = {alone.event: alone.state for alone in self._correlator.alone(args[0])}
        return self.reference(name, *args)

    found = answers([*blocks, *blocks], name, seconds)
    with mock.patch.object(Renderer, "render", reference):
        assert answers([*blocks, *blocks], name, seconds) == found


def test_events_that_say_what_others_said_are_not_looked_at() -> None:
    looked = []
    real = Correlator._full_lookup

    def seen(self: Correlator, *args: Any) -> Any:
        looked.append(args[1])
        return real(self, *args)

    event = (7, [("CONTAINER_ID", f"contid={HERE}")], True, "")
    with mock.patch.object(Correlator, "_full_lookup", seen):
        answers([[event] * 20, [event] * 20, [event] * 20, [event] * 20])
    # the first block finds that there are some, the second what comes of them; the last event of each comes alone,
    # for a record of ours may still follow its EOE
    assert len(looked) == 19 + 19 + 4


def test_what_was_looked_up_before_is_nothing_of_a_few_that_come_alone() -> None:
    """Many records that the evidence contradicts; then one that agrees, in the place of one of those."""
    here, elsewhere = ("CONTAINER_ID", f"contid={HERE}"), ("CONTAINER_ID", "contid=4")
    several = [(7, [elsewhere], True, "")] * 20
    few = [(7, [here], True, "")]
    with mock.patch.object(RowLookup, "says", return_value=None):
        wanted = answers([several, few, several, few, several])
    assert answers([several, few, several, few, several]) == wanted
