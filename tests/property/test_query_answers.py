"""Whose events are, by the records of ours in them: what a search says is what text_answers.py says."""

from hypothesis import example, given
from hypothesis import strategies as st

from auditns_connector.attribution.text_answers import TextAnswers
from auditns_connector.audittext.scanner import TextStream
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.model.containers import UNKNOWN
from auditns_connector.model.process import State
from auditns_connector.query.answers import LogAnswers
from auditns_connector.query.names import Names
from auditns_connector.vocabulary.audit_text import P_OWN

CONTIDS = (
    "7",
    "42",
    "7,^42",
    "7,42",
    "?",
    "-1",
    "",
    "x",
    "7,",
    "18446744073709551615",
    "18446744073709551616",
    "7 7",
    "0",
)
OURS = st.tuples(
    st.sampled_from(["CONTAINER_ID", "UNKNOWN[1340]", "CONTAINER_INFO", "NS_INFO", "UNKNOWN[1342]"]),
    st.sampled_from(
        [
            *("", "record=1 ", "record=2 ", "record=9 ", "record=x ", 'record="1" '),
            *("record=0 ", "record=-1 ", "record=01 ", "record= "),
        ]
    ),
    st.sampled_from(CONTIDS),
    st.sampled_from(["", '"']),
    st.sampled_from(["", " entry=b:1:2", " origin=observed"]),
)
EVENT = st.tuples(st.integers(0, 3), st.lists(OURS, max_size=4), st.booleans())


def text_of(events: list[tuple[int, list[tuple[str, str, str, str, str]], bool]]) -> bytes:
    lines = []
    for serial, (targets, ours, many) in enumerate(events, 1):
        stamp = f"msg=audit(1700000000.000:{serial}):"
        lines.append(f"type=SYSCALL {stamp} arch=c000003e syscall=62 success=yes exit=0 ppid=1 pid={serial}")
        lines += [f"type=OBJ_PID {stamp} opid={50 + i}" for i in range(targets)]
        for kind, record, contid, quote, more in ours * (30 if many else 1):
            lines.append(f"type={kind} {stamp} {record}contid={quote}{contid}{quote}{more}")
        lines.append(f"type=EOE {stamp} ")
    return "".join(f"{line}\n" for line in lines).encode()


def called(state: State) -> str | None:
    container = state.container
    return None if container is None else "?" if container is UNKNOWN else container.text


@given(st.lists(EVENT, max_size=5))
@example([(0, [("CONTAINER_ID", "", "7 7", '"', "")], False)])
def test_both_say_the_same(events: list[tuple[int, list[tuple[str, str, str, str, str]], bool]]) -> None:
    stream = TextStream(whole=True, patient=True)
    stream.put(text_of(events))
    points = stream.flush(eof=True)
    answers, reference = LogAnswers(Names()), TextAnswers()
    answers.answer(points)
    reference.begin()
    containers = Model().containers
    for i in range(points.n):
        if points.flags[i] & P_OWN:
            said = reference.answer(points, i, containers)
            expected = "?" if said is None else called(said)
        else:
            expected = None
        assert called(answers.states[i]) == expected, (points.serial[i], points.recno[i])
