"""Journals on disks that are full, read-only or gone: what is missing is counted and told, and the rest stays right."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from auditns_connector.errors import AuditnsError
from auditns_connector.host.observer import Observer
from auditns_connector.journal.files import JournalWriter
from auditns_connector.journal.reader import JournalReader
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.model.outputs import Loss
from auditns_connector.pipeline.offline import ReplayAnswers
from auditns_connector.vocabulary import frames as f

HELLO = f.pack(f.K_HELLO, f.S_PIPELINE, 1, payload=b"{}")
COMM = f.pack(f.K_COMM, f.S_PERF, 2, pid=5, tid=5, payload=b"x" * 1001)


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """As good as a full disk: a write beyond is cut short, the next one fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def kinds(path: Path) -> list[int]:
    JournalReader([str(path)])
    return [frame.kind for frame in f.iter_frames(path.read_bytes()) if frame.kind != f.K_CHECK]


def test_full_disk_tears_no_frame(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = JournalWriter(str(path))
    journal.write(HELLO)
    journal.flush()
    with no_file_larger_than(10_000):
        for _ in range(20):
            journal.write(COMM)
        journal.flush()
        assert journal.torn
        assert not journal.mend()
        journal.write(COMM)
        journal.flush()
    assert kinds(path) == [f.K_HELLO]
    assert journal.failed == 21 * len(COMM)
    assert len(journal.notices) == 1
    assert "File too large" in journal.notices[0]
    journal.write(COMM)  # who writes on without a new beginning would hide the gap
    journal.flush()
    assert kinds(path) == [f.K_HELLO]
    assert journal.mend()
    journal.write(COMM)
    journal.close()
    assert kinds(path) == [f.K_HELLO, f.K_COMM]


def test_space_again_begins_anew_behind_a_loss(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with no_file_larger_than(0):
        journal = JournalWriter(str(path))
        observer = Observer(Model(), perf=None, connector=None, ns_source="procfs", journal=journal)
        observer.start()
        journal.flush()
        observer.mark(observer.sync(), [7])
        observer.mark(observer.sync(), [], expire=1)
    assert path.stat().st_size == 0
    observer.mark(observer.sync(), [], expire=1)
    observer.mark(observer.sync(), [8], expire=1)
    observer.close()
    written = kinds(path)
    assert written[:2] == [f.K_HELLO, f.K_LOST]
    assert f.K_PROCESS in written
    assert not any(isinstance(output, Loss) for output in observer.model.outputs)  # here nothing is missing
    with ReplayAnswers([str(path)]) as answers:
        assert answers.model.processes


def test_rotation_that_fails_goes_on_in_the_old_file(tmp_path: Path) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    path = folder / "journal"
    journal = JournalWriter(str(path), max_size=2000, keep=2)
    journal.write(HELLO + COMM + COMM)
    full = journal.full
    assert full
    folder.rename(tmp_path / "moved")
    assert not journal.rotate()
    assert journal.full != full  # not again with every mark
    assert "cannot begin a new journal" in journal.notices[0]
    journal.write(COMM)
    journal.close()
    assert kinds(tmp_path / "moved" / "journal") == [f.K_HELLO, f.K_COMM, f.K_COMM, f.K_COMM]


def test_rotation_onto_a_directory(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = JournalWriter(str(path), max_size=2000, keep=1)
    (tmp_path / "journal.1" / "inside").mkdir(parents=True)
    journal.write(HELLO + COMM + COMM)
    assert not journal.rotate()
    journal.close()
    assert kinds(path) == [f.K_HELLO, f.K_COMM, f.K_COMM]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["journal", "journal.1"]


def test_full_disk_at_a_rotation_waits_for_space(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = JournalWriter(str(path), max_size=2000)
    journal.write(HELLO)
    journal.flush()
    with no_file_larger_than(1500):
        journal.write(COMM + COMM)
        assert not journal.rotate()  # the new file would begin as if nothing were missing
    assert journal.torn
    assert kinds(path) == [f.K_HELLO]
    journal.close()


def test_a_journal_of_a_later_version_is_not_guessed_at(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(f.pack(f.K_HELLO, f.S_PIPELINE, 1, payload=b'{"v": 2, "boot_id": "b"}'))
    with pytest.raises(AuditnsError, match=r"made by a later version \(format 2, this one reads 1\)"):
        JournalReader([str(path)])
