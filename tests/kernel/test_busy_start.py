"""A listener that starts while processes are born and end without pause: whoever there is has an answer, and none is
wrong; what it starts itself to look at the host is told to nobody."""

import contextlib
import os
import re
import secrets
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest

from auditns_connector.host.open_sources import host_observer
from auditns_connector.model.places import UNKNOWN
from tests.kernel import cgroupfs
from tests.kernel.programs import Program, contids, events, until, whole_event_of
from tests.kernel.support import AuditState, need_tool

pytestmark = pytest.mark.kernel
#: argv: a word, another, the pause between two births (µs), a file whose end is theirs. Each process of a chain makes
#: the next one and then is /bin/true; each of a loop is made by the one that stays
SOURCE: Final = r"""
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    int chain = !strcmp(argv[1], "chain");
    char word[128];

    if (argc != 5)
        return 2;
    signal(SIGCHLD, SIG_IGN);
    for (long i = 0; !access(argv[4], F_OK); i++) {
        pid_t pid = fork();

        if (pid < 0)
            return 1;
        if ((pid == 0) == !chain) {
            snprintf(word, sizeof(word), "%s-%s-%ld", argv[1], argv[2], i);
            execl("/bin/true", "/bin/true", word, (char *)0);
            _exit(1);
        }
        usleep((useconds_t)atoi(argv[3]));
    }
    return 0;
}
"""


#: ways to be born, and where
KINDS: Final = [f"{way}-{where}" for way in ("chain", "loop") for where in ("docker", "host", "sandbox")]


@pytest.fixture(scope="module")
def births(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of :data:`SOURCE`."""
    need_tool("gcc")
    folder = tmp_path_factory.mktemp("births")
    (folder / "births.c").write_text(SOURCE)
    subprocess.run(["gcc", "-O2", "-o", folder / "births", folder / "births.c"], check=True)
    return folder / "births"


@contextlib.contextmanager
def going_on(flag: Path, *commands: Sequence[str]) -> Iterator[None]:
    """``commands`` run, as long as there is ``flag``."""
    flag.touch()
    started = []
    try:
        started += [subprocess.Popen(command) for command in commands]
        yield
    finally:
        flag.unlink()
        for process in started:
            process.wait()


def seconds(lines: Sequence[bytes]) -> float:
    """The stamp of an event."""
    stamp = re.search(rb"audit\((\d+\.\d+):", lines[0])
    assert stamp is not None
    return float(stamp[1])


def answers(text: bytes, word: str) -> dict[str, list[tuple[float, list[str]]]]:
    """(stamp, contids) of the execs of all programs whose word ends in ``word``, by what comes before it."""
    found: dict[str, list[tuple[float, list[str]]]] = {}
    pattern = re.compile(rf'a1="(\w+)-(\w+)-{word}-\d+"'.encode())
    for lines in events(text).values():
        said = pattern.search(b"\n".join(lines))
        if said is not None:
            found.setdefault(f"{said[1].decode()}-{said[2].decode()}", []).append((seconds(lines), contids(lines)))
    return found


def enough(told: Sequence[tuple[float, list[str]]]) -> bool:
    """Whether most answers are of a time when it was known who there is."""
    unknown = sum(contid == ["?"] for _, contid in told)
    return len(told) > 50 and unknown * 4 < len(told)


def test_nobody_is_unknown_after_a_busy_start(quiet: AuditState, births: Path, tmp_path: Path, token: str) -> None:
    need_tool("unshare")
    name = secrets.token_hex(32)
    before = cgroupfs.folders("/docker")
    commands, flag = [], tmp_path / "goes-on"
    for way in ("loop", "chain"):
        commands.append([str(births), way, f"host-{token}", "2000", str(flag)])
        inside = [str(births), way, f"docker-{token}", "4000", str(flag)]
        commands.append(cgroupfs.command_in(f"/docker/{name}", inside))
        inside = f"{births} {way} sandbox-{token} 4000 {flag} & while test -e {flag}; do sleep 0.1; done"
        commands.append(["unshare", "-n", "-p", "-f", "sh", "-c", inside])
    try:
        with going_on(flag, *commands):
            time.sleep(0.3)
            program = Program(
                tmp_path / "run", ["listen", "--control", tmp_path / "control", "--rules", "--format", "raw"]
            )
            try:
                program.ready()

                def answered() -> bool:
                    found = answers(program.out, token)
                    return sorted(found) == KINDS and all(map(enough, found.values()))

                until(answered, "answers to all", pause=0.5)
                subprocess.run(["/bin/true", f"end-{token}"], check=True)
                until(lambda: whole_event_of(program.out, f"end-{token}"), "the last event")
                assert program.stop(signal.SIGTERM) == 0, program.err
                text = program.out  # now, for an event is written as it comes: ours may be behind what is there of it
            finally:
                program.kill()
    finally:
        cgroupfs.remove_new("/docker", before)
    found = answers(text, token)
    assert sorted(found) == KINDS
    wanted = {"host": [], "docker": [str(int(name[:16], 16))]}
    for which, told in found.items():
        way, where = which.split("-")
        kinds = Counter(tuple(contid) for _, contid in told if contid != ["?"])
        assert (set(kinds) == {tuple(wanted[where])}) if where in wanted else len(kinds) == 1, (which, kinds)
        unknown = [contid == ["?"] for _, contid in sorted(told)]
        assert True not in unknown[unknown.index(False) :], f"{which}: unknown again: {unknown}"
        assert enough(told), which
    changes = [line for line in text.splitlines() if b"type=NS_CHANGE" in line]
    assert [line for line in changes if b" old_snum=? snum=? " in line] == []


@pytest.mark.parametrize("ends", ["never", "before", "between"])
def test_whose_child_it_was_is_known_from_before_the_subscription(root: None, ends: str) -> None:
    """Whoever made a sandbox ends between the subscription and the scan, or before: /proc shows who has adopted its
    first process, and nothing shows whose it is. As long as the maker lives it is a sandbox of the host's."""
    need_tool("unshare")
    with contextlib.ExitStack() as stack:
        made = subprocess.Popen(["unshare", "-fp", "sleep", "600"], stderr=subprocess.DEVNULL, start_new_session=True)
        maker = stack.enter_context(made)
        stack.callback(maker.kill)
        children = Path(f"/proc/{maker.pid}/task/{maker.pid}/children")
        until(lambda: children.read_text().split(), "the first process of the sandbox")
        inner = int(children.read_text().split()[0])
        stack.callback(os.kill, inner, signal.SIGKILL)
        until(lambda: Path(f"/proc/{inner}/comm").read_text() == "sleep\n", "its program")
        if ends == "before":
            maker.kill()
            maker.wait()
        observer, _ = host_observer(connector="off")
        stack.callback(observer.close)
        if ends == "between":
            maker.kill()
            maker.wait()
        observer.start()
        found = observer.model.processes[inner]
        assert found.end is None
        if ends != "never":
            assert found.state.container is UNKNOWN
        else:
            assert found.creator is not None
            assert found.creator[0] == maker.pid
            assert found.state.container is not None
            assert found.state.container.kind == "sandbox"
