"""A tailored stream read inside a container by the programs that people have for audit text: ausearch and LAUREL."""

import json
import re
from pathlib import Path

import pytest

from tests.kernel.programs import ROOT, until
from tests.kernel.runtimes import Runtimes
from tests.kernel.streamkit import listening, shown, start, stream, syscalls
from tests.kernel.support import AuditState, need, need_tool

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("usable_null")]
WORK = """i=0; while [ $i -lt 40 ]; do
sh -c 'echo $$ $(id -u) >> /tmp/log; exec /bin/true'; i=$((i+1)); done
sh -c 'kill -CONT 1'; echo end >> /tmp/log; exec sleep 600"""
#: the host's programs on this container's own files; LAUREL looks at /proc here as well
READ = """export PATH=/usr/bin:/usr/sbin:/bin PYTHONPATH=/opt LC_ALL=C TZ=UTC; cd /tmp; mkdir laurel
python3 -m auditns_connector.cli.main stream read --dir /stream > text || exit 1
cat text | ausearch -m SYSCALL > found || exit 2
cat text | ausearch -p 1 --format csv > first || exit 3
printf 'directory = "/tmp/laurel"\n[auditlog]\nfile = "l.json"\nsize = 100000000\n' > laurel.toml
mkdir -p /etc; echo 'root:x:0:0::/:/bin/sh' > /etc/passwd
laurel --config laurel.toml < text || exit 4"""


def test_ausearch_and_laurel_read_it_unchanged_inside(
    quiet: AuditState, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_tool("ausearch", "laurel")
    need(Path("/usr/bin/python3").exists() and Path("/lib").is_symlink(), "a merged /usr with python3")
    with listening(base, "--other-users"), Runtimes(base / "rt") as started:
        (base / "rt").chmod(0o755)
        stream(
            base, "create", "web", "--runtime", "docker", "--backlog-limit", "20000", "--owner", "100000:200000",
        )  # fmt: skip
        binds = {"usr": Path("/usr"), "opt": ROOT, "stream": base / "streams/web", "lib": Path("/usr/lib")}
        container = start(base, "runc", monkeypatch, started, ["sh", "-c", WORK], lib64=Path("/usr/lib64"), **binds)
        top = base / "rt" / container.name / "tmp"
        until(lambda: (top / "log").exists() and (top / "log").read_text().endswith("end\n"), "the script's end")
        until(lambda: shown(base, "web")["counters"]["events"] >= 80, "its events")
        container.exec(["sh", "-c", READ])
        text, found, first = ((top / name).read_text() for name in ("text", "found", "first"))
        logged = [json.loads(line) for line in (top / "laurel" / "l.json").read_text().splitlines()]
        seen = {tuple(line.split()) for line in (top / "log").read_text().splitlines()[:-1]}
    told = syscalls(text.splitlines())
    assert len(seen) == 40
    assert len(seen - {(f["pid"], f["uid"]) for f in told.values()}) <= 1
    # ausearch: every event, as one, with the very numbers
    assert {s: (f["pid"], f["uid"], f["ppid"]) for s, f in syscalls(found.splitlines()).items()} == {
        s: (f["pid"], f["uid"], f["ppid"]) for s, f in told.items()
    }
    events = [part for part in found.split("----\n") if "type=SYSCALL" in part]
    assert [part.count("type=SYSCALL") for part in events] == [1] * len(told)
    assert all(re.search(r"type=UNKNOWN\[1340\]", part) for part in events)
    of_first = [s for s, f in told.items() if f["pid"] == "1"]
    assert of_first
    assert {line.split(",")[4] for line in first.splitlines()[1:]} >= set(of_first)
    # LAUREL: one object for each, with the very numbers
    objects = {e["ID"].rpartition(":")[2]: e["SYSCALL"] for e in logged if "SYSCALL" in e}
    assert {s: (str(o["pid"]), str(o["uid"]), str(o["ppid"])) for s, o in objects.items()} == {
        s: (f["pid"], f["uid"], f["ppid"]) for s, f in told.items()
    }
    assert not [e for e in logged if "parse" in json.dumps(e)]
