"""Real dockerd: every exec is its container's, whatever started it, and each container is called by its names."""

import concurrent.futures
import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from auditns_connector import api
from auditns_connector.model.runtimes import derive_contid
from tests.kernel import printed
from tests.kernel.daemons import Dockerd, unmount_below
from tests.kernel.images import BUSY
from tests.kernel.programs import Program, listening, until
from tests.kernel.spoken import Truth
from tests.kernel.support import AuditState, need_tool

pytestmark = pytest.mark.kernel
DATA = Path("/var/lib/docker")


def listed(control: Path) -> dict[str, dict[str, Any]]:
    """What is told of living containers, by their full ids."""
    return {about["id"]: about for about in api.list_containers(control=str(control)) if "id" in about}


def names(about: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(about.get(field, "")) for field in ("runtime", "name", "image"))


@pytest.fixture
def spoken(token: str) -> Truth:
    return Truth(token)


@contextlib.contextmanager
def default_data_root() -> Iterator[str | None]:
    """Docker's own data root, empty for as long as the test runs; what is there is covered, not touched. Where the host
    has a dockerd of its own, another."""
    if Path("/run/docker.pid").exists() or Path("/var/run/docker.pid").exists():
        yield None
        return
    made = not DATA.exists()
    DATA.mkdir(mode=0o710, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=710", "auditns-test", DATA], check=True)
    try:
        yield ""
    finally:
        unmount_below(DATA)
        subprocess.run(["umount", "-l", DATA], check=True)
        if made:
            DATA.rmdir()


def enter_in_all_ways(docker: Dockerd, spoken: Truth, name: str, ident: str) -> None:
    """exec, exec -d, nsenter, while it is paused and afterwards."""
    word = spoken.word
    docker.docker("exec", name, "/bin/true", word("exec", 0))
    docker.docker("exec", name, "/bin/sh", "-c", f"/bin/true {word('exec', 1)}; :")
    docker.docker("exec", "-d", name, "/bin/loop", word("detached"), "3")
    subprocess.run(["nsenter", "-t", str(docker.pid(name)), "-a", "/bin/true", word("nsenter", 0)], check=True)
    docker.docker("pause", name)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        docker.docker("unpause", name)
        list(pool.map(lambda k: docker.docker("exec", name, "/bin/true", word("parallel", k)), range(8)))
    for label, count in (("exec", 2), ("detached", 3), ("nsenter", 1), ("parallel", 8)):
        spoken.of(label, ident, count)


def test_every_way_to_run_something(quiet: AuditState, spoken: Truth, tmp_path: Path) -> None:
    need_tool("nsenter")
    word = spoken.word
    with (
        default_data_root() as data,
        listening(tmp_path / "l", "--rules", "--format", "raw") as listener,
        Dockerd(data=data) as docker,
    ):
        docker.load(Labels={"tier": "web"})
        plain = docker.run(BUSY, "/bin/loop", word("plain"), "5", "600", name="plain")
        spoken.of("plain", plain, 5)
        enter_in_all_ways(docker, spoken, "plain", plain)
        crashing = docker.run(
            "--restart=on-failure:2", BUSY, "/bin/sh", "-c", f"/bin/true {word('restart', 0)}; exit 1", name="crash"
        )
        spoken.of("restart", crashing, 3)
        for name, options in (
            ("hostpid", ["--pid=host"]),
            ("hostnet", ["--net=host"]),
            ("hostall", ["--pid=host", "--net=host", "--uts=host", "--ipc=host"]),
            ("tini", ["--init"]),
            ("privileged", ["--privileged"]),
            ("both", ["--privileged", "--pid=host"]),
        ):
            ident = docker.run(*options, BUSY, "/bin/loop", word(name), "4", "600", name=name)
            spoken.of(name, ident, 4)
            docker.docker("exec", name, "/bin/true", word(f"{name}x", 0))
            spoken.of(f"{name}x", ident, 1)
        check = f"--health-cmd=/bin/true {word('health', 0)}"
        healthy = docker.run(check, "--health-interval=1s", BUSY, "/bin/sleep", "600", name="healthy")
        spoken.of("health", healthy, 0)
        short = docker.run("--rm", BUSY, "/bin/loop", word("short"), "3", name="short")
        spoken.of("short", short, 3)
        subprocess.run(["/bin/true", word("host", 0)], check=True)
        spoken.of("host", "", 1)
        control = listener.directory / "control"
        until(lambda: names(listed(control).get(healthy, {}))[1] == "healthy", "the names")
        told = listed(control)
        assert names(told[plain]) == ("docker", "plain", BUSY)
        assert told[plain]["labels"] == {"tier": "web"}
        assert [names(told[ident])[:2] for ident in (healthy,)] == [("docker", "healthy")]
        build(docker, spoken)
        until(lambda: spoken.complete(listener.out), f"every exec: {spoken.errors(listener.out)}")
        docker.docker("stop", "-t", "0", "plain")
        docker.docker("start", "plain")
        until(lambda: spoken.labels["plain"].count == 5 and _count(spoken, listener, "plain") == 10, "it runs again")
    spoken.labels["plain"].count = 10
    assert spoken.errors(listener.out) == {}
    infos = [line for line in listener.out.splitlines() if b"type=CONTAINER_INFO " in line and b"reason=named" in line]
    assert [line for line in infos if f'ctr-id="{plain}"'.encode() in line and b'runtime="docker"' in line]


def _count(spoken: Truth, listener: Program, label: str) -> int:
    spoken.read(listener.out)
    return spoken.labels[label].found.total()


def build(docker: Dockerd, spoken: Truth) -> None:
    """Images built both ways, three steps each."""
    for label, how in (("classic", "0"), ("buildkit", "1")):
        context = docker.folder / label
        context.mkdir()
        steps = "".join(f"RUN /bin/loop {spoken.word(f'{label}.{step}')} 2\n" for step in range(3))
        (context / "Dockerfile").write_text(f"FROM {BUSY}\n{steps}")
        said = docker.docker("build", "--network=none", "--no-cache", context, DOCKER_BUILDKIT=how)
        running = re.findall(r"Running in ([0-9a-f]{12})", said)
        for step in range(3):
            wanted = running[step] if how == "0" else ""
            spoken.which(f"{label}.{step}", lambda found, wanted=wanted: _is_step(found, wanted), 2)


def _is_step(found: str | None, wanted: str) -> bool:
    """A step of the classic builder is the container whose short id it says; one of BuildKit's is one of its own."""
    return found is not None and found.isdecimal() and f"{int(found):016x}".startswith(wanted)


def test_buildkit_says_so(quiet: AuditState, spoken: Truth, tmp_path: Path) -> None:
    with listening(tmp_path / "l", "--rules", "--format", "raw") as listener, Dockerd() as docker:
        docker.load()
        build(docker, spoken)
        until(lambda: spoken.complete(listener.out), f"every exec: {spoken.errors(listener.out)}")
    assert spoken.errors(listener.out) == {}
    told = [set(spoken.labels[f"buildkit.{step}"].found) for step in range(3)]
    assert [len(one) for one in told] == [1, 1, 1]
    (one, two, three) = (next(iter(found)) for found in told)
    assert len({one, two, three}) == 3
    for contid in (one, two, three):
        assert re.search(rf"reason=seen contid={contid} kind=runtime runtime=\"buildkit\" ".encode(), listener.out)


@pytest.mark.parametrize("where", ["argv", "daemon.json"])
@pytest.mark.parametrize("mapped", [False, True], ids=["own users", "userns-remap"])
def test_names_are_found_wherever_the_daemon_keeps_them(
    quiet: AuditState, usable_null: None, base: Path, spoken: Truth, tmp_path: Path, where: str, mapped: bool
) -> None:
    root = base / "data"
    config = {} if where == "argv" else {"data-root": str(root)}
    users = ("nobody", "nogroup") if mapped else ()
    more = ["--userns-remap=nobody:nogroup"] if mapped else []
    try:
        with (
            listening(tmp_path / "l", "--rules", "--format", "raw") as listener,
            Dockerd(more, config, data=str(root) if where == "argv" else "", subordinate=users) as docker,
        ):
            docker.load()
            ident = docker.run(BUSY, "/bin/loop", spoken.word("plain"), "3", "600", name="elsewhere")
            spoken.of("plain", ident, 3)
            spaces = [os.readlink(f"/proc/{pid}/ns/user") for pid in (docker.pid("elsewhere"), "self")]
            assert (spaces[0] != spaces[1]) == mapped
            enter_in_all_ways(docker, spoken, "elsewhere", ident)
            control = listener.directory / "control"
            until(lambda: names(listed(control).get(ident, {}))[1], "its name")
            assert names(listed(control)[ident]) == ("docker", "elsewhere", BUSY)
            until(lambda: spoken.complete(listener.out), f"every exec: {spoken.errors(listener.out)}")
        assert spoken.errors(listener.out) == {}
    finally:
        unmount_below(root)


def test_the_printed_wrapper_registers_and_what_lacks_it_is_told_of(
    quiet: AuditState, default_control: Path, spoken: Truth, tmp_path: Path
) -> None:
    config = printed.docker()
    program = tmp_path / "auditns-runc"
    program.write_text(printed.wrapper())
    program.chmod(0o755)
    config["runtimes"]["auditns"]["path"] = str(program)
    with (
        listening(
            tmp_path / "l", "--rules", "--format", "raw", "--expect", "docker", control=default_control
        ) as listener,
        Dockerd(config=config) as docker,
    ):
        docker.load()
        hooked = docker.run(BUSY, "/bin/loop", spoken.word("hooked"), "3", "600", name="hooked")
        bare = docker.run("--runtime=runc", BUSY, "/bin/loop", spoken.word("bare"), "3", "600", name="bare")
        for label, ident in (("hooked", hooked), ("bare", bare)):
            spoken.of(label, ident, 3)
        found = api.get_contid(docker.pid("hooked"))
        assert (found.contid, found.container["kind"]) == (str(derive_contid("docker", hooked)), "registered")
        until(lambda: b"error=ENOENT" in listener.out, "the one that is missing")
        until(lambda: spoken.complete(listener.out), f"every exec: {spoken.errors(listener.out)}")
        docker.docker("restart", "-t", "0", "hooked")
        assert api.get_contid(docker.pid("hooked")).container["kind"] == "registered"
    assert {k: v for k, v in spoken.errors(listener.out).items() if k != "hooked"} == {}
    missing = re.findall(rb"op=set opid=\d+ contid=(\d+) old-contid=\d+ error=ENOENT res=0", listener.out)
    assert missing == [str(derive_contid("docker", bare)).encode()]
