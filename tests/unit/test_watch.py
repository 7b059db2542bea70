"""What is waited for, and what is called."""

import os
import selectors
from collections.abc import Iterator

import pytest

from auditns_connector.pipeline.selector import Selector


@pytest.fixture
def watch() -> Iterator[Selector]:
    made = Selector()
    yield made
    made.close()


def test_what_is_ready_is_called(watch: Selector) -> None:
    one, other = os.eventfd(1), os.eventfd(0)
    called: list[str] = []
    watch.register(one, selectors.EVENT_READ, lambda: called.append("one"))
    watch.register(other, selectors.EVENT_READ, lambda: called.append("other"))
    watch.poll_once(1)
    assert called == ["one"]
    os.eventfd_write(other, 1)
    watch.modify(one, selectors.EVENT_WRITE, lambda: called.append("one can be written to"))
    watch.poll_once(1)
    assert sorted(called[1:]) == ["one can be written to", "other"]
    watch.unregister(one)
    watch.unregister(other)
    called.clear()
    watch.poll_once(0)
    assert called == []
    os.close(one)
    os.close(other)


def test_what_was_let_go_is_not_called_any_more(watch: Selector) -> None:
    fds = [os.eventfd(1), os.eventfd(1)]
    called: list[int] = []

    def take(fd: int) -> None:
        called.append(fd)
        for each in fds:
            watch.unregister(each)

    watch.register(fds[0], selectors.EVENT_READ, lambda: take(fds[0]))
    watch.register(fds[1], selectors.EVENT_READ, lambda: take(fds[1]))
    watch.poll_once(1)
    assert len(called) == 1
    for fd in fds:
        os.close(fd)


def test_closing_leaves_no_descriptor() -> None:
    before = set(os.listdir("/proc/self/fd"))
    made = Selector()
    made.close()
    assert set(os.listdir("/proc/self/fd")) == before
