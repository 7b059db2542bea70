"""The truth bench's own judgement: what counts as right, wrong, unknown, missing and absent."""

import dataclasses
from collections import Counter
from pathlib import Path

import pytest

from tests.bench.accuracy import report
from tests.bench.accuracy.score import (
    ABSENT,
    MISSING,
    RIGHT,
    UNKNOWN,
    WRONG,
    Answer,
    Tally,
    assign_names,
    container_outcome,
    namespaces_outcome,
    score,
    verdict,
)
from tests.bench.accuracy.subjects import AuditnsListen, Laurel, contid_of, count_losses, parse_json, parse_text
from tests.bench.accuracy.truth import (
    HOST,
    NS_TYPES,
    Action,
    Label,
    Labels,
    NsRef,
    read_actions,
    read_namespaces,
    shared_pids,
)

TOKEN = "40112233aabbccdd"
ID = "0000000000000010" + "ab" * 24


def host() -> Label:
    return Label(HOST, "host")


@pytest.mark.parametrize(
    ("said", "expected"),
    [(Answer(None), RIGHT), (Answer("7"), WRONG), (Answer("?"), UNKNOWN), (None, ABSENT)],
)
def test_event_of_the_host_is_right_only_without_a_container(said: Answer | None, expected: str) -> None:
    assert container_outcome(said, host(), {}) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (Answer("16"), RIGHT),
        (Answer("17"), WRONG),
        (Answer("16;17"), WRONG),
        (Answer("?"), UNKNOWN),
        (Answer(None), MISSING),
        (None, ABSENT),
    ],
)
def test_event_of_a_known_container(said: Answer | None, expected: str) -> None:
    assert container_outcome(said, Label(1, "known", ID), {1: "16"}) == expected


@pytest.mark.parametrize(
    ("said", "expected"), [("2,^1", RIGHT), ("2,^1,^9", RIGHT), ("2", WRONG), ("2,^3", WRONG), ("1,^2", WRONG)]
)
def test_nested_container_needs_its_parent_in_the_chain(said: str, expected: str) -> None:
    outer = Label(1, "known", ID)
    assert container_outcome(Answer(said), Label(2, "known", ID, outer), {1: "1", 2: "2"}) == expected


def test_container_without_an_agreed_name_is_never_right() -> None:
    assert container_outcome(Answer("5"), Label(3, "sandbox"), {}) == WRONG


def test_names_go_to_the_most_frequent_pair_and_are_one_to_one() -> None:
    counts = {(1, "a"): 10, (2, "a"): 3, (2, "b"): 2, (3, "b"): 1}
    assert assign_names(counts, {}) == {1: "a", 2: "b"}


def test_name_of_a_known_container_is_not_free_for_a_sandbox() -> None:
    assert assign_names({(2, "16"): 100}, {1: "16"}) == {1: "16"}


NS: dict[str, NsRef] = {name: (4, 100 + i) for i, name in enumerate(NS_TYPES)}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (Answer(ns=NS), RIGHT),
        (Answer(ns={**NS, "net": (4, 1)}), WRONG),
        (Answer(ns={**NS, "net": (5, NS["net"][1])}), WRONG),
        (Answer(ns={**NS, "net": None}), UNKNOWN),
        (Answer(ns={name: ref for name, ref in NS.items() if name != "mnt"}), UNKNOWN),
        (Answer(ns={name: ref for name, ref in NS.items() if name != "time"}), RIGHT),
        (Answer(ns={**NS, "time": (4, 1)}), WRONG),
        (Answer(), MISSING),
        (None, ABSENT),
    ],
)
def test_namespaces_are_compared_type_by_type(said: Answer | None, expected: str) -> None:
    assert namespaces_outcome(said, NS) == expected


def run_of(*pairs: tuple[int, str | None]) -> tuple[dict[str, Action], dict[str, Answer]]:
    actions = {f"1.000:{i}": Action(1, label, i, "e", 50 + i) for i, (label, _) in enumerate(pairs)}
    return actions, {f"1.000:{i}": Answer(said) for i, (_, said) in enumerate(pairs)}


def test_two_containers_merged_into_one_are_not_both_right() -> None:
    labels = Labels()
    labels.new("sandbox", count=2)
    actions, answers = run_of((1, "5"), (1, "5"), (2, "5"), (HOST, None))
    total = score(actions, answers, labels, lambda label: None, {}).total
    assert dict(total.containers) == {RIGHT: 3, WRONG: 1}


def test_one_container_split_in_two_is_right_once() -> None:
    labels = Labels()
    labels.new("sandbox")
    actions, answers = run_of((1, "5"), (1, "5"), (1, "6"))
    assert dict(score(actions, answers, labels, lambda label: None, {}).total.containers) == {RIGHT: 2, WRONG: 1}


def test_known_container_is_judged_by_its_own_id_not_by_majority() -> None:
    labels = Labels()
    labels.new("known", ID)
    actions, answers = run_of((1, "99"), (1, "99"), (1, "16"))
    result = score(actions, answers, labels, lambda label: contid_of(label.ident), {})
    assert dict(result.total.containers) == {WRONG: 2, RIGHT: 1}
    assert result.examples[0] == (
        "1.000:0 Action(workload=1, label=1, seq=0, kind='e', pid=50) wrong: said 99 instead of 16"
    )


def test_peer_is_judged_by_the_full_id() -> None:
    labels = Labels()
    labels.new("known", ID)
    actions, answers = run_of((1, ID), (1, ID[:-1] + "0"), (1, None))
    counts = score(actions, answers, labels, Laurel().name_of, {}).total.containers
    assert dict(counts) == {RIGHT: 1, WRONG: 1, MISSING: 1}


def test_event_that_never_came_out_is_absent() -> None:
    actions, _ = run_of((HOST, None))
    assert dict(score(actions, {}, Labels(), lambda label: None, {}).total.containers) == {ABSENT: 1}


def test_namespaces_are_scored_only_for_a_subject_that_tells_them() -> None:
    actions, answers = run_of((HOST, None))
    seen = {actions["1.000:0"].ns_key: NS}
    assert not score(actions, answers, Labels(), lambda label: None, seen).total.namespaces
    answers["1.000:0"].ns = NS
    assert dict(score(actions, answers, Labels(), lambda label: None, seen).total.namespaces) == {RIGHT: 1}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (Answer(ns={**NS, "net": None}), RIGHT),
        (Answer(ns=NS), RIGHT),
        (Answer(ns={**NS, "net": (4, 1)}), WRONG),
        (Answer(ns={**NS, "net": None, "uts": None}), UNKNOWN),
        (Answer(ns={name: ref for name, ref in NS.items() if name != "net"}), UNKNOWN),
    ],
)
def test_unknown_is_right_where_the_records_cannot_tell_and_only_there(said: Answer, expected: str) -> None:
    assert namespaces_outcome(said, NS, ("net",)) == expected
    actions, answers = run_of((HOST, None), (HOST, None))
    for event, kind in zip(actions, "es", strict=True):
        actions[event] = dataclasses.replace(actions[event], kind=kind)
        answers[event].ns = said.ns
    seen = {action.ns_key: NS for action in actions.values()}
    undecided = {(1, HOST, "s"): ("net",), (2, HOST, "e"): ("net",), (1, 1, "e"): ("net",)}
    result = score(actions, answers, Labels(), lambda label: None, seen, undecided=undecided)
    assert result.total.namespaces == Counter([namespaces_outcome(said, NS), expected])


@pytest.mark.parametrize(
    ("outcome", "lossless", "missed"),
    [
        (RIGHT, True, False),
        (UNKNOWN, True, True),
        (UNKNOWN, False, False),
        (ABSENT, True, True),
        (ABSENT, False, False),
        (WRONG, False, True),
        (MISSING, False, True),
    ],
)
def test_bar(outcome: str, lossless: bool, missed: bool) -> None:
    said = {RIGHT: "16", UNKNOWN: "?", WRONG: "17", MISSING: None, ABSENT: None}[outcome]
    labels = Labels()
    labels.new("known", ID)
    actions, answers = run_of((1, said))
    if outcome == ABSENT:
        answers = {}
    result = score(actions, answers, labels, lambda label: contid_of(label.ident), {})
    reasons = verdict(result, {1: "podman"}, lossless=lossless)
    assert reasons == ([f"podman: 1 {outcome}"] if missed else [])


LOG = f"""\
type=SYSCALL msg=audit(10.001:7): arch=c syscall=59 success=yes a0=1 ppid=5 pid=60 uid=0
type=EXECVE msg=audit(10.001:7): argc=6 a0="/truth" a1="{TOKEN}" a2="3" a3="12" a4="99" a5="out=/truth.log"
type=SYSCALL msg=audit(10.002:8): arch=c syscall=59 success=yes a0=1 ppid=5 pid=61 uid=0
type=EXECVE msg=audit(10.002:8): argc=7 a0="lxc-start" a1="--" a2="/truth" a3="{TOKEN}" a4="3" a5="12" a6="98"
type=SYSCALL msg=audit(10.002:9): arch=c syscall=140 success=no exit=-22 a0=40112233 a1=c a2=64 a3=3 ppid=5 pid=60 uid=0
type=SYSCALL msg=audit(10.002:10): arch=c syscall=140 success=no exit=-22 a0=40112234 a1=c a2=6 a3=3 ppid=5 pid=60 uid=0
type=EXECVE msg=audit(10.003:11): argc=5 a0="/truth" a1="ffffffffffffffff" a2="3" a3="12" a4="97"
"""


def test_actions_are_read_from_the_arguments_of_this_run_only() -> None:
    assert read_actions(LOG.encode(), TOKEN) == {
        "10.001:7": Action(workload=3, label=12, seq=99, kind="e", pid=60),
        "10.002:9": Action(workload=3, label=12, seq=100, kind="s", pid=60),
    }


def test_namespace_truth_leaves_out_other_runs_and_what_could_not_be_seen() -> None:
    lines = [f"{TOKEN} 3 12 99 e 4 1 2 3 4 5 0 7 8\n", "ffffffffffffffff 3 12 99 e 4 9 9 9 9 9 9 9 9\n"]
    lines.append(f"{TOKEN} 3 12 98 e 0 0 0 0 0 0 0 0 0\n")
    seen = read_namespaces(lines, TOKEN)
    inodes = {"cgroup": 1, "ipc": 2, "mnt": 3, "net": 4, "pid": 5, "user": 7, "uts": 8}
    assert seen == {(3, 12, 99, "e"): {name: (4, inode) for name, inode in inodes.items()}}


def test_shared_pids_are_those_of_several_labels() -> None:
    actions = [Action(1, 1, 1, "e", 50), Action(1, 2, 2, "e", 50), Action(1, 1, 3, "e", 51), Action(1, 1, 4, "s", 51)]
    assert shared_pids(actions) == 1


ENRICHED = b"""\
node=h type=SYSCALL msg=audit(1.000:1): pid=5
node=h type=CONTAINER_ID msg=audit(1.000:1): record=1 contid=4,^2
type=OBJ_PID msg=audit(1.000:1): opid=7
type=CONTAINER_ID msg=audit(1.000:1): record=3 contid=9
type=SYSCALL msg=audit(1.000:2): pid=5
type=UNKNOWN[1340] msg=audit(1.000:2): record=1 contid=?
type=SYSCALL msg=audit(1.000:3): pid=5
type=SYSCALL msg=audit(1.000:4): pid=5
type=CONTAINER_ID msg=audit(1.000:4): contid=4
type=CONTAINER_ID msg=audit(1.000:4): contid=5
type=USER_CMD msg=audit(1.000:5): pid=1 msg='contid=7'
type=CONTAINER_LOST msg=audit(1.000:2147483650): source=perf cpu=0 count=3
"""


def test_enriched_text_gives_the_subject_of_each_event() -> None:
    told = {event: answer.container for event, answer in parse_text(ENRICHED).items()}
    assert told == {
        "1.000:1": "4,^2",
        "1.000:2": "?",
        "1.000:3": None,
        "1.000:4": "4;5",
        "1.000:5": None,
        "1.000:2147483650": None,
    }
    assert count_losses(ENRICHED) == 1


def test_json_lines_give_container_and_namespaces() -> None:
    lines = [
        b'{"v":1,"time":"1.000","serial":7,"contid":"4,^2","ns":{"net":{"dev":4,"ino":9,"serial":1},"mnt":null}}\n',
        b'{"v":1,"time":1.5,"serial":8,"contid":"?"}\n',
        b'{"v":1,"time":"1.500","serial":9,"ns":[{"type":"net","dev":4,"ino":9}]}\n',
        b'{"v":1,"status":{}}\n',
    ]
    assert dict(parse_json(lines)) == {
        "1.000:7": Answer("4,^2", {"net": (4, 9), "mnt": None}),
        "1.500:8": Answer("?"),
        "1.500:9": Answer(None, {"net": (4, 9)}),
    }


def test_event_told_in_two_pieces_that_disagree_is_right_for_nobody(tmp_path: Path) -> None:
    whole = '{"v":1,"time":"1.000","serial":7,"contid":"4"}\n'
    (tmp_path / "listen.json").write_text(whole + '{"v":1,"time":"1.000","serial":7,"contid":null}\n')
    assert AuditnsListen().answers(tmp_path) == {"1.000:7": Answer("4;None")}
    (tmp_path / "listen.json").write_text(whole * 2)
    assert AuditnsListen().answers(tmp_path) == {"1.000:7": Answer("4")}


def test_contid_is_the_first_sixteen_hex_digits() -> None:
    assert contid_of(ID) == "16"


def result_of(right: int, wrong: int) -> report.PassResult:
    labels = Labels()
    labels.new("known", ID)
    actions, answers = run_of(*[(1, "16")] * right, *[(1, "17")] * wrong)
    scored = score(actions, answers, labels, lambda label: contid_of(label.ident), {})
    result = report.PassResult("idle", 1.0, {1: right + wrong}, {1: right + wrong}, 0, 0, {1: "podman"})
    result.subjects["auditns"] = report.SubjectResult("1", scored, 0, [])
    return result


def test_one_wrong_in_many_never_shows_as_100_per_cent() -> None:
    assert "99.9 %" in report.table(result_of(9999, 1))
    assert "100 %" in report.table(result_of(10000, 0))


def test_actions_that_auditd_did_not_log_make_a_run_incomplete() -> None:
    result = result_of(3, 0)
    result.planned[1] = 4
    assert result.incomplete() == ["podman: 4 actions made, 3 audited"]


def test_section_replaces_only_what_is_between_its_markers(tmp_path: Path) -> None:
    file = tmp_path / "BENCHMARKS.md"
    file.write_text("before\n")
    report.write_section(file, report.section([result_of(1, 0)], "command one"))
    file.write_text(file.read_text() + "after\n")
    report.write_section(file, report.section([result_of(2, 0)], "command two"))
    text = file.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "command one" not in text
    assert "| idle | auditns | 2 | 100 % | 0 | 0 | 0 | 0 | – | 0 |" in text


def test_tallies_add_up() -> None:
    one = result_of(2, 1).subjects["auditns"].score.total
    total = Tally()
    total.add(one)
    total.add(one)
    assert (total.events, total.containers[RIGHT], total.containers[WRONG]) == (6, 4, 2)
