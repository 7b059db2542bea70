"""Filters over whole blocks (C, and columns) against the same condition by condition, in plain Python."""

from array import array

from hypothesis import given
from hypothesis import strategies as st

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.audittext.grouping import event_numbers
from auditns_connector.audittext.scanner import InsertionPoints, TextStream
from auditns_connector.audittext.values import untrusted
from auditns_connector.config.options import EventFilter as Configured
from auditns_connector.pipeline.filters import ConfiguredFilter, EventFilter, configured, parse_contids
from auditns_connector.vocabulary.audit_text import LINE_LATE
from auditns_connector.vocabulary.record_types import NUMBERS
from tests.examples import examples
from tests.property.test_enrich_identity import NOW, model
from tests.unit.world import HEX

KEYS = (b'"open"', b'"exec"', b"6F70656E016578656301", b"(null)", b'"o"pen"', b'"open', b'"', b"open", b"", b'"a\x01b"')
RECORD = st.tuples(
    st.sampled_from([b"SYSCALL", b"PATH", b"USER_CMD", b"AVC", b"OBJ_PID", b"EOE", b"nonsense"]),
    st.integers(0, 6),
    st.sampled_from([59, 100, 4711, 7, 12345]),
    st.sampled_from(KEYS),
)
FILTER = st.builds(
    lambda contid, types, keys, pids: EventFilter(
        contids=[parse_contids(contid)] if contid else [], types=types, keys=keys, pids=pids
    ),
    st.sampled_from(["", "unset", "!=unset", "unknown", "!=unknown,unset", f"0x{HEX[:16]}", f"!=0x{HEX[:16]}"]),
    st.lists(st.sampled_from(["PATH", "USER_CMD", "SYSCALL"]), max_size=2),
    st.lists(st.sampled_from(["open", "exec", "a", ""]), max_size=2),
    st.lists(st.sampled_from([59, 100, 1]), max_size=2),
)


def scanned(records: list[tuple[bytes, int, int, bytes]]) -> tuple[InsertionPoints, Correlator, "array[int]"]:
    """Points of these (type, event, pid, key), answered."""
    text = b"".join(
        b"type=%b msg=audit(1700000000.010:%d): arch=c000003e syscall=257 success=yes pid=%d opid=%d key=%b\n"
        % (kind, event, pid, pid, key) if kind != b"nonsense" else b"nonsense\n"
        for kind, event, pid, key in records
    )  # fmt: skip
    stream = TextStream(whole=True)
    stream.put(text)
    points = stream.filled(0, 2)
    correlator = Correlator(model())
    correlator.keep_states = True
    return points, correlator, correlator.answer(points, NOW)


def reference(
    wanted: EventFilter, points: InsertionPoints, correlator: Correlator, first: int, count: int
) -> bytearray:
    kept = bytearray(count)
    for i in range(points.n):
        number, key = points.event[i] - first, untrusted(points.key(i))
        good = 0 <= number < count
        good &= not wanted._pids or points.pid[i] in wanted._pids
        good &= not wanted._keys or (key is not None and not wanted._keys.isdisjoint(key.split(b"\1")))
        container = correlator.states[i].container
        good &= all(terms.match(correlator.model.containers, container) for terms in wanted._contids)
        if good:
            kept[number] = 1
    if wanted._types:
        for number in range(count):
            if not any(
                points.l_type[i] in wanted._types and points.l_event[i] == first + number for i in range(points.line_n)
            ):
                kept[number] = 0
    return kept


@examples(300)
@given(st.lists(RECORD, max_size=25), FILTER, FILTER, st.booleans())
def test_what_is_kept_is_what_the_reference_keeps(
    records: list[tuple[bytes, int, int, bytes]], one: EventFilter, other: EventFilter, both: bool
) -> None:
    points, correlator, choice = scanned(records)
    numbers = [number for number in points.l_event[: points.line_n] if number < LINE_LATE]
    first, count = event_numbers(points)
    assert (first, count) == ((min(numbers), max(numbers) - min(numbers) + 1) if numbers else (0, 0))
    wanted = reference(one, points, correlator, first, count)
    assert one.keep(points, choice, correlator, first, count) == wanted
    without = reference(other, points, correlator, first, count) if other else bytearray(count)
    combined = ConfiguredFilter(one if both else EventFilter(), [other])
    assert combined.keep(points, choice, correlator, first, count) == bytearray(
        (a if both and one else 1) & (1 - b) for a, b in zip(wanted, without, strict=True)
    )


def test_an_empty_configuration_keeps_all() -> None:
    points, correlator, choice = scanned([(b"SYSCALL", 1, 100, b'"open"'), (b"EOE", 1, 0, b"")])
    everything = configured(Configured(), Configured())
    assert not everything
    assert NUMBERS["SYSCALL"] in points.l_type[: points.line_n].tolist()
    assert everything.keep(points, choice, correlator, *event_numbers(points)) == b"\1"
