"""What the storm bench makes of a log of ours: here, told as lost, missing untold, wrong."""

from pathlib import Path

from tests.bench.accuracy.truth import HOST, Action, Labels
from tests.bench.storm import load, score
from tests.bench.storm.__main__ import keep

MESSAGE = "type=USER msg=audit(10.001:%d): pid=7 uid=0 auid=0 ses=1 msg='op=storm-message seq=%d'\n"
OURS = "type=CONTAINER_ID msg=audit(10.001:%d): contid=%s\n"


def judged(tmp_path: Path, text: str, actions: dict[str, Action], labels: Labels | None = None) -> score.Outcome:
    log = tmp_path / "ours.log"
    log.write_text(text)
    return score.judge(actions, score.read(log, set(actions)), labels or Labels())


def three() -> dict[str, Action]:
    return score.messages("".join(MESSAGE % (serial, serial - 5) for serial in (5, 6, 7)).encode())


def test_messages_are_the_hosts_actions() -> None:
    assert three() == {f"10.001:{n}": Action(score.MESSAGES, HOST, n - 5, "m", 7) for n in (5, 6, 7)}


def test_all_here(tmp_path: Path) -> None:
    text = "".join(MESSAGE % (serial, 0) for serial in (5, 6, 7))
    assert judged(tmp_path, text, three())[:5] == (3, 3, 0, 0, 0)


def test_what_is_missing_is_told_only_by_its_serials(tmp_path: Path) -> None:
    here = MESSAGE % (5, 0)
    lost = "type=%s msg=audit(10.002:99): source=%s cpu=? count=2 from=%s to=%s\n"
    for kind, source, low, high, untold in (
        ("CONTAINER_LOST", "audit", "6", "7", 0),
        ("UNKNOWN[1343]", "sink-file", "10.001:6", "10.001:7", 0),
        ("CONTAINER_LOST", "audit", "6", "6", 1),
        ("CONTAINER_LOST", "perf", "6", "7", 2),
        ("CONTAINER_LOST", "lifecycle", "10.000:6", "10.000:7", 2),
        ("CONTAINER_LOST", "sink-file", "10.001:?", "10.001:?", 2),
    ):
        found = judged(tmp_path, here + lost % (kind, source, low, high), three())
        assert (found.here, found.untold) == (1, untold), (kind, source)


def test_a_container_for_the_hosts_is_wrong_and_so_is_none_for_a_containers(tmp_path: Path) -> None:
    labels = Labels()
    inside = labels.new("known", "ab" * 32)
    actions = {**three(), "10.001:8": Action(1, inside.number, 1, "e", 9)}
    text = "".join(MESSAGE % (serial, 0) for serial in (5, 6, 7, 8))
    assert judged(tmp_path, text, actions, labels).wrong == 1
    right = OURS % (8, int("ab" * 8, 16))
    assert judged(tmp_path, text + right, actions, labels).wrong == 0
    assert judged(tmp_path, text + right + OURS % (5, 4711), actions, labels).wrong == 1
    unknown = judged(tmp_path, text + right + OURS % (6, "?"), actions, labels)
    assert (unknown.wrong, unknown.unknown) == (0, 1)


def test_a_storm_that_fails_does_not_count() -> None:
    assert load.Done(990, 10).counts
    assert not load.Done(989, 11).counts


def test_pieces_make_one_table(tmp_path: Path) -> None:
    """Whatever is run again takes the place of what was there."""
    path = tmp_path / "rows"
    assert keep(path, [["uts: plugin", "1"], ["userpid: control", "2"]]) == [
        ["userpid: control", "2"],
        ["uts: plugin", "1"],
    ]
    assert keep(path, [["uts: plugin †", "3"]]) == [["userpid: control", "2"], ["uts: plugin †", "3"]]
