"""Registrations under the real auditd: its restart in the middle of a container's life, and what the outputs get."""

import subprocess
from pathlib import Path

import pytest

from auditns_connector import api
from tests.kernel.programs import Task, contids, event_of, until, whole_event_of
from tests.kernel.support import AuditState, auditctl, need, need_tool
from tests.kernel.test_contid import refused
from tests.kernel.test_plugin import Plugin

pytestmark = pytest.mark.kernel


@pytest.fixture
def quiet(audit_state: AuditState, token: str) -> AuditState:
    need_tool("auditd")
    need("\npid 0\n" in auditctl("-s"), "no auditd running")
    auditctl("-a", "always,exit", "-F", "arch=b64", "-S", "execve", "-k", f"auditns-{token}")
    return AuditState.read()


def test_a_restart_of_auditd_loses_no_identifier(
    quiet: AuditState, tasks: list[Task], tmp_path: Path, launcher: Path, token: str
) -> None:
    plugin = Plugin(tmp_path, launcher)
    plugin.configure()
    control = tmp_path / "control"
    tasks += [Task(), Task("unshare", "-p", "-f", "--mount-proc"), Task()]
    plain, spaced, host = tasks
    init = int(Path(f"/proc/{spaced.process.pid}/task/{spaced.process.pid}/children").read_text())
    with plugin.auditd.serving():
        plugin.answers(f"ready-{token}")
        assert refused(plain.pid, 41, control) == ""
        assert refused(init, 42, control) == ""
        pids = plain.run("sleep 300 & echo $!")
    # nobody looks: what is forked now is tied by a living parent, or by the pid namespace
    plain.run(f"sh -c 'echo $$ > {tmp_path}/late; exec sleep 300' & sleep 0.3")
    spaced.run("(sleep 300 &); sleep 0.3")
    plain.run(f"sh -c 'sleep 300 & echo $! > {tmp_path}/orphan'")
    host.run("sleep 300 & sleep 0.1")
    with plugin.auditd.serving():
        plugin.answers(f"again-{token}")
        assert "registrations taken up" in plugin.auditd.told or api.get_contid(plain.pid, control=str(control))
        late, orphan = (int((tmp_path / name).read_text()) for name in ("late", "orphan"))
        found = [api.get_contid(pid, control=str(control)).contid for pid in (plain.pid, int(pids), init, late)]
        assert found == ["41", "41", "42", "41"]
        # its parent has gone, it lives in the host's namespaces: whether it came from the container nobody can know
        assert api.get_contid(orphan, control=str(control)).contid == "?"
        assert api.get_contid(host.pid, control=str(control)).contid == "unset"
        for number, task in ((41, plain), (42, spaced)):
            task.run(f"/bin/true of-{number}-{token}")
            until(lambda n=number: whole_event_of(plugin.read(), f'a1="of-{n}-{token}"'), "the event")
            assert contids(event_of(plugin.read(), f'a1="of-{number}-{token}"')) == [str(number)]
        assert refused(plain.pid, 41, control) in ("EBUSY", "EEXIST")
    subprocess.run(["kill", pids, str(late), str(orphan)], check=False)
    text = plugin.read().decode(errors="replace")
    assert f"op=set opid={plain.pid} contid=41 " in text


def test_outputs_take_and_leave_out_containers(
    quiet: AuditState, tasks: list[Task], tmp_path: Path, launcher: Path, token: str
) -> None:
    plugin = Plugin(tmp_path, launcher)
    plugin.configure('[filter.include]\ncontid = ["61", "62"]\n[filter.exclude]\ncontid = ["62"]')
    control = tmp_path / "control"
    tasks += [Task(), Task(), Task()]

    def shows(task: Task, word: str) -> bool:
        task.run(f"/bin/true {word}-{token}")
        return bool(event_of(plugin.read(), f'a1="{word}-{token}"'))

    with plugin.auditd.serving():
        until(control.exists, "the plugin to serve")
        for number, task in ((61, tasks[0]), (62, tasks[1])):
            assert refused(task.pid, number, control) == ""
        for number, task in enumerate(tasks):
            task.run(f"/bin/true first-{number}-{token}")
        tasks[0].run(f"/bin/true end-{token}")
        until(lambda: whole_event_of(plugin.read(), f'a1="end-{token}"'), "the last event")
        shown = [n for n in range(3) if event_of(plugin.read(), f'a1="first-{n}-{token}"')]
        assert shown == [0]
        plugin.configure('[filter.exclude]\nname = ["shop-*"]')
        plugin.auditd.hup()
        api.set_contid(tasks[2].pid, 63, names={"name": "shop-1", "runtime": "crio"}, control=str(control))
        until(lambda: shows(tasks[1], "again"), "the new configuration")
        tasks[2].run(f"/bin/true hidden-{token}")
        tasks[1].run(f"/bin/true shown-{token}")
        until(lambda: whole_event_of(plugin.read(), f'a1="shown-{token}"'), "the last event")
        assert not event_of(plugin.read(), f'a1="hidden-{token}"')
        include = '[filter.include]\nruntime = ["crio", "lxc"]\nname = ["other", "shop-?"]\nrecord = ["USER", "EXECVE"]'
        plugin.configure(include + '\n[filter.exclude]\nrecord = ["USER"]')
        plugin.auditd.hup()
        until(lambda: shows(tasks[2], "third"), "the newest configuration")
        tasks[1].run(f"/bin/true other-{token}")
        tasks[2].run(f"auditctl -m message-{token}; cat /nothing; /bin/true of-shop-{token}")
        until(lambda: whole_event_of(plugin.read(), f'a1="of-shop-{token}"'), "the last event")
        assert not event_of(plugin.read(), f'a1="other-{token}"')
        assert f"message-{token}' ".encode() not in plugin.read()
        assert not event_of(plugin.read(), f"msg='message-{token}")


def test_whoever_signals_auditd_is_told_with_the_container(
    quiet: AuditState, tasks: list[Task], tmp_path: Path, launcher: Path, token: str
) -> None:
    plugin = Plugin(tmp_path, launcher)
    plugin.configure()
    tasks += [Task(), Task()]
    with plugin.auditd.serving():
        plugin.answers(f"ready-{token}")
        assert refused(tasks[0].pid, 71, tmp_path / "control") == ""
        for task, wanted in ((tasks[0], ["71"]), (tasks[1], [])):
            for sign, kind in (("USR1", "ROTATE"), ("USR2", "RESUME")):
                task.run(f"kill -{sign} {plugin.auditd.pid}")
                words = f"type=DAEMON_{kind} ", f" pid={task.pid} "
                until(lambda w=words: whole_event_of(plugin.read(), *w), kind)
                assert contids(event_of(plugin.read(), *words)) == wanted


def test_marks_of_the_configuration_decide(
    quiet: AuditState, tasks: list[Task], tmp_path: Path, launcher: Path, token: str
) -> None:
    need_tool("ip", "iptables", "busybox")
    plugin = Plugin(tmp_path, launcher)
    plugin.configure('[netfilter.marks]\n0x4d9 = "0x4d"')
    tasks.append(Task("unshare", "-n"))
    rules = ("-t mangle -I INPUT -p icmp -j MARK --set-mark 0x4d9", "-A INPUT -p icmp -j AUDIT --type accept")
    for rule in rules:
        assert tasks[0].run(f"iptables -w {rule} 2>&1; ip link set lo up") == ""
    with plugin.auditd.serving():
        plugin.answers(f"ready-{token}")

        def marked() -> bool:
            tasks[0].run("busybox ping -c 1 -W 1 127.0.0.1 >/dev/null 2>&1")
            return contids(event_of(plugin.read(), "type=NETFILTER_PKT", "mark=0x4d9 ")) == [str(0x4D)]

        until(marked, "the packet")
