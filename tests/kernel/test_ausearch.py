"""The real ausearch on events of every kind with our records: one event wherever audit 3.0.9 allows it.

What cannot be one event is in :func:`expected`, and in auditns-records(5).
"""

import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.audittext.scanner import Points, TextStream
from auditns_connector.pipeline.text_stage import NUMERIC, RAW, Enricher
from tests.kernel.auditkinds import KINDS, event
from tests.kernel.support import need, need_tool
from tests.unit.world import HEX, World, contid

pytestmark = pytest.mark.kernel
CONTID = f"contid={contid(HEX)}"
#: kinds whose first record ends an event for ausearch, so that nothing may follow it
USER = frozenset(("USER_LOGIN", "USER_AVC", "USER_CMD", "ANOM_LOGIN_FAILURES", "CRYPTO_KEY_USER"))


class Seen(NamedTuple):
    """What ausearch makes of one event: events by grouping, rows of csv, events found by pid with a container."""

    events: int
    rows: int
    by_pid: int


def expected(kind: str, numeric: bool) -> Seen:
    """audit 3.0.9. auparse (csv, text) ends an event at a name it does not know, ausearch only at the first record."""
    ours = 2 if kind == "kill" else 1
    titled = any(record.startswith("PROCTITLE") for record in KINDS[kind][0])
    if kind == "LOGIN":
        # two events to ausearch without our records too: LOGIN, and the system call that caused it
        return Seen(1, 2, 1) if numeric else Seen(3, 4, 1)
    if numeric:
        return Seen(1, 1, 1)
    if kind in USER:
        return Seen(2, 2, 0)
    return Seen(1, 1 + ours if titled else 1, 1)


@pytest.fixture(scope="module", autouse=True)
def ausearch_3() -> None:
    need_tool("ausearch")
    version = subprocess.run(["ausearch", "--version"], capture_output=True, text=True).stdout
    need("version 3." in version, f"ausearch 3, not {version.strip()}")


def enrich(data: bytes, numeric: bool) -> bytes:
    """``data`` by the whole way of the product, process 100 being one of a Docker container."""
    world = World()
    world.proc(100, 1, at=1, cg=f"/docker/{HEX}")
    correlator = Correlator(world.model, spellings=(numeric,), nodes={b"host1"})
    enricher = Enricher(correlator, [NUMERIC if numeric else RAW])
    stream = TextStream()

    def take(points: Points) -> bytes:
        return b"".join(enricher.take(points, lambda p: correlator.answer(p, 10_000_000_000)).values())

    return take(stream.push(data)) + take(stream.flush(eof=True))


def ausearch(log: Path, *args: str) -> str:
    """Its output on a file; empty where it finds nothing."""
    done = subprocess.run(["ausearch", "-if", str(log), *args], capture_output=True, stdin=subprocess.DEVNULL)
    assert done.returncode in (0, 1), done.stderr
    assert done.returncode == 0 or b"<no matches>" in done.stderr
    return done.stdout.decode()


def piped(data: bytes, *args: str) -> str:
    """Its output on a pipe, which it reads only when it is given an option."""
    return subprocess.run(["ausearch", *args], input=data, capture_output=True, check=True).stdout.decode()


@pytest.mark.parametrize("numeric", [False, True], ids=["symbolic", "numeric"])
@pytest.mark.parametrize(("node", "enriched"), [("", False), ("host1", True)], ids=["raw", "enriched-node"])
@pytest.mark.parametrize("kind", KINDS)
def test_one_event_with_its_container(kind: str, node: str, enriched: bool, numeric: bool, tmp_path: Path) -> None:
    data = enrich(event(kind, 77, node=node, enriched=enriched), numeric)
    log = tmp_path / "log"
    log.write_bytes(data)
    want = expected(kind, numeric)
    ours = data.count(CONTID.encode())
    assert ours == (2 if kind in ("kill", "LOGIN") else 1)
    for out in (ausearch(log), ausearch(log, "-i"), piped(data, "-i")):
        assert (out.count("----\n"), out.count(CONTID)) == (want.events, ours)
    for out in (ausearch(log, "--raw"), piped(data, "--raw")):
        # of an enriched event it ends every line with the separator
        lines = [line.removesuffix(b"\x1d") for line in out.encode().splitlines()]
        assert sorted(lines) == sorted(data.splitlines())
    assert len(ausearch(log, "--format", "csv").splitlines()) == 1 + want.rows
    assert len(piped(data, "--format", "csv").splitlines()) == 1 + want.rows
    assert len(ausearch(log, "--format", "text").splitlines()) == want.rows
    by_pid = [found for found in ausearch(log, "-i", "-p", "100").split("----\n") if found]
    assert len([found for found in by_pid if CONTID in found and "pid=100" in found]) == want.by_pid
    by_key = ausearch(log, "-i", "-k", "ours")
    assert (CONTID in by_key) == KINDS[kind][1]
    assert by_key.count("----\n") == KINDS[kind][1]


def test_types_are_searched_by_number_only(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(enrich(event("execve", 77), True) + event("syscall", 78))
    found = ausearch(log, "-i", "-m", "UNKNOWN[1340]")
    assert (found.count("----\n"), CONTID in found) == (1, True)
    done = subprocess.run(["ausearch", "-if", str(log), "-m", "CONTAINER_ID"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("Valid message types are:")
    assert "CONTAINER_ID" not in done.stderr


def test_neighbours_stay_apart(tmp_path: Path) -> None:
    """All kinds in one log: as many events as by themselves."""
    for numeric in (False, True):
        log = tmp_path / str(numeric)
        log.write_bytes(enrich(b"".join(event(kind, 100 + i) for i, kind in enumerate(KINDS)), numeric))
        assert ausearch(log).count("----\n") == sum(expected(kind, numeric).events for kind in KINDS)
        rows = len(ausearch(log, "--format", "csv").splitlines()) - 1
        assert rows == sum(expected(kind, numeric).rows for kind in KINDS)
