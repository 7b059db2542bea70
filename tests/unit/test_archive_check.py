"""The chain of segments, and what is to stay."""

import shutil
from pathlib import Path

import pytest

from auditns_connector.archive.check import Checked, check
from auditns_connector.archive.files import ArchiveFiles
from auditns_connector.archive.reader import Archive
from auditns_connector.archive.retention import Limits, prune, to_prune
from auditns_connector.archive.seal import open_catalogue

from .archive_help import seal, unheard, workload

pytest.importorskip("zstandard")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Four segments."""
    for number in range(4):
        (tmp_path / "log").write_bytes(workload(100, first=100 * number + 1))
        seal(tmp_path / "a", [tmp_path / "log"])
    return tmp_path / "a"


def checked(archive: Path, head: str = "") -> Checked:
    with ArchiveFiles(str(archive)) as files:
        return check(files, head)


def segment(archive: Path, number: int) -> Path:
    return archive / f"{number:010d}.zst"


def test_what_was_sealed_is_good(archive: Path) -> None:
    found = checked(archive)
    assert (found.segments, found.problems) == (4, [])
    assert checked(archive, found.head).problems == []


@pytest.mark.parametrize("where", [20, 3000, -200, -10])
def test_a_changed_segment_is_found(archive: Path, where: int) -> None:
    data = bytearray(segment(archive, 2).read_bytes())
    data[where] ^= 1
    segment(archive, 2).write_bytes(data)
    assert any("0000000002.zst: changed" in problem for problem in checked(archive).problems)


def test_a_missing_segment_is_found(archive: Path) -> None:
    segment(archive, 2).unlink()
    assert "0000000002.zst: missing" in checked(archive).problems
    (archive / "catalogue.sqlite").unlink()
    assert "segments between 0000000001.zst and 0000000003.zst are missing" in checked(archive).problems


def test_segments_in_another_order_are_found(archive: Path) -> None:
    one, two = segment(archive, 2).read_bytes(), segment(archive, 3).read_bytes()
    segment(archive, 2).write_bytes(two)
    segment(archive, 3).write_bytes(one)
    for _ in range(2):
        problems = checked(archive).problems
        assert "0000000002.zst: in the wrong place: it is segment 3" in problems
        assert "0000000002.zst: does not follow 0000000001.zst" in problems
        (archive / "catalogue.sqlite").unlink(missing_ok=True)


def test_a_segment_made_anew_breaks_the_chain(archive: Path, tmp_path: Path) -> None:
    """Whole in itself, with the right number, but not what the next one follows."""
    for number in range(2):
        (tmp_path / "log").write_bytes(workload(100, first=100 * number + 7))
        seal(tmp_path / "b", [tmp_path / "log"])
    shutil.copy(segment(tmp_path / "b", 2), segment(archive, 2))
    problems = checked(archive).problems
    assert "0000000002.zst: changed: it has not the digest that stands in the catalogue" in problems
    (archive / "catalogue.sqlite").unlink()
    assert "0000000003.zst: does not follow 0000000002.zst" in checked(archive).problems


def test_an_end_that_is_gone_shows_against_a_head_that_was_noted(archive: Path) -> None:
    head = checked(archive).head
    segment(archive, 4).unlink()
    (archive / "catalogue.sqlite").unlink()
    (problem,) = [one for one in checked(archive, head).problems if "catalogue" not in one]
    assert problem.startswith(f"no segment has the digest {head}")


def pruned(archive: Path, limits: Limits, now_ms: int = 0) -> list[tuple[int, str]]:
    with ArchiveFiles(str(archive)) as files, files.locked():
        catalogue = open_catalogue(files, unheard)
        try:
            return [(row.seq, reason) for row, reason in prune(files, catalogue, limits, now_ms, unheard)]
        finally:
            catalogue.close()


def test_the_oldest_segments_go_and_the_rest_is_whole(archive: Path) -> None:
    with Archive(str(archive)) as opened:
        head = opened.segments()[1].digest
        size = sum(row.bytes for row in opened.segments()[2:])
    assert pruned(archive, Limits(max_size=size)) == [(1, "size"), (2, "size")]
    assert checked(archive).problems == []
    assert checked(archive, head).problems == []  # it was there, and was pruned
    with Archive(str(archive)) as opened:
        assert b"".join(part.tobytes() for part in opened.texts()) == workload(200, first=201)
        assert sum(row.events for row in opened.containers()) == 200
        assert {row.times for row in opened.aggregates(("key",))} == {33, 34}
        assert min(row.first_ms for row in opened.containers()) == 1_700_000_000_201
    (archive.parent / "log").write_bytes(workload(100, first=401))
    assert seal(archive, [archive.parent / "log"]).segments == 1
    assert segment(archive, 5).exists()
    assert checked(archive).problems == []


def test_age_and_free_space(archive: Path) -> None:
    with Archive(str(archive)) as opened:
        rows = opened.segments()
    now = 1_700_000_000_000 + 250 + 5000
    assert [row.seq for row, _ in to_prune(rows, Limits(max_age=5), now, 0)] == [1, 2]
    assert [row.seq for row, _ in to_prune(rows, Limits(max_age=5000), now, 0)] == []
    free = rows[0].bytes + 1
    assert [row.seq for row, _ in to_prune(rows, Limits(min_free=100 + free), now, 100)] == [1, 2]
    assert [row.seq for row, _ in to_prune(rows, Limits(min_free=1 << 60), now, 0)] == [1, 2, 3]
    assert list(to_prune([], Limits(1, 1, 1), now, 0)) == []
    assert not Limits()
    assert Limits(max_age=1)


def test_killed_between_catalogue_and_file_the_file_goes_later(archive: Path) -> None:
    saved = segment(archive, 1).read_bytes()
    pruned(archive, Limits(max_age=1), now_ms=1_700_000_002_000 - 850)
    assert not segment(archive, 1).exists()
    segment(archive, 1).write_bytes(saved)
    assert pruned(archive, Limits(max_size=1 << 40)) == []
    assert not segment(archive, 1).exists()


def test_of_a_damaged_segment_the_counts_stay(archive: Path) -> None:
    segment(archive, 1).write_bytes(b"nothing")
    said: list[str] = []
    with ArchiveFiles(str(archive)) as files, files.locked():
        catalogue = open_catalogue(files, unheard)
        assert len(prune(files, catalogue, Limits(max_size=1), 0, said.append)) == 3
        catalogue.close()
    assert len(said) == 1
    assert "the counts of its events stay" in said[0]
