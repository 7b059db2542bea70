"""When it is no longer relied on that every exec makes a record."""

import time

import pytest

from auditns_connector.auditrules import codec, watch
from auditns_connector.auditrules.netlink import AuditControl, LoadedRules
from auditns_connector.auditrules.watch import RuleWatch
from auditns_connector.audittext.scanner import TextStream
from auditns_connector.errors import AuditnsError
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.audit_text import MAX_HOLES
from auditns_connector.vocabulary.syscalls import EXEC_CALLS, NAMESPACE_CALLS

from .test_auditctl import SlowKernel

ALL = f.RULES_EXECS | f.RULES_CALLS


class Run:
    """All was audited since 5 when the watch began; texts come one after the other, at times 10, 20 …"""

    def __init__(self, whole: bool = False) -> None:
        self.frames: list[f.Frame] = []
        self.watch = RuleWatch(lambda block: self.frames.extend(f.iter_frames(block)))
        self.stream = TextStream(whole=whole)
        self.now = 0
        self.changed: list[bool] = []
        self.watch._read = 5
        self.watch._say(ALL, 5)

    def come(self, *texts: bytes, end: bool = False) -> int:
        """Since when all is audited, as the model knows it when the last of ``texts`` is answered; -1: it is not."""
        for text in texts:
            self.now += 10
            self.stream.at(self.now)
            self.changed.append(self.watch.before_answer(self.stream.push(text), self.stream))
        if end:
            self.changed.append(self.watch.before_answer(self.stream.flush(eof=True), self.stream))
        return self.frames[-1].cgroup if self.frames[-1].arg else -1


def said(*texts: bytes) -> tuple[list[int], list[bool]]:
    """What is said of the rules behind the first event, and what comes back."""
    run = Run()
    run.come(*texts, end=True)
    assert run.frames[0].arg == ALL
    return [frame.arg for frame in run.frames if frame.cgroup != 10][1:], run.changed


def syscall(serial: int, more: bytes = b"", pid: int = 5) -> bytes:
    head = b" msg=audit(1700000000.000:%d): " % serial
    lines = [b"type=SYSCALL" + head + b'arch=c000003e syscall=44 success=yes exit=1 ppid=1 pid=%d comm="x"\n' % pid]
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
    assert said(syscall(1), syscall(2) + syscall(3), syscall(4)) == ([], [False] * 4)


@pytest.mark.parametrize("whole", [False, True])
def test_all_is_audited_since_the_first_event_came(whole: bool) -> None:
    assert Run(whole).come(syscall(1), syscall(2), syscall(3), end=True) == 10


@pytest.mark.parametrize("whole", [False, True])
def test_a_hole_begins_it_anew(whole: bool) -> None:
    run = Run(whole)
    assert run.come(syscall(1), syscall(3), syscall(4), end=True) == 20
    assert run.come(syscall(6), syscall(7), end=True) == 40


@pytest.mark.parametrize("whole", [False, True])
def test_a_hole_that_is_filled_is_none(whole: bool) -> None:
    """Another CPU has taken its serial first and written its event last."""
    run = Run(whole)
    assert run.come(syscall(1), syscall(4), end=True) == 20
    assert run.come(syscall(3), syscall(5), end=True) == 20
    assert run.come(syscall(2), syscall(6), end=True) == 10


@pytest.mark.parametrize("whole", [False, True])
def test_events_that_are_written_at_the_same_time_are_no_hole(whole: bool) -> None:
    """The younger is answered while the older, of another process, is open."""
    run = Run(whole)
    older, younger = syscall(2, pid=6).splitlines(True), syscall(3, pid=7).splitlines(True)
    assert run.come(syscall(1), older[0] + younger[0] + younger[1], syscall(4)) == 10
    assert run.come(older[1], syscall(5), end=True) == 10


@pytest.mark.parametrize("whole", [False, True])
def test_an_event_without_an_end_before_one_of_the_same_process(whole: bool) -> None:
    """It is not known which of its own doings each tells of: both may be execs."""
    run = Run(whole)
    cut, later = syscall(2, pid=6).splitlines(True)[0], syscall(3, pid=6)
    before = time.monotonic_ns()
    assert run.come(syscall(1), cut + later, syscall(4), syscall(5), end=True) == 10
    assert [frame.cgroup > before for frame in run.frames] == [False, False, True, False]


def test_an_event_without_an_end_behind_those_of_the_same_process() -> None:
    run = Run(whole=True)
    assert run.come(syscall(1, pid=6) + syscall(2, pid=6), end=False) == 10
    assert [frame.cgroup for frame in run.frames] == [5, 10]


@pytest.mark.parametrize("whole", [False, True])
def test_an_event_that_lacks_its_system_call_is_missing(whole: bool) -> None:
    """What it was lies in the record that is lost."""
    run = Run(whole)
    assert run.come(syscall(1), syscall(2).splitlines(True)[1] + syscall(3), end=True) == 20


@pytest.mark.parametrize("whole", [False, True])
def test_an_event_whose_system_call_comes_behind_others(whole: bool) -> None:
    run = Run(whole)
    denied = b"type=AVC msg=audit(1700000000.000:2): avc:  denied  { read } for  pid=5\n"
    assert run.come(syscall(1), denied + syscall(2) + syscall(3), end=True) == 10


@pytest.mark.parametrize("whole", [False, True])
def test_what_others_number_is_no_hole_and_fills_none(whole: bool) -> None:
    """auditd counts its own events by itself, and ours are numbered apart; another host's are another sequence."""
    run = Run(whole)
    daemon = b"type=DAEMON_ROTATE msg=audit(1700000000.000:77): op=rotate-logs auid=0 pid=9 res=success\n"
    ours = b"type=CONTAINER_LOST msg=audit(1700000000.000:2147483700): source=perf count=1\n"
    assert run.come(syscall(1), daemon, ours, syscall(2), end=True) == 10
    foreign = b"".join(b"node=other " + line for line in syscall(4).splitlines(True))
    assert run.come(syscall(5), foreign, syscall(6), syscall(7), end=True) == 70


@pytest.mark.parametrize("whole", [False, True])
def test_serials_wrap(whole: bool) -> None:
    run = Run(whole)
    assert run.come(*[syscall(serial) for serial in ((1 << 32) - 2, (1 << 32) - 1, 0, 1)], end=True) == 10
    run = Run(whole)
    assert run.come(*[syscall(serial) for serial in ((1 << 32) - 2, 0, 1)], end=True) == 20
    assert run.come(syscall((1 << 32) - 1), end=True) == 10


@pytest.mark.parametrize("whole", [False, True])
def test_many_holes_are_bounded_and_the_oldest_is_given_up(whole: bool) -> None:
    run = Run(whole)
    for serial in range(1, 4 * MAX_HOLES, 2):
        run.come(syscall(serial))
    last = run.come(syscall(4 * MAX_HOLES + 1), end=True)
    assert last == run.now
    late = [syscall(serial) for serial in range(2 * MAX_HOLES + 2, 4 * MAX_HOLES + 1, 2)]
    filled = run.come(*late, end=True)
    assert 10 < filled < last
    assert run.come(*[syscall(serial) for serial in range(2, 2 * MAX_HOLES, 2)], end=True) == filled


def test_the_text_of_a_container_is_no_change() -> None:
    told = syscall(1).replace(b'comm="x"', b'comm="type=CONFIG_CHANGE msg=audit(1700000000.000:1): "')
    assert said(told) == ([], [False] * 2)


class Asking:
    """A watch whose kernel answers when the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(watch.os, "uname", lambda: Machine)
        arches = codec.ARCHES["x86_64"]
        names = (*EXEC_CALLS, *NAMESPACE_CALLS)
        self.kernel = SlowKernel(
            *(
                codec.build_syscall_rule(arch, sorted(table[name] for name in names), "k")
                for arch, table in arches.items()
            )
        )
        self.frames: list[f.Frame] = []
        self.watch = RuleWatch(lambda block: self.frames.extend(f.iter_frames(block)))
        self.watch._control = AuditControl(self.kernel)
        self.answers: list[LoadedRules | AuditnsError] = []
        self.watch.on_answer.append(self.answers.append)

    def answer(self) -> None:
        for _ in range(2):
            self.kernel.acknowledge()
            self.kernel.reply()
            self.watch.go_on()


class Machine:
    machine = "x86_64"


def test_nobody_waits_for_what_the_kernel_says_of_its_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop stood still for ten seconds where the thread of the kernel's that answers had no CPU."""
    asking = Asking(monkeypatch)
    asking.kernel.waited.clear()
    asking.watch.read()
    assert asking.watch.asking
    assert max(asking.kernel.waited) <= 0.05
    assert asking.frames == []
    asking.kernel.waited.clear()
    asking.answer()
    assert max(asking.kernel.waited) <= 0.001
    assert [(frame.arg, frame.cgroup > 0) for frame in asking.frames] == [(ALL, True)]
    (answer,) = asking.answers
    assert isinstance(answer, LoadedRules)
    assert not asking.watch.asking


def test_an_answer_from_before_a_change_is_moot(monkeypatch: pytest.MonkeyPatch) -> None:
    asking = Asking(monkeypatch)
    asking.watch.read(0.0)
    asking.kernel.acknowledge()
    asking.kernel.reply()
    old, asking.kernel.queue = asking.kernel.queue, []
    asking.kernel.rules = ()
    asking.watch.read(0.0)
    asking.kernel.queue += old
    asking.watch.go_on()
    assert asking.watch.asking
    asking.answer()
    assert asking.frames == []
    assert len(asking.answers) == 1


def test_what_the_kernel_never_answers_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asking = Asking(monkeypatch)
    asking.watch.read(0.0)
    monkeypatch.setattr(watch, "_NEVER", -1.0)
    asking.watch.go_on()
    monkeypatch.setattr(watch, "_NEVER", 10.0)
    asking.watch.go_on()
    assert [kind for kind, _ in asking.kernel.sent] == [1013, 1013]


def test_who_may_not_ask_takes_nothing_for_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    asking = Asking(monkeypatch)
    asking.watch._say(ALL, 5)
    asking.watch.read(0.0)
    asking.kernel.queue.append(OSError(1, "no"))
    asking.watch.go_on()
    assert [frame.arg for frame in asking.frames] == [ALL, 0]
    assert isinstance(asking.answers[0], AuditnsError)
    assert not asking.watch.asking
