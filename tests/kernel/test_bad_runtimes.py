"""What runtimes and their users may do to us: hooks that somebody else calls, a daemon that restarts, and identifiers
that are used again."""

import json
import secrets
import shutil
import subprocess
from pathlib import Path

import pytest

from auditns_connector import api
from auditns_connector.model.runtimes import derive_contid
from auditns_connector.registration.hook_program import HOOK_PROGRAM
from tests.kernel.daemons import TIMEOUT, Dockerd
from tests.kernel.images import BUSY
from tests.kernel.programs import Task, contids, event_of, listening, until, whole_event_of
from tests.kernel.runtimes import Runtimes
from tests.kernel.spoken import Truth
from tests.kernel.support import AuditState, auditctl, need_tool
from tests.kernel.test_contid import hook, serving
from tests.kernel.test_contid_containers import pages

pytestmark = pytest.mark.kernel


def test_a_hook_that_an_ordinary_user_calls_registers_nothing(
    quiet: AuditState, tasks: list[Task], tmp_path: Path, base: Path
) -> None:
    need_tool("setpriv")
    auditctl("-e", "1")
    program = base / "hook"
    shutil.copy(HOOK_PROGRAM, program)
    program.chmod(0o755)
    base.chmod(0o711)
    with listening(tmp_path / "l", "--format", "raw") as listener:
        control = serving(listener)
        tasks.append(Task("unshare", "-fp", "--kill-child"))
        state = {
            "ociVersion": "1.0.2",
            "id": secrets.token_hex(32),
            "status": "creating",
            "pid": tasks[0].pid,
            "bundle": "/",
        }
        document = json.dumps(state).encode()
        user = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"]
        for options, ended in (([], 0), (["--strict"], 1)):
            for stdin in (document, b"", None):
                done = subprocess.run(
                    [*user, str(program), f"--control={control}", *options],
                    input=stdin, stdin=None if stdin is not None else subprocess.DEVNULL, capture_output=True,
                    timeout=180, check=False,
                )  # fmt: skip
                assert (done.returncode != 0) == bool(ended), (options, stdin, done.stderr)
        assert [about for about in pages(control) if about.get("kind") == "registered"] == []


def test_a_daemon_that_restarts_while_its_containers_live(quiet: AuditState, token: str, tmp_path: Path) -> None:
    spoken = Truth(token)
    with (
        listening(tmp_path / "l", "--rules", "--format", "raw") as listener,
        Dockerd(config={"live-restore": True}) as docker,
    ):
        docker.load()
        ident = docker.run(BUSY, "/bin/loop", spoken.word("before"), "3", "600", name="lasting")
        control = str(serving(listener))
        before = api.get_contid(docker.pid("lasting"), control=control).contid
        assert docker.process is not None
        docker.process.terminate()
        docker.process.wait(TIMEOUT)
        docker.start()
        docker.docker("exec", "lasting", "/bin/true", spoken.word("after", 0))
        docker.docker("exec", "-d", "lasting", "/bin/loop", spoken.word("detached"), "2")
        other = docker.run("--rm", BUSY, "/bin/loop", spoken.word("new"), "2", name="later", detach=False)
        assert other == ""
        for label, count in (("before", 3), ("after", 1), ("detached", 2)):
            spoken.of(label, ident, count)
        spoken.which("new", lambda found: found not in (None, "?", before), 2)
        until(lambda: spoken.complete(listener.out), f"every exec: {spoken.errors(listener.out)}")
        assert api.get_contid(docker.pid("lasting"), control=control).contid == before
    assert spoken.errors(listener.out) == {}


@pytest.mark.parametrize("runtime", ["runc", "podman"])
def test_an_identifier_that_is_used_again_after_its_removal(
    quiet: AuditState, runtimes: Runtimes, tmp_path: Path, token: str, runtime: str
) -> None:
    """It is another container by the same number: the first one's end is told, and nothing of it is the second's."""
    with listening(tmp_path / "l", "--rules", "--format", "raw") as listener:
        control = serving(listener)
        runtimes.hooks = hook(control)
        name, told = secrets.token_hex(32), []
        for number in (1, 2):
            runtimes.annotations = {"io.kubernetes.container.name": f"web{number}"}
            container = runtimes.start("runc", name=name) if runtime == "runc" else runtimes.start("podman")
            container.exec(["/bin/true", f"again{number}-{token}"])
            until(lambda number=number: whole_event_of(listener.out, f'a1="again{number}-{token}"'), "the event")
            told.append(api.get_contid(container.pid, control=str(control)))
            container.stop()
            if runtime == "runc":
                until(lambda number=number: listener.out.count(b"op=drop ") == number, "its end")
        if runtime == "runc":
            assert told[0].contid == told[1].contid == str(derive_contid("oci", name))
            assert [one.container["name"] for one in told] == ["web1", "web2"]
        else:
            assert told[0].contid != told[1].contid
        for number, one in enumerate(told, 1):
            assert contids(event_of(listener.out, f'a1="again{number}-{token}"')) == [one.contid]
