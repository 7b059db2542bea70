"""Registrations that are missing: which containers are told of, when, and how often."""

import json
from pathlib import Path
from typing import Any

import pytest

from auditns_connector.cli.main import run as auditns
from auditns_connector.config.options import load
from auditns_connector.errors import AuditnsError
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.model.outputs import ContainerOp
from auditns_connector.model.places import Container
from auditns_connector.registration.expect_file import edited, expect
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import INITIAL_INODES_618
from tests.unit.test_registry import Registering
from tests.unit.world import HEX, MS, contid

SHIPPED = Path(__file__).parents[2] / "audisp" / "auditns.toml"
OURS = "  # auditns install-hook"
OTHER = "fedcba9876543210" * 4
POD = "/kubepods/besteffort/pod01234567-0123-0123-0123-0123456789ab"
INIT, CHILD = 200, 201


class Expecting(Registering):
    """A world where Docker's, Podman's and containerd's containers are expected to be registered."""

    def __init__(self) -> None:
        super().__init__()
        self.request(3, op="expect", runtimes=["docker", "podman", "containerd"])

    def request(self, at: float, **request: Any) -> None:
        self.put(f.K_REGISTER, at, f.S_CONTROL, payload=json.dumps(request).encode())

    def start(self, path: str, at: float, pid: int = INIT) -> None:
        """A container in the cgroup ``path`` that execs a millisecond later."""
        self.fork(1, pid, at, pid_=0)
        self.attach(pid, path, at + 0.5)
        self.exec(pid, at + 1)

    def fork(self, parent: int, child: int, at: float, *, thread: int = 0, **changed: int) -> None:
        own = {"pid": 4026540000 + child, "mnt": 4026550000 + child} if changed.pop("pid_", None) is not None else {}
        super().fork(parent, child, at, thread=thread, **own, **changed)

    def judge(self, at: float) -> None:
        self.request(at, op="judge")

    def named(self, at: float, container: Container, **names: str) -> None:
        self.request(at, op="names", key=container.key, names=names)

    def missing(self) -> list[tuple[int, int, str, str]]:
        return [
            (out.time // MS, out.opid, out.contid, out.old)
            for out in self.model.outputs
            if isinstance(out, ContainerOp) and out.error == "ENOENT"
        ]

    @property
    def counted(self) -> dict[str, int]:
        return self.model.expectations.counters()

    def container(self, runtime: str) -> Container:
        (found,) = (c for c in self.model.containers.by_key.values() if c.key[-1][0] == runtime)
        return found


@pytest.fixture
def world() -> Expecting:
    return Expecting()


def test_it_is_told_five_seconds_after_the_first_exec_and_once(world: Expecting) -> None:
    world.start(f"/docker/{HEX}", 100)
    assert not world.model.expectations.due(5100 * MS)
    assert world.model.expectations.due(5101 * MS)
    world.judge(5100)
    assert world.missing() == []
    world.judge(5101)
    world.judge(5102)
    world.judge(60_000)
    assert world.missing() == [(5101, INIT, contid(HEX), contid(HEX))]
    assert world.counted == {"missing": 1, "late": 0, "unclear": 0}
    world.exit(INIT, 60_001)
    assert len(world.missing()) == 1
    world.start(f"/docker/{HEX}", 70_000)  # of the same name, and another one
    world.judge(75_001)
    assert len(world.missing()) == 2


def test_a_registered_one_is_not_told(world: Expecting) -> None:
    world.fork(1, INIT, 100, pid_=0)
    world.attach(INIT, f"/docker/{HEX}", 100.5)
    assert world.set(INIT, contid(HEX), 101, hook=True, new=True, rehash=True) == ""
    world.exec(INIT, 102)
    world.judge(9000)
    world.exit(INIT, 9001)
    assert world.missing() == []
    assert world.counted == {"missing": 0, "late": 0, "unclear": 0}


def test_a_registration_within_the_grace_is_in_time_and_one_behind_it_is_late(world: Expecting) -> None:
    world.start(f"/docker/{HEX}", 100)
    world.start(f"/docker/{OTHER}", 100, pid=300)
    assert world.set(INIT, 1, 4000, hook=True) == ""
    world.judge(5101)
    assert [pid for _, pid, _, _ in world.missing()] == [300]
    assert world.set(300, 2, 8000, hook=True) == ""
    world.judge(20_000)
    assert world.counted == {"missing": 1, "late": 1, "unclear": 0}
    assert world.who(300, 9000) == "2"


def test_a_short_one_is_told_at_its_end(world: Expecting) -> None:
    world.start(f"/docker/{HEX}", 100)
    world.exit(INIT, 150)
    assert world.missing() == [(150, INIT, contid(HEX), contid(HEX))]


def test_before_its_first_exec_nothing_is_missing(world: Expecting) -> None:
    """A runtime's create and start may be far apart, and hooks take their time."""
    world.fork(1, INIT, 100, pid_=0)
    world.attach(INIT, f"/docker/{HEX}", 100.5)
    world.judge(60_000)
    assert world.missing() == []
    world.exec(INIT, 60_001)
    world.judge(65_000)
    assert world.missing() == []
    world.judge(65_001)
    assert len(world.missing()) == 1
    world.fork(1, 300, 70_000, pid_=0)
    world.attach(300, f"/docker/{OTHER}", 70_001)
    world.exit(300, 70_002)  # its start failed
    assert len(world.missing()) == 1


@pytest.mark.parametrize(
    "path",
    [
        "/lxc.payload.web",
        f"/system.slice/crio-{HEX}.scope",
        f"/{HEX}",
        f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{HEX}.scope",
        f"/lxc.payload.web/docker/{HEX}",
    ],
)
def test_others_are_not_expected(world: Expecting, path: str) -> None:
    """Of another runtime, or where a user or a container may make such a path itself."""
    world.start(path, 100)
    world.judge(90_000)
    world.exit(INIT, 90_001)
    assert world.missing() == []
    assert world.counted["unclear"] == 0


def test_whose_runtime_its_files_tell(world: Expecting) -> None:
    world.start(f"/{HEX}", 100)
    world.named(200, world.container("oci"), runtime="docker", name="web")
    world.judge(5101)
    assert len(world.missing()) == 1


def test_pause_containers_are_excepted_and_waited_for(world: Expecting) -> None:
    world.start(f"{POD}/{HEX}", 100)
    world.start(f"{POD}/{OTHER}", 100, pid=300)
    pause, app = (world.model.containers.by_key[(("kubernetes", ident),)] for ident in (HEX, OTHER))
    world.named(200, app, runtime="containerd", name="app")
    world.named(201, pause, runtime="containerd")
    world.judge(5101)
    assert [pid for _, pid, _, _ in world.missing()] == [300]
    world.named(6000, pause, role="pause", name="pause")
    world.judge(90_000)
    world.exit(INIT, 90_001)
    assert len(world.missing()) == 1


def test_one_that_nothing_describes(world: Expecting) -> None:
    path = f"/system.slice/cri-containerd-{HEX}.scope"
    world.start(path, 100)
    world.judge(40_100)
    assert world.missing() == []
    world.judge(40_101)
    assert len(world.missing()) == 1
    world.start(path.replace(HEX, OTHER), 50_000, pid=300)
    world.exit(300, 50_100)
    assert len(world.missing()) == 1
    assert world.counted == {"missing": 1, "late": 0, "unclear": 1}


def test_one_that_was_there_before_us() -> None:
    world = Registering()
    world.proc(INIT, 1, 5, start=-900, cg=f"/docker/{HEX}", ns={**INITIAL_INODES_618, "pid": 77, "mnt": 78})
    world.put(f.K_REGISTER, 6, f.S_CONTROL, payload=json.dumps({"op": "expect", "runtimes": ["docker"]}).encode())
    expectations = world.model.expectations
    assert not expectations.due(world.model.began + 4_999 * MS)
    assert expectations.due(world.model.began + 5_000 * MS)


def test_a_replay_and_a_journal_that_begins_anew(world: Expecting) -> None:
    world.start(f"/docker/{HEX}", 100)
    world.judge(5101)
    again = Model()
    again.apply(b"".join(world.log))
    told = [[(out.time, out.error) for out in m.outputs if isinstance(out, ContainerOp)] for m in (world.model, again)]
    assert told == [[(5101 * MS, "ENOENT")]] * 2
    snapshot = world.model.expectations.snapshot()
    assert snapshot is not None
    assert snapshot["runtimes"] == ["containerd", "docker", "podman"]
    world.container("docker").missed = False
    world.request(6000, **snapshot)
    world.judge(7000)
    assert len(world.missing()) == 1


def test_nothing_is_expected_by_default() -> None:
    world = Registering()
    assert world.model.expectations.snapshot() is None
    assert not world.model.expectations.due(1 << 62)


# -- the configuration's line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", f'[hook]{OURS}\nexpect = ["crio", "podman"]{OURS}\n'),
        ("info = true", f'info = true\n[hook]{OURS}\nexpect = ["crio", "podman"]{OURS}\n'),
        ("info = true\n", f'info = true\n\n[hook]{OURS}\nexpect = ["crio", "podman"]{OURS}\n'),
        ("[hook]\n[journal]\n", f'[hook]\nexpect = ["crio", "podman"]{OURS}\n[journal]\n'),
        ("[hook] # x\nexpect = []  # y\n", '[hook] # x\nexpect = ["crio", "podman"]  # y\n'),
        ('[ hook ]\nexpect=[\n "docker",\n]\n', '[ hook ]\nexpect=["crio", "podman"]\n'),
        ("[rule-x]\nexpect = []\n[hook]", f'[rule-x]\nexpect = []\n[hook]\nexpect = ["crio", "podman"]{OURS}'),
    ],
)
def test_the_line_alone_is_changed_and_is_again_as_it_was(text: str, line: str) -> None:
    assert edited(text, ["crio", "podman"]) == line
    assert edited(line, []) == (text.replace('\n "docker",\n', ""))


@pytest.mark.parametrize("behind", ["\n[journal]\n", "x = 1\n", "# mine\n"])
def test_what_was_written_behind_the_line_stays(behind: str) -> None:
    line = edited("info = true\n", ["podman"]) + behind
    assert edited(line, []) == "info = true\n" + (f"\n[hook]{OURS}\n" if behind == "x = 1\n" else "") + behind
    assert edited(line, ["docker"]) == line.replace("podman", "docker")


def test_a_configuration_that_was_made_for_it_goes_again(tmp_path: Path) -> None:
    made = tmp_path / "auditns.toml"
    assert expect(str(made), ["podman"])
    assert expect(str(made), ["docker"])
    assert expect(str(made), ["podman"], more=False)
    assert load(str(made)).hook.expect == ("docker",)
    assert expect(str(made), ["docker"], more=False)
    assert not made.exists()
    assert not expect(str(made), ["docker"], more=False)


@pytest.mark.parametrize(
    "text", ["hook = {expect = []}\n", "hook.expect = []\n", '[hook]\n"expect" = []\n', "[hook]\nexpect = [ # [\n]\n"]
)
def test_what_is_not_seen_through_is_left(text: str) -> None:
    with pytest.raises(AuditnsError, match="put into it: expect ="):
        edited(text, ["podman"])


def test_install_hook_writes_it_and_takes_it_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, hooks = tmp_path / "auditns.toml", tmp_path / "hooks.d"
    config.write_text(SHIPPED.read_text().replace("expect = []", 'expect = ["docker"]'))
    config.chmod(0o640)
    command = ["install-hook", "--dir", str(hooks), "--config", str(config)]
    assert auditns(command) == 0
    assert load(str(config)).hook.expect == ("crio", "docker", "podman")
    assert config.stat().st_mode & 0o777 == 0o640
    assert config.read_text().replace('["crio", "docker", "podman"]', "[]") == SHIPPED.read_text()
    assert "SIGHUP" in capsys.readouterr().err
    assert auditns(command) == 0
    assert capsys.readouterr().err == ""
    assert auditns([*command, "--uninstall"]) == 0
    assert load(str(config)).hook.expect == ("docker",)
    assert not (hooks / "auditns.json").exists()


def test_without_a_configuration_there_is_one_or_a_hint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = tmp_path / "auditns.toml"
    assert expect(str(made), ["podman"])
    assert load(str(made)).hook.expect == ("podman",)
    command = ["install-hook", "--dir", str(tmp_path / "h"), "--config", str(tmp_path / "none/auditns.toml")]
    assert auditns(command) == 0
    assert "auditns listen --expect podman,crio" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
    bad = tmp_path / "bad.toml"
    bad.write_text("zzz = 1\n")
    with pytest.raises(AuditnsError, match="zzz"):
        expect(str(bad), ["podman"])
