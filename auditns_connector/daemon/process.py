"""A defined state of our process, whatever we were started as.

auditd starts a plugin with an empty environment, with SIGHUP and SIGTERM ignored, and after a restart with signals
blocked; systemd, a shell or cron have habits of their own. ``prepare`` is called once, first thing in a long-running
program, before threads and before anything is opened.
"""

import contextlib
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import socket

#: for a process that was given none
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
UMASK: Final = 0o027
#: by so much a program that keeps up with the whole host comes before others (setpriority(2)); auditd does likewise
PRIORITY_BOOST: Final = 10
#: by these names audit's own daemons start plugins
DAEMONS: Final = ("auditd", "audispd")
#: whether the scheduler has a group for each session, and the priority of that of ours
AUTOGROUPS: Final = "/proc/sys/kernel/sched_autogroup_enabled"
AUTOGROUP: Final = "/proc/self/autogroup"
#: what every login is given; with less a program of ours ends at a file that it cannot open
DESCRIPTORS: Final = 1024


def calm_collector() -> None:
    """Let the garbage collector look less often: our tables are large, live long, and hold next to no cycles."""
    import gc

    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@contextlib.contextmanager
def growing() -> Iterator[None]:
    """What is made in the block lives as long as we do: the collector does not look for garbage meanwhile, nor among
    it later."""
    import gc

    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collecting:
            gc.enable()


def prepare(*, daemon: bool = True) -> None:
    """Reset signals, environment, standard streams, file mode mask, inherited descriptors and how many there may be.

    ``daemon`` False leaves what belongs to a user at a terminal: the working directory, the inherited descriptors,
    an ignored SIGHUP (nohup). A daemon's stderr that is /dev/null, as auditd's plugins have it, becomes syslog.
    """
    open_standard_streams()
    calm_collector()
    reset_signals(keep_hup=not daemon)
    reset_environment()
    os.umask(UMASK)
    raise_descriptor_limit()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not one that a test has put there
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    if daemon:
        os.chdir("/")
        for fd in inherited_descriptors():
            os.close(fd)
        from auditns_connector.daemon.syslog import SyslogStream, is_null

        if is_null(2):
            sys.stderr = SyslogStream(os.path.basename(sys.argv[0]) or "auditns")


def raise_descriptor_limit(least: int = DESCRIPTORS) -> bool:
    """Allow ``least`` open files, or as many as may be: root may raise the hard limit as well (CAP_SYS_RESOURCE,
    getrlimit(2)). Whether there may be more now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for most in (max(hard, least), hard):
        if soft >= min(most, least):
            break
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, least), most))
        except (OSError, ValueError):
            continue
        return True
    return False


def give_way() -> None:
    """Work with what others leave, of the disk too (its priority follows that of the CPU, ioprio_set(2)); never with
    nothing, as the idle classes would on a host that is always busy."""
    os.setpriority(os.PRIO_PROCESS, 0, 19)  # whatever it is now: auditd runs at -4
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def boost_priority() -> None:
    """Come before others: twelve processes that make processes would else leave us a twelfth of the CPU time that it
    takes to keep up with them. Threads that are made later have the same. Where it may not be raised it stays."""
    now = os.getpriority(os.PRIO_PROCESS, 0)
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, max(now - PRIORITY_BOOST, -20))


def boost_session(*, with_parent: bool = False) -> bool:
    """Have our session, where it is ours alone or (``with_parent``) the daemon's that has started us, come before
    others by as much, and us with it; False where that cannot be had. Where the kernel shares the CPUs out by sessions
    (sched(7), autogroup) the priority of a process counts against those of its own session only: what a user's
    session does would leave the daemon and us half of the CPUs, however many processes that are, and keep both waiting
    for seconds; and raised above the daemon, we would keep it waiting whenever we have much to do. A session with
    others in it is left alone."""
    wanted = max(os.getpriority(os.PRIO_PROCESS, 0) - PRIORITY_BOOST, -20)
    if os.getsid(0) not in (os.getpid(), os.getppid() if with_parent else 0):
        return False
    with contextlib.suppress(OSError, ValueError):  # this kernel or this session has none, or it may not be raised
        with open(AUTOGROUPS, encoding="ascii") as enabled, open(AUTOGROUP, encoding="ascii") as group:
            found, now = enabled.read().strip() == "1", group.read().rpartition(" nice ")[2]
        if found and int(now) > wanted:
            with open(AUTOGROUP, "w", encoding="ascii") as group:
                group.write(str(wanted))
        return found
    return False


def boost_alone() -> None:
    """Have our own session come before others, or where that cannot be had us."""
    if not boost_session():
        boost_priority()


def boost_beside(daemon: int) -> None:
    """Come before others, and the process ``daemon`` that has started us as well, so that we never keep it waiting: it
    is raised by :data:`PRIORITY_BOOST` unless that was done before, and we are where it is. Only auditd: of any other
    process nobody knows what it is for, and we are raised alone."""
    try:
        with open(f"/proc/{daemon}/comm", encoding="utf-8", errors="replace") as comm:
            is_daemon = comm.read().strip() in DAEMONS
        now = os.getpriority(os.PRIO_PROCESS, daemon)
    except OSError:  # it is gone, or there is no /proc
        is_daemon, now = False, 0
    if not is_daemon:
        boost_priority()
        return
    wanted = now if now <= -PRIORITY_BOOST else max(now - PRIORITY_BOOST, -20)
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, daemon, wanted)
        os.setpriority(os.PRIO_PROCESS, 0, wanted)


def reset_signals(*, keep_hup: bool = False) -> None:
    """Default dispositions and nothing blocked; SIGPIPE is ignored, so that a closed pipe is an error to handle.

    An ignored SIGCHLD would take the exit codes of our children away, an ignored SIGTERM would keep us running.
    """
    for sign in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1):
        ignored = signal.getsignal(sign) == signal.SIG_IGN
        if ignored and not (keep_hup and sign == signal.SIGHUP):
            signal.signal(sign, signal.default_int_handler if sign == signal.SIGINT else signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def reset_environment() -> None:
    """A PATH and a UTF-8 locale where there is none; nothing that changes how our children's programs are loaded."""
    for name in list(os.environ):
        if name.startswith(("LD_", "PYTHON", "MALLOC_", "GLIBC_")):
            del os.environ[name]
    if not os.environ.get("PATH"):
        os.environ["PATH"] = PATH
    if not any(os.environ.get(name) for name in ("LC_ALL", "LANG")):
        os.environ["LANG"] = "C.UTF-8"


#: what signal(2) takes and gives back
Handler = Callable[[int, FrameType | None], object] | int | None


class Stopped(BaseException):
    """A signal asked for the end. No KeyboardInterrupt: where one passes through exec() of a string, as namedtuple and
    dataclass do it, CPython ends the program by SIGINT in the end, though it was caught (pythonrun.c,
    ``unhandled_keyboard_interrupt``)."""


def _heeded() -> dict[signal.Signals, Handler]:
    """SIGINT, SIGTERM and SIGHUP, those not ignored, with their handlers."""
    signs = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    return {sign: handler for sign in signs if (handler := signal.getsignal(sign)) != signal.SIG_IGN}


def _set_handlers(handlers: Mapping[signal.Signals, Handler]) -> None:
    for sign, handler in handlers.items():
        signal.signal(sign, handler)


class Signals:
    """What is done about signals in :func:`stoppable`."""

    def __init__(self, former: Mapping[signal.Signals, Handler]) -> None:
        self.former = former
        #: those that have come, whatever became of :class:`Stopped`: what is raised where an object is freed is printed
        #: to stderr and forgotten
        self.came: list[int] = []
        #: they are noted, and do nothing else
        self.held = False

    def hold(self) -> None:
        """Note them alone from now on: what there was to do is done, and only that is still to be said."""
        self.held = True

    def ignore(self) -> None:
        """Be deaf to them: what is put back now takes bounded time and must not be left half done."""
        _set_handlers(dict.fromkeys(self.former, signal.SIG_IGN))


@contextlib.contextmanager
def stoppable() -> Iterator[Signals]:
    """In the block, where it begins and where it ends SIGINT, SIGTERM and SIGHUP (those not ignored) raise
    :class:`Stopped`, so that what was changed on the host is put back whenever the end comes."""
    signals = Signals(_heeded())

    def stop(number: int, frame: FrameType | None) -> None:
        signals.came.append(number)
        if not signals.held:
            raise Stopped

    try:
        _set_handlers(dict.fromkeys(signals.former, stop))
        yield signals
    finally:
        _set_handlers(signals.former)


@contextlib.contextmanager
def woken() -> Iterator["socket.socket"]:
    """In the block every signal makes the socket given readable: whoever waits for that as well is woken by one that
    comes after it last ran a handler and before it waits. (EINTR is for those that come later.)"""
    import socket

    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)
        former = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        try:
            yield reader
        finally:
            signal.set_wakeup_fd(former)


@contextlib.contextmanager
def ended_by_signal() -> Iterator[Callable[[], bool]]:
    """In the block the first SIGINT, SIGTERM or SIGHUP (those not ignored) does nothing but that the function given
    says so from then on; a second one ends the program as it would elsewhere."""
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        _set_handlers(former)

    former = _heeded()
    try:
        _set_handlers(dict.fromkeys(former, note))
        yield lambda: bool(came)
    finally:
        _set_handlers(former)


def open_standard_streams() -> None:
    """Put /dev/null where descriptor 0, 1 or 2 is closed, so that no socket of ours becomes our stderr."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest free one: this
            if opened != fd:
                os.dup2(opened, fd)
                os.close(opened)
            os.set_inheritable(fd, True)
    # Python makes no object for a descriptor that was closed at its start
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - lives as long as we do
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def inherited_descriptors() -> list[int]:
    """Descriptors above 2 that we got from who started us.

    They have survived an exec, so they lack close-on-exec, which all that Python and we ourselves open has (PEP 446).
    Those of systemd's socket activation (LISTEN_FDS) are not among them.
    """
    passed = 0
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS", "").isdigit():
        passed = int(os.environ["LISTEN_FDS"])
    try:
        numbers = sorted(int(name) for name in os.listdir("/proc/self/fd"))
    except OSError:  # no /proc: what is there can be tried as well
        numbers = list(range(1024))
    found = []
    for fd in numbers:
        try:
            if fd > 2 + passed and os.get_inheritable(fd):
                found.append(fd)
        except OSError:
            continue  # the listing's own, or none at all
    return found
