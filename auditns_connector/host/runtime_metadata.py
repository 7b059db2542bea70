"""Asks the runtimes' files about containers that no hook has described; the answers enter as REGISTER frames.

The files are read by a thread of their own: some lie in a user's directory, and who reads there may have to wait for as
long as that user likes. What comes back is fed by the main thread.
"""

import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from auditns_connector.daemon.rate import RateLimit
from auditns_connector.model.places import Container, Key
from auditns_connector.model.runtimes import BY_NAME
from auditns_connector.sources.runtime_daemons import conmon_of, monitor_of
from auditns_connector.sources.runtimefiles import NOTHING, Found, RuntimeFiles
from auditns_connector.vocabulary import frames as f

if TYPE_CHECKING:
    from auditns_connector.host.observer import Observer

#: seconds after which a container without a name is asked for again: its files may come after its first process
_AGAIN: Final = (0.5, 2.0, 5.0, 30.0)
_AT_ONCE: Final = 50
#: questions that wait while the thread is held up; beyond them none are asked
_MOST: Final = 1000
_KINDS: Final = ("runtime", "registered")
#: sandboxes asked about in a second: any user can make thousands
_SANDBOXES: Final = 20


class Question(NamedTuple):
    """Who is ``ident``, the container with the key ``key`` found in a path of ``runtime``? ``first`` is its first
    process; ``own`` is False for what a user may have made. ``runtime`` is "" for a sandbox, of which no path tells."""

    key: Key
    runtime: str
    ident: str
    first: int
    own: bool


Answer = tuple[Question, Found]


class Reader(Protocol):
    """Whoever answers questions."""

    def ask(self, question: Question) -> bool:
        """Take a question; False where there is no room."""

    def answers(self) -> Iterator[Answer]:
        """What has been answered since."""


def answer_of(files: RuntimeFiles, question: Question) -> Found:
    """What the files say."""
    if not question.runtime:
        return files.names_of_sandbox(conmon_of(question.first))
    return files.names(question.runtime, question.ident, monitor_of(question.first), question.own)


class ReaderAtOnce:
    """Answers at once, in whoever asks."""

    def __init__(self, files: RuntimeFiles) -> None:
        self._files = files
        self._answers: list[Answer] = []

    def ask(self, question: Question) -> bool:
        """Take a question, and answer it."""
        self._answers.append((question, answer_of(self._files, question)))
        return True

    def answers(self) -> Iterator[Answer]:
        """What has been answered since."""
        found, self._answers = self._answers, []
        yield from found


class ReaderThread:
    """Answers in a thread that begins with the first question; ``notify`` is called there with each answer's coming."""

    def __init__(self, files: RuntimeFiles, notify: Callable[[], None] = lambda: None) -> None:
        self._files = files
        self._notify = notify
        self._questions: queue.Queue[Question] = queue.Queue(_MOST)
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._begun = False

    def ask(self, question: Question) -> bool:
        """Take a question; False where there is no room, for the thread is held up."""
        try:
            self._questions.put_nowait(question)
        except queue.Full:
            return False
        if not self._begun:
            self._begun = True
            threading.Thread(target=self._work, name="runtime-files", daemon=True).start()
        return True

    def _work(self) -> None:
        while True:
            question = self._questions.get()
            try:
                found = answer_of(self._files, question)
            except (OSError, ValueError):
                self._files.counters["malformed"] += 1
                found = NOTHING
            self._answers.put((question, found))
            self._notify()

    def answers(self) -> Iterator[Answer]:
        """What has been answered since."""
        while not self._answers.empty():
            yield self._answers.get()


class RuntimeMetadata:
    """Names the containers of ``observer``'s model: :meth:`tick` asks for those that are due, and takes answers in."""

    def __init__(self, observer: "Observer", reader: Reader) -> None:
        self._observer = observer
        self._reader = reader
        #: container -> how often it was asked for, and when it is due again
        self._asked: dict[Container, tuple[int, float]] = {}
        self._made = -1
        self._sandboxes = RateLimit(_SANDBOXES)

    def each_round(self) -> None:
        """Ask for containers that have just come, and take answers in."""
        containers = self._observer.model.containers
        if self._made != containers.made:
            # those that are new were inserted last; whom this misses the next tick finds
            new = list(islice(reversed(containers.by_key), min(containers.made - self._made, _AT_ONCE)))
            self._made = containers.made
            self._ask_those([containers.by_key[key] for key in new])
        self._take_answers()

    def tick(self) -> None:
        """Ask for containers that are new, or were not found before."""
        self.ask_due()

    def ask_due(self) -> int:
        """:meth:`tick`; how many were due."""
        containers = self._observer.model.containers
        self._made = containers.made
        living = list(filter(_asked_about, containers.by_key.values()))
        if len(self._asked) > len(living):
            self._asked = {c: self._asked[c] for c in living if c in self._asked}
        due = self._ask_those(living)
        self._take_answers()
        return due

    def _ask_those(self, containers: list[Container]) -> int:
        """Ask for those of ``containers`` that are due, :data:`_AT_ONCE` at most; how many."""
        now = time.monotonic()
        due = list(islice((c for c in containers if self._is_due(c, now)), _AT_ONCE))
        sandboxes = [c for c in due if c.sandbox is not None]
        for container, first in first_processes(self._observer, [c for c in due if c.sandbox is None]).items():
            runtime = container.key[-1][0]
            runtime = runtime if runtime in BY_NAME else container.runtime
            self._ask(Question(container.key, runtime, container.id, first, not container.yields_id), container, now)
        for container in sandboxes:
            if container.init is None or not self._sandboxes.allows(1, time.monotonic_ns()):
                break
            self._ask(Question(container.key, "", "", container.init[0], False), container, now)
        return len(due)

    def _is_due(self, container: Container, now: float) -> bool:
        return _asked_about(container) and _nameless(container) and now >= self._asked.get(container, (0, 0.0))[1]

    def _ask(self, question: Question, container: Container, now: float) -> None:
        times = self._asked.get(container, (0, 0.0))[0]
        wait = _AGAIN[times] if times < len(_AGAIN) else float("inf")
        if self._reader.ask(question):
            self._asked[container] = times + 1, now + wait

    def _take_answers(self) -> None:
        for question, found in self._reader.answers():
            container = self._observer.model.containers.by_key.get(question.key)
            if container is None or not any(value != getattr(container, name) for name, value in found.names.items()):
                continue
            request = {"op": "names", "key": question.key, "names": found.names, "labels": found.labels}
            payload = json.dumps(request).encode()
            self._observer.feed(f.pack(f.K_REGISTER, f.S_CONTROL, time.monotonic_ns(), payload=payload))


def _asked_about(container: Container) -> bool:
    """What is inside a container has its files there, and what it calls itself is nothing to look up here."""
    return (container.kind in _KINDS or container.init is not None) and container.parent is None and container.live > 0


def _nameless(container: Container) -> bool:
    return not (container.name and container.image) and not container.role


def first_processes(observer: "Observer", containers: list[Container]) -> dict[Container, int]:
    """The pid of the oldest living process of each of ``containers``, 0 where none is known; those that are alone in
    their own pid namespace with it before others. What that takes does not grow with how many processes they have."""
    model = observer.model
    first = dict.fromkeys(containers, 0)
    for container in containers:
        init = model.incarnation(*container.init) if container.init is not None else None
        if init is not None and init is model.alive(init.pid):
            first[container] = init.pid
    others = [container for container, pid in first.items() if not pid]
    return first | model.table.oldest_in(others) if others else first
