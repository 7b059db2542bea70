"""State files where others may have been before us."""

import os
import stat
import threading
from pathlib import Path

import pytest

from auditns_connector.errors import AuditnsError, LockedError
from auditns_connector.state.directory import MAX_STATE, SafeDir


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "run"


def test_write_read_replace_remove(place: Path) -> None:
    with SafeDir(str(place)) as directory:
        assert directory.read("state") is None
        directory.write("state", b"one")
        directory.write("state", b"two")
        assert directory.read("state") == b"two"
        assert stat.S_IMODE((place / "state").stat().st_mode) == 0o600
        assert os.listdir(place) == ["state"]
        directory.remove("state")
        directory.remove("state")
        assert directory.read("state") is None


def test_link_in_place_of_the_file_is_refused_or_replaced(place: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    with SafeDir(str(place)) as directory:
        (place / "state").symlink_to(victim)
        with pytest.raises(AuditnsError, match="symbolic link"):
            directory.read("state")
        directory.write("state", b"new")
        assert not (place / "state").is_symlink()
        (place / "lock").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(AuditnsError, match="symbolic link"), directory.locked("lock"):
            pass
    assert victim.read_bytes() == b"precious"
    assert not (tmp_path / "elsewhere").exists()


def test_link_in_place_of_the_directory_is_refused(place: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    place.symlink_to(tmp_path / "real")
    with pytest.raises(AuditnsError, match="symbolic link"):
        SafeDir(str(place))


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775])
def test_directory_open_to_others_is_refused(place: Path, mode: int) -> None:
    place.mkdir()
    place.chmod(mode)
    with pytest.raises(AuditnsError, match="written by others"):
        SafeDir(str(place))


def test_what_is_no_state_file_is_refused(place: Path) -> None:
    with SafeDir(str(place)) as directory:
        os.mkfifo(place / "pipe")
        (place / "dir").mkdir()
        (place / "large").write_bytes(bytes(MAX_STATE + 1))
        for name in ("pipe", "dir", "large"):
            with pytest.raises(AuditnsError):
                directory.read(name)


def test_failed_write_leaves_nothing_behind(place: Path) -> None:
    with SafeDir(str(place)) as directory:
        (place / "state").mkdir()
        with pytest.raises(AuditnsError):
            directory.write("state", b"x")
        assert os.listdir(place) == ["state"]


def test_missing_parent_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AuditnsError, match="cannot make"):
        SafeDir(str(tmp_path / "a" / "b"))
    with pytest.raises(AuditnsError, match="cannot open"):
        SafeDir(str(tmp_path / "a"), create=False)


def test_lock_keeps_others_out(place: Path) -> None:
    order: list[str] = []
    started = threading.Event()

    def second() -> None:
        with SafeDir(str(place)) as mine:
            started.set()
            with mine.locked("lock", wait=600.0):
                order.append("second")

    with SafeDir(str(place)) as directory:
        with directory.locked("lock"):
            other = threading.Thread(target=second)
            other.start()
            started.wait()
            order.append("first")
        other.join()
    assert order == ["first", "second"]


def test_a_lock_that_somebody_keeps_is_not_waited_for_for_ever(place: Path) -> None:
    with SafeDir(str(place)) as directory, SafeDir(str(place)) as other, directory.locked("lock"):
        with pytest.raises(LockedError, match=r"keeps .*/lock locked"), other.locked("lock", wait=0.0):
            pass
        with pytest.raises(LockedError), other.locked("lock", wait=0.02):
            pass
    with SafeDir(str(place)) as again, again.locked("lock", wait=0.0):
        pass
