"""What install-hook prints and writes is taken at its word: containers that are started by it are registered, and one
that is not is told of. (containerd and Docker: test_dockerd.py, test_cri.py.)"""

import secrets
from pathlib import Path

import pytest

from auditns_connector import api
from auditns_connector.control.server import ask
from auditns_connector.model.runtimes import derive_contid
from tests.kernel import printed
from tests.kernel.programs import auditns, listening, until
from tests.kernel.runtimes import Runtimes
from tests.kernel.support import AuditState
from tests.kernel.test_contid import ops

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize("runtime", ["runc", "crun", "podman"])
def test_containers_started_by_what_is_printed_are_registered(
    quiet: AuditState, default_control: Path, runtimes: Runtimes, tmp_path: Path, runtime: str
) -> None:
    with listening(tmp_path / "l", "--rules", "--format", "raw", control=default_control) as listener:
        if runtime == "podman":
            hooks = tmp_path / "hooks.d"
            assert auditns("install-hook", "--dir", hooks, "--expect", "none").returncode == 0
            printed.be_patient(hooks / "auditns.json")
            runtimes.podman_global = ["--hooks-dir", str(hooks)]
        else:
            runtimes.hooks = printed.hooks()
        container = runtimes.start(runtime, name="" if runtime == "podman" else secrets.token_hex(32))
        wanted = str(derive_contid("podman" if runtime == "podman" else "oci", container.id))
        found = api.get_contid(container.pid)
        assert (found.contid, found.container["kind"]) == (wanted, "registered")
        container.stop()
        until(lambda: f"op=drop opid={container.pid} ".encode() in listener.out, "its end")


def test_a_container_without_its_registration_is_told_of(quiet: AuditState, runtimes: Runtimes, tmp_path: Path) -> None:
    with listening(tmp_path / "l", "--rules", "--format", "raw", "--expect", "podman,docker") as listener:
        control = str(listener.directory / "control")
        hooks = tmp_path / "hooks.d"
        install = ("install-hook", "--dir", hooks, "--config", tmp_path / "auditns.toml")
        assert auditns(*install, "--control", control).returncode == 0
        assert 'expect = ["crio", "podman"]' in (tmp_path / "auditns.toml").read_text()
        bare = runtimes.start("podman")
        short = runtimes.start("runc", ["true"], cgroup=f"/docker/{secrets.token_hex(32)}")
        runtimes.podman_global = ["--hooks-dir", str(hooks)]
        printed.be_patient(hooks / "auditns.json")
        hooked = runtimes.start("podman")
        until(lambda: listener.out.count(b"error=ENOENT") >= 2, "both")
        (told,) = [op for op in ops(listener, bare.pid) if op.get("error")]
        number = str(derive_contid("podman", bare.id))
        assert told == {
            "op": "set", "opid": str(bare.pid), "contid": number, "old-contid": number, "error": "ENOENT", "res": "0",
        }  # fmt: skip
        assert [op.get("error") for op in ops(listener, hooked.pid)] == [None]
        status = ask(control, {"op": "status"}, timeout=120)["status"]
        assert (status["registrations"]["missing"], status["registrations"]["late"]) == (2, 0)
        # it is registered in the end: told as every other one, and what was told stays
        api.set_contid(bare.pid, "4711", control=control)
        assert [op.get("error") for op in ops(listener, bare.pid)] == ["ENOENT", None]
        assert short.pid
