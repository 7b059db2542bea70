"""The real ausearch groups the records of ours with their events wherever it can (see auditns-records(5)).

Each test runs with the installed one and with the newest that was unpacked here (``make peers``).
"""

import os
import subprocess
from pathlib import Path

import pytest

from tests import peers
from tests.kernel.support import unmet

from .enriching import DATA, enrich


@pytest.fixture(params=["installed", "newest"], autouse=True)
def ausearch_there(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first ausearch in PATH is that of the version under test."""
    try:
        peer = (peers.installed if request.param == "installed" else peers.newest)("ausearch")
    except peers.NotHereError as error:
        if request.param == "installed":
            unmet(str(error))
        pytest.skip(str(error))
    monkeypatch.setenv("PATH", os.pathsep.join((str(peer.path.parent), os.environ["PATH"])))


def ausearch(log: Path, *args: str) -> str:
    done = subprocess.run(
        ["ausearch", "-if", str(log), *args], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def events(log: Path, *args: str) -> int:
    return ausearch(log, *args).count("----\n")


def rows(log: Path) -> int:
    return len(ausearch(log, "--format", "csv").splitlines()) - 1


@pytest.fixture(params=["raw", "enriched", "stream"])
def data(request: pytest.FixtureRequest) -> bytes:
    return (DATA / f"{request.param}.log").read_bytes()


def users(data: bytes) -> int:
    """Events of a type that ausearch ends at once."""
    return data.count(b"type=USER msg")


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_numeric_spelling_is_grouped_but_for_user_records(data: bytes, tmp_path: Path) -> None:
    before, after = write(tmp_path / "before", data), write(tmp_path / "after", enrich(data, numeric=True))
    assert users(data) > 0
    assert events(before) > 20
    assert events(after) == events(after, "-i") == events(before) + users(data)
    assert rows(after) == events(after)
    kill = ausearch(after, "-i", "-k", "golden", "-sc", "kill")
    assert kill.count("UNKNOWN[1340]") == 2 * kill.count("type=SYSCALL") > 0


def test_symbolic_spelling_is_grouped_but_for_user_records(data: bytes, tmp_path: Path) -> None:
    before, after = write(tmp_path / "before", data), write(tmp_path / "after", enrich(data, numeric=False))
    assert users(data) > 0
    assert events(after) == events(before) + users(data)
    assert events(after, "-i") == events(before) + users(data)
    kill = ausearch(after, "-i", "-k", "golden", "-sc", "kill")
    assert kill.count("CONTAINER_ID") == 2 * kill.count("type=SYSCALL") > 0


def test_a_users_record_is_found_with_its_container_by_serial(data: bytes, tmp_path: Path) -> None:
    after = write(tmp_path / "after", enrich(data, numeric=True))
    pid = data.split(b"type=USER msg=")[1].split(b"pid=")[1].split()[0].decode()
    serial = data.split(b"type=USER msg=audit(")[1].split(b":")[1].split(b")")[0].decode()
    found = ausearch(after, "-a", serial)
    assert f"contid={pid},^7" in found
    assert "type=USER" in found


@pytest.mark.parametrize("numeric", [False, True])
def test_a_pipe_is_read_like_a_file(data: bytes, numeric: bool) -> None:
    out = subprocess.run(["ausearch", "-i"], input=enrich(data, numeric), capture_output=True, check=True).stdout
    assert out.count(b"----\n") >= data.count(b"type=SYSCALL")
    assert out.count(b"contid=") >= data.count(b"type=SYSCALL")


def test_raw_output_is_the_same_lines(tmp_path: Path) -> None:
    out = enrich((DATA / "raw.log").read_bytes(), numeric=True)
    shown = ausearch(write(tmp_path / "after", out), "--raw").encode()
    assert sorted(shown.splitlines()) == sorted(out.splitlines())
