"""The plugin's sealer: another process, started when there is something, told when it fails."""

import os
import time
from pathlib import Path

import pytest

from auditns_connector.archive.background import AFTER_FAILURE, PAUSE, BackgroundSealer
from auditns_connector.archive.reader import Archive
from auditns_connector.config import options
from auditns_connector.errors import ConfigError

from .archive_help import unheard, workload

pytest.importorskip("zstandard")


def config(folder: Path, text: str = "") -> str:
    path = folder / "auditns.toml"
    path.write_text(f'[output.file]\npath = "{folder}/log"\n[archive]\npath = "{folder}/a"\nmin_free = 0\n{text}')
    path.chmod(0o600)
    return str(path)


def until_done(sealer: BackgroundSealer, now: float) -> None:
    while sealer.running:
        time.sleep(0.01)
        sealer.tick(now)


def test_rotated_text_is_sealed_but_the_newest(tmp_path: Path) -> None:
    texts = [workload(50, first=1), workload(50, first=51), workload(50, first=101)]
    for number, text in zip((3, 2, 1), texts, strict=True):
        (tmp_path / f"log.{number}").write_bytes(text)
    (tmp_path / "log").write_bytes(workload(5, first=151))
    sealer = BackgroundSealer(f"{tmp_path}/a", f"{tmp_path}/log", config(tmp_path), unheard)
    sealer.tick(1.0)
    assert sealer.running
    until_done(sealer, 2.0)
    assert (sealer.sealings, sealer.failures) == (1, 0)
    assert sorted(path.name for path in tmp_path.glob("log*")) == ["log", "log.1"]
    with Archive(f"{tmp_path}/a") as archive, open(tmp_path / "log.1", "rb") as newest:
        sealed = b"".join(part.tobytes() for part in archive.texts())
        newest.seek(archive.sealed_upto(newest.fileno()))
        assert sealed + newest.read() == b"".join(texts)
    sealer.tick(1.0 + PAUSE)
    assert not sealer.running  # log.1 alone is not sealed


def test_nothing_is_started_where_nothing_was_rotated(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(workload(5))
    sealer = BackgroundSealer(f"{tmp_path}/a", f"{tmp_path}/log", config(tmp_path), unheard)
    sealer.tick(1.0)
    assert not sealer.running
    for number in (1, 2):
        (tmp_path / f"log.{number}").write_bytes(workload(5))
    sealer.tick(1.0 + PAUSE / 2)
    assert not sealer.running  # not looked at yet
    sealer.tick(1.0 + PAUSE)
    assert sealer.running
    sealer.close()
    assert not sealer.running


def test_a_failure_is_told_with_its_reason_and_tried_again_later(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"log.{number}").write_bytes(workload(5))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "something").touch()
    said: list[str] = []
    sealer = BackgroundSealer(f"{tmp_path}/a", f"{tmp_path}/log", config(tmp_path), said.append)
    sealer.tick(1.0)
    until_done(sealer, 2.0)
    assert sealer.counters() == {"path": f"{tmp_path}/a", "running": False, "sealings": 0, "failures": 1}
    assert len(said) == 1
    assert "is not an archive of auditns" in said[0]
    sealer.tick(2.0 + AFTER_FAILURE / 2)
    assert not sealer.running
    (tmp_path / "a" / "something").unlink()
    sealer.tick(2.0 + AFTER_FAILURE)
    until_done(sealer, 2.0 + AFTER_FAILURE)
    assert sealer.sealings == 1


def test_it_gives_way_and_inherits_nothing(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"log.{number}").write_bytes(workload(3000))
    sealer = BackgroundSealer(f"{tmp_path}/a", f"{tmp_path}/log", config(tmp_path), unheard)
    ours = tmp_path / "ours"  # and not the log's directory, which it opens itself
    ours.mkdir()
    held = os.open(ours, os.O_RDONLY)
    sealer.tick(1.0)
    seen = set()
    while sealer.running:
        try:
            seen.add(os.getpriority(os.PRIO_PROCESS, sealer._pid))
            if b"\0seal\0" in Path(f"/proc/{sealer._pid}/cmdline").read_bytes():  # an emulator may exec later
                assert str(ours) not in [os.readlink(fd) for fd in Path(f"/proc/{sealer._pid}/fd").iterdir()]
        except (OSError, ProcessLookupError):
            pass  # it has just ended
        sealer.tick(2.0)
    os.close(held)
    assert 19 in seen


def test_the_configuration_keeps_what_is_sealed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"output\.file\.keep: 1 is not allowed with archive\.path"):
        options.parse('[archive]\npath = "/a"\n[output.file]\nkeep = 1')
    assert options.parse('[archive]\npath = "/a"\nmax_age = "90d"').archive == ("/a", 0, 90 * 86_400, 1 << 30)
    with pytest.raises(ConfigError, match=r"archive\.max_age"):
        options.parse('[archive]\nmax_age = "1y"')
