"""The plugin under the real auditd seals what it has rotated, beside its work, and nothing is missing or double."""

import os
import re
import time
from pathlib import Path

import pytest

from auditns_connector.archive.check import check
from auditns_connector.archive.files import ArchiveFiles
from auditns_connector.archive.reader import Archive
from tests.kernel.programs import contids, events, until
from tests.kernel.test_plugin import Plugin, act, audited, true

pytest.importorskip("zstandard")
pytestmark = pytest.mark.kernel
__all__ = ["audited"]


def test_rotated_text_is_sealed_beside_the_work(audited: str, tmp_path: Path, launcher: Path, token: str) -> None:
    plugin, archive = Plugin(tmp_path, launcher), tmp_path / "archive"
    plugin.configure(f'[archive]\npath = "{archive}"\nmin_free = 0\n', output='max_size = "64K"\nkeep = 99')

    def sealed() -> int:
        counters = plugin.counters()
        assert counters["archive"]["failures"] == 0, plugin.auditd.told
        return int(counters["archive"]["sealings"])

    words = []
    with plugin.auditd.serving():
        plugin.answers(f"{token}-first")
        while sealed() < 2:
            if len(list(plugin.log.parent.iterdir())) > 10:
                time.sleep(0.1)  # who seals is nice to others: beside them it takes its time
                continue
            for _ in range(20):
                words.append(f"{token}-{len(words)}")
                act(words[-1], sandbox=len(words) % 5 == 0)
        until(lambda: plugin.log.with_name("audit.log.1").exists(), "a rotated file that stays")
    left = sorted(plugin.log.parent.glob("audit.log*"), key=lambda path: -int(path.suffix[1:].replace("log", "0")))
    assert len(left) < 20
    opened = [path.open("rb") for path in left]
    with Archive(str(archive)) as reader:
        assert len(reader.segments()) >= 2
        text = b"".join(part.tobytes() for part in reader.texts())
        for file in opened:
            file.seek(reader.sealed_upto(file.fileno()))
            text += file.read()
            file.close()
        assert reader.notices == []
        names = {row.kind for row in reader.containers()}
    with ArchiveFiles(str(archive)) as files:
        assert check(files).problems == []
    assert {"host", "container"} <= names
    found = events(text)
    assert len(found) == sum(1 for _ in found)
    by_word: dict[bytes, list[bytes]] = {}
    for lines in found.values():
        for word in set(re.findall(rb'a1="(%s-[0-9]+)"' % token.encode(), b"".join(lines))):
            by_word[word] = lines
    for number, word in enumerate(words, 1):
        one = by_word[word.encode()]
        assert bool(contids(one)) == (number % 5 == 0), word
        assert b"".join(one).count(true(word).encode()) == 1
    log, segment = plugin.log.stat(), (archive / "0000000001.zst").stat()
    assert (segment.st_mode & 0o777, segment.st_gid) == (log.st_mode & 0o777, log.st_gid)
    assert os.access(archive, os.R_OK)
