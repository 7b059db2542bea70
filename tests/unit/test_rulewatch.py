"""When it is no longer relied on that every exec makes a record."""

from auditns_connector.auditrules.watch import RuleWatch
from auditns_connector.audittext.scanner import TextStream
from auditns_connector.vocabulary import frames as f

ALL = f.RULES_EXECS | f.RULES_CALLS


def said(*texts: bytes) -> tuple[list[int], list[bool]]:
    """What goes to the model and what comes back, when all was audited and these texts come, each a block."""
    frames: list[bytes] = []
    watch, stream = RuleWatch(frames.append), TextStream()
    watch._say(ALL)
    changed = [watch.before_answer(stream.push(text), stream.changes) for text in texts]
    changed.append(watch.before_answer(stream.flush(eof=True), stream.changes))
    return [frame.arg for block in frames for frame in f.iter_frames(block)][1:], changed


def syscall(serial: int, more: bytes = b"") -> bytes:
    head = b" msg=audit(1700000000.000:%d): " % serial
    lines = [b"type=SYSCALL" + head + b'arch=c000003e syscall=44 success=yes exit=1 pid=5 ppid=1 comm="x"\n']
    if more:
        lines.insert(0, b"type=" + more + head + b'op=remove_rule key="k" list=4 res=1\n')
    return b"".join([*lines, b"type=PROCTITLE" + head + b"proctitle=78\n"])


def test_a_change_of_the_rules_in_the_event_of_who_changed_them() -> None:
    assert said(syscall(1) + syscall(2, b"CONFIG_CHANGE") + syscall(3)) == ([0], [True, False])


def test_a_change_alone() -> None:
    line = b"type=CONFIG_CHANGE msg=audit(1700000000.000:2): op=remove_rule res=1\n"
    assert said(syscall(1), line, syscall(3))[0][-1] == 0
    assert True in said(syscall(1), line, syscall(3))[1]


def test_nothing_is_said_while_every_record_comes() -> None:
    assert said(syscall(1), syscall(2) + syscall(3), syscall(4)) == ([ALL], [False] * 4)


def test_a_hole_begins_it_anew() -> None:
    assert said(syscall(1), syscall(3)) == ([ALL, ALL], [False] * 3)


def test_the_text_of_a_container_is_no_change() -> None:
    told = syscall(1).replace(b'comm="x"', b'comm="type=CONFIG_CHANGE msg=audit(1700000000.000:1): "')
    assert said(told) == ([ALL], [False] * 2)
