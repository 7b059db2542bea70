"""Records that name no process: settled by what the record table has for their type, and never by silence."""

import json
from typing import Any

import pytest

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.audittext.scanner import TextStream
from auditns_connector.pipeline.text_stage import JSON, Enricher
from auditns_connector.vocabulary import record_types as rectypes
from tests.unit.world import HEX, World, contid

NOW = 30_000_000_000
HERE = str(contid(HEX))


class Host:
    """A run that is shown one event after the other; 100 and its child 7 are of a container, 2 is of the host."""

    def __init__(self) -> None:
        made = World()
        made.proc(2, 1, at=1)
        made.proc(100, 1, at=1, cg=f"/docker/{HEX}")
        made.fork(100, 7, 2)
        self.correlator = Correlator(made.model)
        self.enricher = Enricher(self.correlator, [JSON])
        self.source = TextStream(whole=True)
        self.serial = 10

    def show(self, *records: str) -> str | None:
        """What JSON says of an event of these records (``TYPE fields``)."""
        self.serial += 1
        text = "".join(
            f"type={kind} msg=audit(1700000000.100:{self.serial}): {body}\n"
            for kind, _, body in (record.partition(" ") for record in records)
        )
        self.source.put(text.encode())
        out = self.enricher.take(self.source.flush(), lambda p: self.correlator.answer(p, NOW))[JSON]
        event: dict[str, Any] = json.loads(bytes(out))
        found: str | None = event["contid"]
        return found


def call(pid: int) -> str:
    return f"SYSCALL arch=c000003e syscall=321 success=yes exit=3 ppid=1 pid={pid}"


@pytest.mark.parametrize("row", [row for row in rectypes.TYPES.values() if row.settled not in ("own", "-", "packet")])
def test_no_record_without_a_process_is_silence(row: rectypes.RecordType) -> None:
    assert Host().show(f"{row.name} auid=1000 ses=3 op=x res=1") == (None if row.settled == "host" else "?")


def test_types_of_tomorrow_are_unknown() -> None:
    assert Host().show("UNKNOWN[1399] op=x") == "?"
    assert Host().show("TOMORROW op=x") == "?"
    assert Host().show("UNKNOWN[1150] op=x") == "?"


@pytest.mark.parametrize(("pid", "whose"), [(100, HERE), (2, None)])
def test_the_end_of_a_bpf_program_is_its_loaders(pid: int, whose: str | None) -> None:
    host = Host()
    assert host.show("BPF prog-id=75 op=LOAD", call(pid), "PROCTITLE proctitle=00") == whose
    assert host.show("BPF prog-id=76 op=UNLOAD") == "?"
    assert host.show("BPF prog-id=75 op=UNLOAD") == whose
    assert host.show("BPF prog-id=75 op=UNLOAD") == "?"


@pytest.mark.parametrize(
    ("maker", "whose"), [(7, HERE), (100, HERE), (2, "?"), (4711, "?")], ids=["itself", "parent", "other", "gone"]
)
def test_the_end_of_a_landlock_domain_is_its_makers(maker: int, whose: str) -> None:
    host = Host()
    access = 'LANDLOCK_ACCESS domain=195ba459b blockers=fs.refer path="/usr/bin" dev="vda2" ino=351'
    domain = f'LANDLOCK_DOMAIN domain=195ba459b status=allocated mode=enforcing pid={maker} uid=0 exe="/x" comm="x"'
    assert host.show(access, domain, call(7), "PROCTITLE proctitle=00") == HERE
    assert host.show("LANDLOCK_DOMAIN domain=195ba459b status=deallocated denials=3") == whose


def test_a_landlock_domain_without_a_system_call_is_not_of_whoever_has_its_makers_pid_now() -> None:
    host = Host()
    access = 'LANDLOCK_ACCESS domain=195ba459b blockers=fs.refer path="/usr/bin" dev="vda2" ino=351'
    domain = 'LANDLOCK_DOMAIN domain=195ba459b status=allocated mode=enforcing pid=7 uid=0 exe="/x" comm="x"'
    assert host.show(access, domain) == "?"
    assert host.show(domain) == "?"
    assert host.show(access, domain, call(7), "PROCTITLE proctitle=00") == HERE
    assert host.show(domain) == HERE
    assert host.show("LANDLOCK_DOMAIN domain=195ba459b status=deallocated denials=3") == HERE
    assert host.show(domain) == "?"


def test_a_load_that_was_not_attributed_leaves_its_end_unknown() -> None:
    host = Host()
    assert host.show("BPF prog-id=75 op=LOAD", call(4711), "PROCTITLE proctitle=00") == "?"
    assert host.show("BPF prog-id=75 op=UNLOAD") == "?"


def test_an_end_with_a_serial_before_its_beginning_is_of_another_boot() -> None:
    host = Host()
    host.show("BPF prog-id=75 op=LOAD", call(100), "PROCTITLE proctitle=00")
    host.serial = 3
    assert host.show("BPF prog-id=75 op=UNLOAD") == "?"


def test_a_program_that_ends_in_a_call_is_no_longer_known() -> None:
    host = Host()
    host.show("BPF prog-id=75 op=LOAD", call(100), "PROCTITLE proctitle=00")
    assert host.show("BPF prog-id=75 op=UNLOAD", call(2), "PROCTITLE proctitle=00") is None
    assert host.show("BPF prog-id=75 op=UNLOAD") == "?"
