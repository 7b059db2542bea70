"""What /proc shows of whose processes are and what they run."""

import os
import struct
import threading
from pathlib import Path

import pytest

from auditns_connector.model import ancestry, logins
from auditns_connector.sources import loginuids

_UNSET = 0xFFFFFFFF


def put(root: Path, pid: int, login: str | None, session: str | None, program: str | None) -> None:
    folder = root / str(pid)
    folder.mkdir()
    for name, value in (("loginuid", login), ("sessionid", session)):
        if value is not None:
            (folder / name).write_text(value)
    if program is not None:
        (folder / "exe").symlink_to(program)


def told(root: Path) -> tuple[list[tuple[int, int, int]], dict[int, bytes]]:
    """What the payloads say."""
    who, programs, at = loginuids.read_all(str(root)), {}, 0
    while at < len(who.programs):
        pid, size = ancestry.ONE.unpack_from(who.programs, at)
        at += ancestry.ONE.size + size
        programs[pid] = who.programs[at - size : at]
    return sorted(logins.ONE.iter_unpack(who.logins)), programs


def test_what_is_there_is_told_and_what_is_not_left_out(tmp_path: Path) -> None:
    put(tmp_path, 1, "4294967295", None, "/usr/lib/systemd/systemd")  # who never logged in has no session
    put(tmp_path, 20, "1000", "3", "/usr/bin/dash (deleted)")
    put(tmp_path, 30, "0\n", "4294967295", "/a b (deleted) (deleted)")
    put(tmp_path, 31, "1000", None, None)
    put(tmp_path, 32, None, "7", " (deleted)")
    put(tmp_path, 33, "4294967296", "1", None)
    put(tmp_path, 34, "-1", "1", None)
    put(tmp_path, 35, "", "1", None)
    put(tmp_path, 36, "9" * 63, "1", None)
    put(tmp_path, 37, "1 2", "1", None)
    put(tmp_path, 38, "7", "9" * 100, "/x" * 2000)
    (tmp_path / "self").mkdir()
    found, programs = told(tmp_path)
    assert found == [(1, _UNSET, _UNSET), (20, 1000, 3), (30, 0, _UNSET)]
    assert programs == {
        1: b"/usr/lib/systemd/systemd", 20: b"/usr/bin/dash", 30: b"/a b (deleted)", 32: b"", 38: b"/x" * 2000,
    }  # fmt: skip


def test_by_two_threads_as_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for pid in range(1, 52):
        put(tmp_path, pid, str(pid), str(pid + 1), f"/{pid}" if pid % 3 else None)
    alone = told(tmp_path)
    monkeypatch.setattr(loginuids, "_MANY", 51)
    assert told(tmp_path) == alone
    assert len(alone[0]) == 51


def test_what_the_other_thread_could_not_read_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for pid in range(1, 5):
        put(tmp_path, pid, "1", "1", None)
    monkeypatch.setattr(loginuids, "_MANY", 4)
    monkeypatch.setattr(threading.Thread, "run", lambda self: None)
    with pytest.raises(MemoryError):
        loginuids.read_all(str(tmp_path))


def test_many_are_read_in_pieces(tmp_path: Path) -> None:
    for pid in range(1, 301):
        put(tmp_path, pid, str(pid), str(pid + 1), "/" + "p" * 2000 + str(pid))
    found, programs = told(tmp_path)
    assert found == [(pid, pid, pid + 1) for pid in range(1, 301)]
    assert programs == {pid: b"/" + b"p" * 2000 + b"%d" % pid for pid in range(1, 301)}


def test_of_our_own_process() -> None:
    found, programs = told(Path("/proc"))
    assert programs[os.getpid()] == os.readlink("/proc/self/exe").encode()
    raw = [int(Path(f"/proc/self/{name}").read_text()) for name in ("loginuid", "sessionid")]
    assert (os.getpid(), *raw) in found
    assert struct.calcsize("<iII") == logins.ONE.size
