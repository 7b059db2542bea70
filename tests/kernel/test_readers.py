"""The audit tools, every version that is there, on logs with our records: what they gave before, they give now.

What no placement keeps is counted in :data:`EXCEPTED`, and told in auditns-records(5). What audit says during the other
kernel tests is recorded and compared by .ci/run.
"""

import functools
from pathlib import Path

import pytest

from tests import compare, peers
from tests.kernel.auditkinds import KINDS, event
from tests.kernel.support import need

pytestmark = pytest.mark.kernel
GOLDEN = Path(__file__).parents[1] / "golden"
S = "msg=audit(1700000000.500:{}):"
#: events that the kernel writes beside those of KINDS
MORE = (
    ("BPF prog-id=75 op=UNLOAD",),
    ("LANDLOCK_DOMAIN domain=1a6fdc66f status=deallocated denials=3",),
    ("MAC_STATUS enforcing=1 old_enforcing=0 auid=0 ses=1 enabled=1 old-enabled=1 lsm=selinux res=1",),
    ("MAC_UNLBL_ALLOW netlabel: auid=0 ses=1 unlbl_accept=1 old=0 res=1",),
    ("ANOM_PROMISCUOUS dev=veth1 prom=256 old_prom=0 auid=4294967295 uid=0 gid=0 ses=4294967295",),
    ("FANOTIFY resp=2 fan_type=0 fan_info=0 subj_trust=2 obj_trust=2",),
    ("USER_AUTH pid=100 uid=0 auid=0 ses=1 msg='op=x acct=\"root\" res=1'", "MAC_TASK_CONTEXTS subj_selinux=a:b:c"),
    ("LOGIN pid=100 uid=0 old-auid=4294967295 auid=0 tty=(none) old-ses=4294967295 ses=1 res=1",),
    ("DAEMON_ROTATE op=rotate-logs auid=0 pid=7 res=success",),
    ("KERNEL state=initialized audit_enabled=0 res=1",),
)  # fmt: skip
#: rows of csv and text that are of kernel events without a SYSCALL, by corpus; 0 with the records apart
EXCEPTED = {"kinds": 30, "raw": 2, "enriched": 2, "stream": 2, "demo": 0}


@functools.cache
def corpus(name: str) -> bytes:
    if name == "demo":
        return (GOLDEN / "demo/audit.log").read_bytes()
    if name != "kinds":
        return (GOLDEN / f"data/{name}.log").read_bytes()
    text = [event(kind, 100 + i) for i, kind in enumerate(KINDS)]
    for i, records in enumerate(MORE):
        stamp = S.format(200 + i)
        lines = (record.partition(" ") for record in records)
        text.append("".join(f"type={kind} {stamp} {body}\n" for kind, _, body in lines).encode())
    return b"".join(text)


def tools_of(version: str) -> compare.Tools:
    try:
        return compare.tools(newest=version == "newest")
    except peers.NotHereError as error:
        if version == "newest":
            pytest.skip(str(error))
        need(False, str(error))
        raise


@pytest.mark.parametrize("placement", ["event", "apart"])
@pytest.mark.parametrize("names", ["auto", "symbolic", "numeric"])
@pytest.mark.parametrize("name", EXCEPTED)
@pytest.mark.parametrize("version", ["installed", "newest"])
def test_every_view_of_every_event_is_as_before(
    version: str, name: str, names: str, placement: str, tmp_path: Path
) -> None:
    tool = tools_of(version)
    found = compare.compare(corpus(name), tool, tmp_path, names, placement)
    assert len(found) > 20
    assert {one.view: one.missing for one in found if one.missing} == {}
    most = 0 if placement == "apart" else EXCEPTED[name]
    assert max(one.excepted for one in found) <= most
    ours = (tmp_path / "after").read_bytes().count(b"contid=")
    assert max(len(one.new) for one in found) <= ours + most
    assert ours > 0


def test_types_are_searched_by_number(tmp_path: Path) -> None:
    tool = tools_of("installed")
    log = tmp_path / "log"
    log.write_bytes(compare.enriched(event("execve", 77), "numeric", "event", tool.version).text)
    shown = tool.run("ausearch", "-if", str(log), "-i", "-m", "UNKNOWN[1340]")
    assert shown.count("----\n") == shown.count("contid=?") == shown.count("type=EXECVE") == 1
