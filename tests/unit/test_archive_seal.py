"""Sealing: nothing is lost and nothing doubled, whatever ends it and whatever the files do meanwhile."""

import gzip
import os
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from auditns_connector.archive import seal as seal_module
from auditns_connector.archive import text_files
from auditns_connector.archive.check import check
from auditns_connector.archive.files import ArchiveFiles
from auditns_connector.archive.reader import Archive
from auditns_connector.archive.seal import LEAST_SEGMENT
from auditns_connector.archive.text_files import TextFile, rotated
from auditns_connector.errors import AuditnsError

from .archive_help import event, seal, unheard, workload

pytest.importorskip("zstandard")


def written(folder: Path, **texts: bytes) -> list[Path]:
    paths = []
    for name, text in texts.items():
        paths.append(folder / name)
        paths[-1].write_bytes(text)
    return paths


def cat(archive: Path) -> bytes:
    with Archive(str(archive)) as opened:
        text = b"".join(bytes(part) for part in opened.texts())
        assert opened.notices == []
        return text


def problems(archive: Path) -> list[str]:
    with ArchiveFiles(str(archive)) as files:
        return check(files).problems


def test_the_oldest_records_come_first_and_the_files_go(tmp_path: Path) -> None:
    one, two = workload(20), workload(20, first=21)
    paths = written(tmp_path, **{"log.1": two, "log.2": one})
    sealed = seal(tmp_path / "a", paths)
    assert (sealed.segments, sealed.removed, sealed.length) == (1, 2, len(one + two))
    assert cat(tmp_path / "a") == one + two
    assert [path.exists() for path in paths] == [False, False]


def test_mode_and_group_are_those_of_the_log(tmp_path: Path) -> None:
    (path,) = written(tmp_path, log=workload(5))
    path.chmod(0o640)
    gid = 4 if os.geteuid() == 0 else path.stat().st_gid
    os.chown(path, -1, gid)
    seal(tmp_path / "a", [path])
    for name in ("0000000001.zst", "catalogue.sqlite", "format"):
        info = (tmp_path / "a" / name).stat()
        assert (info.st_mode & 0o777, info.st_gid) == (0o640, gid), name
    folder = (tmp_path / "a").stat()
    assert (folder.st_mode & 0o777, folder.st_gid) == (0o750, gid)


def test_sealed_again_it_is_compared_and_not_doubled(tmp_path: Path) -> None:
    text = workload(50)
    (path,) = written(tmp_path, log=text)
    seal(tmp_path / "a", [path], keep=True)
    assert path.exists()
    again = seal(tmp_path / "a", [path])
    assert (again.segments, again.repeated, again.removed) == (0, 1, 1)
    assert cat(tmp_path / "a") == text


def test_what_a_file_has_grown_by_is_sealed_alone(tmp_path: Path) -> None:
    text = workload(50)
    (path,) = written(tmp_path, log=text)
    seal(tmp_path / "a", [path], keep=True)
    more = workload(10, first=51)
    path.write_bytes(text + more)
    assert seal(tmp_path / "a", [path]).length == len(more)
    assert cat(tmp_path / "a") == text + more


@pytest.mark.parametrize("behind", [10, 100])
def test_a_file_that_only_begins_alike_is_sealed_whole(behind: int, tmp_path: Path) -> None:
    one, other = workload(50), workload(10) + workload(behind, first=900)
    assert (len(other) > len(one)) is (behind == 100)
    seal(tmp_path / "a", written(tmp_path, log=one))
    seal(tmp_path / "a", written(tmp_path, log=other))
    assert cat(tmp_path / "a") == one + other


def test_segments_are_cut_between_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seal_module, "LEAST_SEGMENT", 40_000)
    text = workload(400)
    sealed = seal(tmp_path / "a", written(tmp_path, log=text), size=40_000)
    assert sealed.segments > 3
    assert cat(tmp_path / "a") == text
    with Archive(str(tmp_path / "a")) as archive:
        assert sum(row.events for row in archive.segments()) == 400
        assert [bytes(one.text) for one in archive.events()] == [
            b"type=SYSCALL" + one for one in text.split(b"type=SYSCALL")[1:]
        ]


def test_an_event_that_two_files_share_is_one(tmp_path: Path) -> None:
    """The log is rotated between two lines of an event: what is sealed goes on into the file behind."""
    first, last = workload(30), workload(30, first=31)
    middle = first.rindex(b"type=PATH")
    one, two = first[:middle], first[middle:] + last
    older, newer = written(tmp_path, **{"log.1": one, "log": two})
    seal(tmp_path / "a", [older], ahead=newer)
    assert cat(tmp_path / "a").startswith(first)
    with open(newer, "rb") as file, Archive(str(tmp_path / "a")) as archive:
        upto = archive.sealed_upto(file.fileno())
        assert sum(row.events for row in archive.segments()) == (one + two[:upto]).count(b"type=SYSCALL")
        assert cat(tmp_path / "a") + two[upto:] == first + last
    seal(tmp_path / "a", [newer])
    assert cat(tmp_path / "a") == first + last


def test_a_next_file_that_is_being_compressed_is_not_followed(tmp_path: Path) -> None:
    one, two = workload(30), workload(3000, first=31)
    older, newer = written(tmp_path, **{"log.2": one, "log.1.gz": gzip.compress(two)[:1000]})
    seal(tmp_path / "a", [older], ahead=newer)
    assert cat(tmp_path / "a").startswith(one)
    newer.write_bytes(gzip.compress(two))
    seal(tmp_path / "a", [newer])
    assert cat(tmp_path / "a") == one + two


def test_a_line_without_an_end_stays_apart_from_the_next_file(tmp_path: Path) -> None:
    one, two = workload(3).removesuffix(b"\n"), workload(3, first=4)
    seal(tmp_path / "a", written(tmp_path, x=one, y=two))
    assert cat(tmp_path / "a") == one + two
    with Archive(str(tmp_path / "a")) as archive:
        assert [row.events for row in archive.segments()] == [6]


def test_compressed_text_is_sealed_and_removed(tmp_path: Path) -> None:
    import zstandard

    one, two = workload(30), workload(30, first=31)
    paths = written(tmp_path, **{"log.2.gz": gzip.compress(one), "log.1.zst": zstandard.compress(two)})
    seal(tmp_path / "a", paths)
    assert cat(tmp_path / "a") == one + two
    assert not any(path.exists() for path in paths)


def test_what_can_be_read_of_a_cut_file_is_sealed_and_the_file_stays(tmp_path: Path) -> None:
    text = workload(3000)
    whole = gzip.compress(text)
    (path,) = written(tmp_path, **{"log.1.gz": whole[: len(whole) // 2]})
    said: list[str] = []
    sealed = seal(tmp_path / "a", [path], say=said.append)
    assert len(said) == 1
    assert "damaged or cut" in said[0]
    assert "the file stays" in said[0]
    assert path.exists()
    assert sealed.removed == 0
    assert text.startswith(cat(tmp_path / "a"))
    assert sealed.length > 1000
    assert seal(tmp_path / "a", [path], say=said.append).length == 0
    path.write_bytes(whole)
    seal(tmp_path / "a", [path])
    assert cat(tmp_path / "a") == text


def test_files_that_cannot_be_read_are_told_and_the_others_sealed(tmp_path: Path) -> None:
    said: list[str] = []
    (path,) = written(tmp_path, log=workload(3))
    os.mkfifo(tmp_path / "fifo")
    seal(tmp_path / "a", [tmp_path / "none", tmp_path, tmp_path / "fifo", path], say=said.append)
    assert len(said) == 3
    assert cat(tmp_path / "a") == workload(3)


def test_a_file_that_is_renamed_meanwhile_is_removed_by_its_new_name(tmp_path: Path) -> None:
    one, two = written(tmp_path, **{"log.1": workload(3), "log.2": workload(3, first=4)})
    text = TextFile(str(one))
    os.rename(two, tmp_path / "log.3")
    os.rename(one, two)
    (tmp_path / "log.1").write_bytes(b"another\n")
    assert text.remove() == ""
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "log.1": b"another\n",
        "log.3": workload(3, first=4),
    }


def test_a_name_that_is_another_file_s_by_now_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at the name and its removal the log is rotated."""
    (path,) = written(tmp_path, **{"log.1": workload(3)})
    text = TextFile(str(path))
    find, moved = TextFile._find, []

    def rotate(self: TextFile, directory: str, name: str) -> str | None:
        found = find(self, directory, name)
        if not moved:
            moved.append(found)
            os.rename(path, tmp_path / "log.2")
            path.write_bytes(b"another\n")
        return found

    monkeypatch.setattr(TextFile, "_find", rotate)
    assert text.remove() == ""
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"log.1": b"another\n"}


def test_a_file_that_is_written_to_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = written(tmp_path, log=workload(3))
    remove = seal_module.Sealer._remove_done

    def grow(self: seal_module.Sealer, filling: object) -> None:
        with path.open("ab") as file:
            file.write(b"more\n")
        remove(self, filling)  # type: ignore[arg-type]

    monkeypatch.setattr(seal_module.Sealer, "_remove_done", grow)
    said: list[str] = []
    seal(tmp_path / "a", [path], say=said.append)
    assert path.exists()
    assert any("has grown meanwhile" in one for one in said)
    monkeypatch.undo()
    seal(tmp_path / "a", [path])
    assert cat(tmp_path / "a").startswith(workload(3) + b"more\n")


def test_rotated_files_are_found_oldest_first(tmp_path: Path) -> None:
    for name in ("log", "log.1", "log.2", "log.10.gz", "log.x", "log.3.zst", "other.1"):
        (tmp_path / name).touch()
    assert [Path(path).name for path in rotated(str(tmp_path / "log"))] == ["log.10.gz", "log.3.zst", "log.2", "log.1"]


def test_a_rotation_while_the_files_are_opened_changes_no_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, **{f"log.{n}": workload(3, first=10 * (9 - n)) for n in (1, 2, 3)})
    opened, left = text_files.open_all, [2]

    def rotate_first(paths: Sequence[str], say: Callable[[str], None]) -> list[TextFile]:
        if left[0]:
            left[0] -= 1
            for n in (5, 4, 3, 2, 1):
                if (tmp_path / f"log.{n}").exists():
                    os.rename(tmp_path / f"log.{n}", tmp_path / f"log.{n + 1}")
            (tmp_path / "log.1").write_bytes(workload(3, first=100 * (9 - left[0])))
        return opened(paths, say)

    monkeypatch.setattr(text_files, "open_all", rotate_first)
    texts = text_files.open_rotated(str(tmp_path / "log"), unheard)
    assert [text.first_ms for text in texts] == sorted(text.first_ms for text in texts)
    assert len(texts) == 5
    for text in texts:
        text.close()


def test_of_rotated_files_one_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    written(tmp_path, **{f"log.{n}": workload(3, first=10 * (9 - n)) for n in (1, 3)})
    (tmp_path / "log.2").mkdir()
    said: list[str] = []
    texts = text_files.open_rotated(str(tmp_path / "log"), said.append)
    assert [Path(text.path).name for text in texts] == ["log.3", "log.1"]
    assert len(said) == 1
    for text in texts:
        text.close()


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "important").touch()
    with pytest.raises(AuditnsError, match="is not an archive"):
        seal(tmp_path / "a", written(tmp_path, log=workload(3)))
    assert (tmp_path / "log").exists()


def test_an_archive_of_a_later_version_is_refused(tmp_path: Path) -> None:
    seal(tmp_path / "a", written(tmp_path, log=workload(3)))
    (tmp_path / "a" / "format").write_text("auditns archive 2\n")
    for attempt in (lambda: Archive(str(tmp_path / "a")), lambda: seal(tmp_path / "a", [])):
        with pytest.raises(AuditnsError, match="made by a later version"):
            attempt()


def test_a_catalogue_that_is_lost_is_made_anew(tmp_path: Path) -> None:
    one, two = workload(30), workload(30, first=31)
    seal(tmp_path / "a", written(tmp_path, log=one))
    with Archive(str(tmp_path / "a")) as archive:
        before = archive.containers(), archive.aggregates(), archive.segments()
    (tmp_path / "a" / "catalogue.sqlite").write_bytes(b"nothing of SQLite" * 100)
    with Archive(str(tmp_path / "a")) as archive:
        assert (archive.containers(), archive.aggregates(), archive.segments()) == before
        assert any("the segments are read instead" in notice for notice in archive.notices)
    said: list[str] = []
    seal(tmp_path / "a", written(tmp_path, log=two), say=said.append)
    assert any("made anew" in one for one in said)
    assert cat(tmp_path / "a") == one + two
    assert problems(tmp_path / "a") == []


_FULL = """
import sys
from pathlib import Path
from tests.unit.archive_help import seal
try:
    seal(Path(sys.argv[1]), [Path(sys.argv[2])])
except OSError as error:
    print(error.errno)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system")
def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    """In mid-seal there is no space: nothing half remains, and the text is still there."""
    rng = random.Random(1)
    text = b"".join(event(n, name=f"/{rng.getrandbits(512):x}") for n in range(20_000))
    (path,) = written(tmp_path, log=text)
    (tmp_path / "m").mkdir()
    run = (
        f"mount -t tmpfs -o size=1M none {tmp_path}/m && {sys.executable} -c '{_FULL}' {tmp_path}/m/a {path}; "
        f"ls {tmp_path}/m/a"
    )
    done = subprocess.run(["unshare", "-m", "sh", "-c", run], capture_output=True, text=True, cwd=Path.cwd())
    if done.returncode and "Operation not permitted" in done.stderr:
        pytest.skip(f"a small file system of our own: {done.stderr}")
    assert done.stdout.split() == ["28", "catalogue.sqlite", "format", "lock"], done.stderr
    assert path.read_bytes() == text


# -- killed anywhere

_KILLED = """
import os, signal, sys
from pathlib import Path
from auditns_connector.archive import seal as module
from tests.unit.archive_help import seal
left = int(sys.argv[2])
def count(frame, kind, arg):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
module.LEAST_SEGMENT = 100_000
sys.setprofile(count)
seal(Path(sys.argv[1]), [Path(path) for path in sys.argv[3:]], size=100_000)
sys.setprofile(None)
print(-left)
"""


def killed(archive: Path, point: int, paths: Sequence[Path]) -> int:
    """Seal, and be killed at the so-many-th call of any function; how many there are where that is not reached."""
    command = [sys.executable, "-c", _KILLED, str(archive), str(point), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path.cwd())
    assert done.returncode in (0, -9), done.stderr
    return int(done.stdout or 0)


def kill_at(tmp_path: Path, points: int, seed: int) -> None:
    texts = {f"log.{4 - i}": workload(250 + 100 * i, first=1000 * i + 1) for i in range(4)}
    everything = b"".join(texts.values())
    calls = killed(tmp_path / "whole", 0, written(tmp_path, **texts))
    assert calls > 1000
    assert cat(tmp_path / "whole") == everything
    rng = random.Random(seed)
    for number, point in enumerate(sorted(rng.sample(range(1, calls), points))):
        archive = tmp_path / str(number)
        paths = written(tmp_path, **texts)
        killed(archive, point, paths)
        left = [path for path in paths if path.exists()]
        if (archive / "format").exists():
            # what a reader sees at this moment is everything, once
            files = [path.open("rb") for path in left]
            with Archive(str(archive)) as opened:
                seen = b"".join(bytes(part) for part in opened.texts())
                for file in files:
                    file.seek(opened.sealed_upto(file.fileno()))
                    seen += file.read()
                    file.close()
            assert seen == everything, point
        said: list[str] = []
        seal(archive, left, size=LEAST_SEGMENT, say=said.append)
        assert cat(archive) == everything, (point, said)
        assert problems(archive) == []
        assert [path for path in paths if path.exists()] == []
        assert sorted(path.name for path in archive.iterdir() if path.suffix == ".new") == []


def test_kill_at_any_point_loses_and_doubles_nothing(tmp_path: Path) -> None:
    kill_at(tmp_path, 10, 1)


@pytest.mark.nightly
def test_kill_at_a_hundred_points_loses_and_doubles_nothing(tmp_path: Path) -> None:
    kill_at(tmp_path, 100, 2)
