"""Text that was enriched already: what its records say is the answer, and nothing is put in or guessed against it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.audittext.scanner import InsertionPoints, TextStream
from auditns_connector.pipeline.filters import EventFilter, join_contids
from auditns_connector.pipeline.text_stage import JSON, PRETTY, RAW, Enricher
from tests.unit.world import HEX, World, contid

NOW = 30_000_000_000
HERE = int(contid(HEX))
S = "msg=audit(1700000000.100:5):"
CALL = f"type=SYSCALL {S} arch=c000003e syscall=62 success=yes exit=0 ppid=1 pid=100\n"
TARGET = f"type=OBJ_PID {S} opid=7\n"
TITLE = f"type=PROCTITLE {S} proctitle=00\n"


def ours(contid: str, *, record: int = 0, spelling: str = "CONTAINER_ID", node: str = "", stamp: str = S) -> str:
    which = f"record={record} " if record else ""
    return f"{node}type={spelling} {stamp} {which}contid={contid}\n"


def world() -> World:
    """Process 100 and 7 are of a Docker container; 2 is of the host."""
    made = World()
    made.proc(2, 1, at=1)
    made.proc(100, 1, at=1, cg=f"/docker/{HEX}")
    made.fork(100, 7, 2)
    return made


class Told:
    """The text by the whole way, in one format."""

    def __init__(self, text: str, form: str = JSON, *, journal: bool = True, **filters: Any) -> None:
        model = world().model if journal else World().model
        self.correlator = Correlator(model, nodes={b"h1"})
        self.correlator.next_stamps = journal
        wanted = EventFilter(**filters) if filters else None
        enricher = Enricher(self.correlator, [form], wanted=wanted)
        source, self.out = TextStream(whole=enricher.whole, patient=True), b""
        for points in self._decided(source, text.encode()):
            for block in enricher.take(points, lambda p: self.correlator.answer(p, NOW)).values():
                self.out += block

    @staticmethod
    def _decided(source: TextStream, text: bytes) -> Iterator[InsertionPoints]:
        yield source.push(text)
        yield source.flush(eof=True)

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.mark.parametrize("journal", [False, True], ids=["alone", "beside-a-journal"])
@pytest.mark.parametrize("spelling", ["CONTAINER_ID", "UNKNOWN[1340]"])
@pytest.mark.parametrize("node", ["", "node=h1 ", "node=elsewhere "])
@pytest.mark.parametrize("said", ["4", "4,^2,^1", "18446744073709551614", "4,^?"])
def test_the_text_is_the_answer(said: str, node: str, spelling: str, journal: bool) -> None:
    text = node + CALL + ours(said, spelling=spelling, node=node) + node + TITLE
    (event,) = Told(text, journal=journal).objects
    assert event["contid"] == said
    assert event["container"] == {"kind": "log", "origin": "log"}
    assert Told(text, RAW, journal=journal).out.decode() == text
    assert Told(text, PRETTY, journal=journal).out.decode().startswith(said + " ")


@pytest.mark.parametrize("journal", [False, True], ids=["alone", "beside-a-journal"])
@pytest.mark.parametrize("node", ["", "node=elsewhere "])
@pytest.mark.parametrize("form", [RAW, JSON])
def test_what_is_set_apart_is_of_the_event_that_it_names(form: str, node: str, journal: bool) -> None:
    """With placement = "apart" ours has a serial of its own, and names its event: whoever reads that text back knows
    whose the event is, and puts nothing in."""
    text = f"{node}type=SECCOMP {S} auid=0 uid=0 pid=100 sig=0 arch=c000003e syscall=1\n"
    apart = "msg=audit(1700000000.100:3221225477):"
    for kind, fields in (("CONTAINER_ID", "contid=4,^2"), ("UNKNOWN[1344]", "netns=1 utsns=2"), ("CONTAINER_INFO", "")):
        text += f"{node}type={kind} {apart} {fields} event=1700000000.100:5\n"
    told = Told(text, form, journal=journal)
    if form == RAW:
        assert told.out.decode() == text
    else:
        (event,) = told.objects
        assert (event["serial"], event["contid"], len(event["records"])) == (5, "4,^2", 4)


@pytest.mark.parametrize(
    "said", ["1700000000.100:", "1700000000.10:5", "1700000000.100:5x", "x", "", "1:5", "1.0005:5"]
)
def test_what_names_no_event_is_one_of_its_own(said: str) -> None:
    text = f"type=SECCOMP {S} pid=2\n" + ours("4", stamp="msg=audit(1700000000.100:6):")[:-1] + f" event={said}\n"
    assert [event["serial"] for event in Told(text).objects] == [5, 6]


@pytest.mark.parametrize("at", range(4))
def test_wherever_it_stands_in_its_event(at: int) -> None:
    lines = [CALL, f"type=CWD {S} cwd=00\n", TITLE]
    lines.insert(at, ours("4"))
    text = "".join(lines)
    assert [event["contid"] for event in Told(text).objects] == ["4"]
    assert Told(text, RAW).out.decode() == text


@pytest.mark.parametrize("journal", [False, True])
@pytest.mark.parametrize("title", ["", TITLE])
def test_right_behind_the_end_of_its_event(journal: bool, title: str) -> None:
    """Nothing but ours goes on behind an EOE."""
    end, cwd = f"type=EOE {S} \n", f"type=CWD {S} cwd=00\n"
    text = CALL + cwd + title + end + ours("4") + ours("5", record=2)
    (event,) = Told(text, journal=journal).objects
    assert (event["contid"], event["container"]) == ("4", {"kind": "log", "origin": "log"})
    assert Told(text, RAW, journal=journal, types=["CWD"]).out.decode() == text
    assert [event.get("late", False) for event in Told(CALL + end + cwd).objects] == [False, True]
    other = CALL.replace(":5)", ":6)")
    assert [event.get("late", False) for event in Told(CALL + end + other + ours("4")).objects] == [False, False, True]


def test_a_container_that_is_known_here_too_has_its_name() -> None:
    (event,) = Told(CALL + ours(str(HERE)) + TITLE).objects
    assert (event["container"]["runtime"], event["container"]["origin"]) == ("docker", "log")
    info = f'type=CONTAINER_INFO {S} contid=9 origin=observed runtime="podman" ctr-id="abc" ctr-name=776562\n'
    (event,) = Told(CALL + ours("9") + info + TITLE, journal=False).objects
    assert (event["container"]["runtime"], event["container"]["id"], event["container"]["name"]) == (
        "podman", "abc", "web",
    )  # fmt: skip
    assert Told(CALL + ours("9") + info + TITLE, RAW, journal=False, names=["we*"]).out


def test_targets_go_by_record() -> None:
    text = CALL + ours("4", record=1) + TARGET + ours("5", record=2) + TITLE
    (event,) = Told(text).objects
    assert (event["contid"], event["targets"][0]["contid"]) == ("4", "5")
    text = CALL + TARGET + ours("5", record=2) + TITLE
    (event,) = Told(text).objects
    assert (event["contid"], event["targets"][0]["contid"]) == (None, "5")
    text = CALL + ours("4") + TARGET + TITLE
    (event,) = Told(text).objects
    assert (event["contid"], event["targets"][0]["contid"]) == ("4", None)


def test_no_answer_in_the_text_is_the_journals() -> None:
    text = CALL + ours("?") + TITLE
    (event,) = Told(text).objects
    assert (event["contid"], event["container"]["origin"]) == (str(HERE), "journal")
    assert Told(text, RAW).out.decode() == text
    assert Told(text, RAW, contids=join_contids([str(HERE)])).out.decode() == text
    assert Told(text, journal=False).objects[0]["contid"] == "?"
    foreign = "node=elsewhere " + CALL + ours("?", node="node=elsewhere ") + "node=elsewhere " + TITLE
    assert Told(foreign).objects[0]["contid"] == "?"


@pytest.mark.parametrize("said", ["4", str(HERE + 1)])
def test_a_contradiction_is_told_and_the_text_stays(said: str) -> None:
    told = Told(CALL + ours(said) + TITLE)
    assert told.objects[0]["contid"] == said
    assert told.correlator.contradicted == 1
    assert told.correlator.contradiction == f"audit(1700000000.100:5): {said} in the text, {HERE} by the evidence"
    assert Told(CALL + ours(str(HERE)) + TITLE).correlator.contradicted == 0
    assert Told(CALL + ours(said) + TITLE, journal=False).correlator.contradicted == 0


@pytest.mark.parametrize(
    "lines",
    [
        [ours("4"), ours("5")],
        [ours("4"), ours("5", spelling="UNKNOWN[1340]")],
        [ours("4,^"), ""],
        [ours("99999999999999999999"), ""],
        [ours("18446744073709551615"), ""],
        [ours("-1"), ""],
        [ours("04"), ""],
        [ours("4,^05"), ""],
        [ours("x"), ""],
        [ours("'"), ""],
        [ours("4") * 65, ""],
        [f"type=CONTAINER_ID {S}\n", ""],
        [f"type=CONTAINER_INFO {S} contid=4\n", ""],
        [f"type=CONTAINER_INFO {S} contid=4 origin=observed\n", f"type=NS_INFO {S} netns=1\n"],
        [f"type=CONTAINER_INFO {S} origin=observed\n", ""],
        [f"type=CONTAINER_ID {S} record=0 contid=4\n", ""],
        [f"type=CONTAINER_ID {S} record=x contid=4\n", ""],
        [f"type=CONTAINER_ID {S} record=2x contid=4\n", ""],
        [ours("5", record=2), f"type=CONTAINER_INFO {S} contid=4\n"],
    ],
    ids=[
        "two",
        "two-spellings",
        "cut",
        "large",
        "unset",
        "unset-in-words",
        "zeros",
        "zeros-inside",
        "word",
        "quote",
        "many",
        "none",
        "told-of-alone",
        "told-of-with-namespaces",
        "told-of-nobody",
        "record-0",
        "record-word",
        "record-cut",
        "told-of-another",
    ],
)
def test_what_contradicts_itself_or_cannot_be_read_is_unknown(lines: list[str]) -> None:
    told = Told(CALL + lines[0] + TITLE + lines[1])
    assert [event["contid"] for event in told.objects] == ["?"]
    assert not Told(CALL + lines[0] + TITLE + lines[1], contids=join_contids(["4"])).out


@pytest.mark.parametrize("said", [("?", "4"), ("4", "?"), ("?", "4", "?"), ("?", "4", "4")])
def test_an_unknown_contradicts_nothing(said: tuple[str, ...]) -> None:
    told = Told(CALL + "".join(map(ours, said)) + TITLE)
    assert [event["contid"] for event in told.objects] == ["4"]


def test_a_copy_of_an_event_is_of_whom_its_own_records_say() -> None:
    """It was of nobody known: what came late was not asked what it says itself."""
    text = CALL + ours("4") + TITLE + f"type=EOE {S}\n"
    later = S.replace("1700000000.100:5", "1700000009.100:6")
    other = (CALL + TITLE).replace(S, later)
    told = Told(text + other + text, journal=False).objects
    assert [(event["serial"], event["contid"], event.get("late")) for event in told] == [
        (5, "4", None), (6, "?", None), (5, "4", True),
    ]  # fmt: skip
    silent = CALL + f"type=NS_INFO {S} netns=1\n" + TITLE
    told = Told(text + other + silent, journal=False).objects
    assert [event["contid"] for event in told if event.get("late")] == ["?"]


def test_twice_the_same_is_the_same() -> None:
    assert Told(CALL + ours("4") + ours("4", spelling="UNKNOWN[1340]") + TITLE).objects[0]["contid"] == "4"


def test_other_nodes_and_what_users_write_say_nothing() -> None:
    forged = f"type=USER_CMD {S} pid=2 uid=0 msg='x type=CONTAINER_ID {S} contid=4'\n"
    assert Told(forged).objects[0]["contid"] is None
    text = CALL + ours("4", node="node=elsewhere ") + TITLE
    assert Told(text, JSON).objects[0]["contid"] == str(HERE)


def test_a_host_process_of_an_enriched_text_has_other_records_of_ours_alone() -> None:
    (event,) = Told(CALL + f"type=NS_INFO {S} netns=1\n" + TITLE, journal=False).objects
    assert event["contid"] is None


@pytest.mark.parametrize(
    ("filters", "kept"),
    [
        ({"contids": join_contids(["4"])}, "45"),
        ({"contids": join_contids(["2"])}, "5"),
        ({"contids": join_contids(["unset"])}, "7"),
        ({"contids": join_contids(["!=unset"])}, "4568"),
        ({"contids": join_contids(["unknown"])}, "6"),
        ({"types": ["CONTAINER_ID"]}, "456"),
        ({"types": ["UNKNOWN[1340]"]}, "456"),
        ({"types": ["NS_INIT"]}, "8"),
        ({"types": ["NS_INIT"], "contids": join_contids(["9"])}, "8"),
        ({"contids": join_contids(["9"])}, "8"),
        ({"pids": [77]}, "8"),
    ],
)
def test_filters_go_by_the_text(filters: dict[str, Any], kept: str) -> None:
    text = ""
    for serial, said in ((4, "4"), (5, "4,^2"), (6, "?"), (7, "")):
        stamp = f"msg=audit(1700000000.100:{serial}):"
        text += f"type=SYSCALL {stamp} arch=c000003e syscall=1 success=yes exit=0 ppid=1 pid=900\n"
        text += ours(said, stamp=stamp) if said else f"type=NS_INFO {stamp} netns=1\n"
        text += f"type=PROCTITLE {stamp} proctitle=00\n"
    text += 'type=NS_INIT msg=audit(1700000000.100:8): pid=77 uid=0 type=40000000 snum=5 comm="x" contid=9 res=1\n'
    told = Told(text, journal=False, **filters)
    assert "".join(str(event["serial"]) for event in told.objects) == kept


def test_a_record_of_ours_that_stands_alone_says_whose_it_is() -> None:
    told = Told('type=NS_INIT msg=audit(1700000000.100:8): pid=77 type=40000000 comm="x" contid=9 res=1\n')
    assert told.objects[0]["contid"] == "9"
    told = Told('type=NS_DEL msg=audit(1700000000.100:8): pid=77 type=40000000 comm="x" res=1\n')
    assert told.objects[0]["contid"] is None


@pytest.mark.parametrize("pid", [1 << 22, (1 << 31) - 1, 1 << 31, 10**12, -2])
@pytest.mark.parametrize("journal", [True, False])
def test_a_number_that_no_process_can_have_is_nobodys(pid: int, journal: bool) -> None:
    text = CALL.replace(" pid=100", f" pid={pid}")
    assert text != CALL
    assert [event["contid"] for event in Told(text + TITLE, journal=journal).objects] == ["?"]
    forged = TARGET.replace("opid=7", f"opid={pid}")
    assert Told(CALL + forged + TITLE, journal=True).out.count(b'"?"') > 0


@pytest.mark.parametrize("form", [JSON, PRETTY])
def test_records_of_ours_whose_event_has_not_come_say_whose_it_is(form: str) -> None:
    """A log may begin in the middle of an event, or come from a host that lost the rest: silence would be the host."""
    other = S.replace(":5)", ":6)")
    texts = {
        ours("4", record=1): "4",
        ours("4,^2"): "4,^2",
        ours("4", node="node=elsewhere "): "4",
        f"type=CONTAINER_INFO {S} contid=4 name=x\n" + ours("4"): "4",
        ours("4", record=3): "?",
        ours("4") + ours("5"): "?",
        ours("?"): "?",
        ours("x"): "?",
        f"type=CONTAINER_INFO {S} contid=4 name=reason\n": "?",
    }
    for text, expected in texts.items():
        for more in ("", CALL.replace(S, other) + TITLE.replace(S, other)):
            told = Told(text + more, form, journal=False)
            first = told.objects[0]["contid"] if form == JSON else told.out.decode().split()[0]
            assert first == expected, text


def test_a_filter_takes_them_for_that() -> None:
    text = ours("4", record=1) + "".join(ours("5", record=1, stamp=S.replace(":5)", f":{n})")) for n in range(6, 9))
    assert [event["contid"] for event in Told(text, journal=False, contids=join_contids(["4"])).objects] == ["4"]
