"""NETFILTER_PKT on this kernel: the containers of the namespaces that own a packet's addresses."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from auditns_connector import api
from tests.kernel.programs import Program, Task, auditns, contids, environment, events, listening, until
from tests.kernel.support import AuditState, auditctl, need_tool

pytestmark = pytest.mark.kernel
RULES = (
    "iptables -w -t mangle -I INPUT -p icmp --icmp-type echo-request -j MARK --set-mark {mark}",
    "iptables -w -A INPUT -p icmp --icmp-type echo-request -j AUDIT --type accept",
    "ip link set lo up",
)


@pytest.fixture
def quiet(audit_state: AuditState) -> AuditState:
    need_tool("ip", "iptables", "busybox", "unshare", "nsenter")
    auditctl("-e", "1")
    return AuditState.read()


def packet(listener: Program, task: Task, to: str, mark: int, wanted: list[str]) -> None:
    """Ping until a packet with ``mark`` has the CONTAINER_ID that is wanted."""
    found: list[str] | None = None

    def seen() -> bool:
        nonlocal found
        task.run(f"busybox ping -c 1 -W 1 {to} >/dev/null 2>&1")
        time.sleep(0.1)
        for lines in events(listener.out).values():
            if re.search(rb"type=NETFILTER_PKT .*mark=%#x " % mark, lines[0]):
                found = contids(lines)
        return found == wanted

    try:
        until(seen, "the packet", timeout=60)
    except TimeoutError:
        raise AssertionError(f"{found} instead of {wanted}") from None


def setup(task: Task, mark: int, *more: str) -> None:
    for command in (*RULES, *more):
        said = task.run(command.format(mark=mark) + " 2>&1 || echo FAILED")
        assert "FAILED" not in said, (command, said)


def change_rules() -> None:
    """From now on packets may have been logged in the initial network namespace."""
    for option in ("-N", "-X"):
        subprocess.run(["iptables", "-w", option, "auditns-test"], check=True)


def test_all_containers_of_a_namespace_and_the_source_first(
    quiet: AuditState, tasks: list[Task], tmp_path: Path, token: str
) -> None:
    first, second = f"v{token}a"[:15], f"v{token}b"[:15]
    with listening(tmp_path / "l", "--format", "raw", "--mark", "0x4d3=77") as listener:
        control = str(tmp_path / "l" / "control")
        tasks += [Task("unshare", "-n"), Task("unshare", "-n")]
        one, other = tasks
        tasks.append(Task("nsenter", "-t", str(one.pid), "-n"))
        for number, task in enumerate(tasks, 1):
            api.set_contid(task.pid, number, control=control)
        setup(one, 0x4D1, "ip addr add 10.213.7.1/32 dev lo")
        packet(listener, one, "10.213.7.1", 0x4D1, ["1,3"])
        # loopback is everybody's who may have logged it
        change_rules()
        packet(listener, one, "127.0.0.1", 0x4D1, ["?"])

        subprocess.run(["ip", "link", "add", first, "type", "veth", "peer", "name", second], check=True)
        for name, task in ((first, one), (second, other)):
            subprocess.run(["ip", "link", "set", name, "netns", str(task.pid)], check=True)
        setup(other, 0x4D2, f"ip addr add 10.213.8.2/24 dev {second}", f"ip link set {second} up")
        for command in (f"ip addr add 10.213.8.1/24 dev {first}", f"ip link set {first} up"):
            assert one.run(f"{command} 2>&1") == ""
        packet(listener, one, "10.213.8.2", 0x4D2, ["1,3,2"])
        assert other.run("ip addr add 10.213.7.1/32 dev lo; iptables -w -t mangle -F 2>&1") == ""
        # an address that two namespaces have says nothing, the mark does where it is mapped
        packet(listener, one, "10.213.7.1", 0x4D1, ["?"])
        assert one.run("iptables -w -t mangle -F; iptables -w -t mangle -I INPUT -j MARK --set-mark 0x4d3") == ""
        packet(listener, one, "10.213.7.1", 0x4D3, ["77"])
        packet(listener, one, "127.0.0.1", 0x4D3, ["77"])


def test_no_namespace_is_kept_alive(quiet: AuditState, tasks: list[Task], tmp_path: Path, token: str) -> None:
    name = f"v{token}c"[:15]
    with listening(tmp_path / "l", "--format", "raw") as listener:
        tasks.append(Task("unshare", "-n"))
        (task,) = tasks
        api.set_contid(task.pid, 1, control=str(tmp_path / "l" / "control"))
        setup(task, 0x4D4, "ip addr add 10.213.9.1/32 dev lo")
        subprocess.run(["ip", "link", "add", name, "type", "veth", "peer", "name", name[:-1] + "d"], check=True)
        subprocess.run(["ip", "link", "set", name[:-1] + "d", "netns", str(task.pid)], check=True)
        packet(listener, task, "10.213.9.1", 0x4D4, ["1"])
        task.end()
        # the namespace takes its end of the pair with it, and so ours
        until(lambda: not Path(f"/sys/class/net/{name}").exists(), "the end of the namespace")


def test_loopback_of_the_host_by_its_mark(quiet: AuditState, tasks: list[Task], tmp_path: Path, token: str) -> None:
    """The test of the container identifier patches: two containers in the initial network namespace, and ping. Another
    namespace has a loopback as well, so that addresses do not tell."""
    rules = (
        "INPUT -i lo -p icmp --icmp-type echo-request -m mark --mark 0x12345555 -j AUDIT --type accept",
        "INPUT -t mangle -i lo -p icmp --icmp-type echo-request -j MARK --set-mark 0x12345555",
    )
    with listening(tmp_path / "l", "--format", "raw", "--mark", "0x12345555=host") as listener:
        control = str(tmp_path / "l" / "control")
        tasks += [Task(), Task(), Task("unshare", "-n")]
        for number, task in enumerate(tasks, 123451):
            api.set_contid(task.pid, number, control=control)
        assert tasks[2].run("ip link set lo up 2>&1") == ""
        for rule in rules:
            subprocess.run(["iptables", "-w", "-I", *rule.split()], check=True)
        try:

            def both() -> bool:
                subprocess.run(["busybox", "ping", "-c", "1", "127.0.0.1"], stdout=subprocess.DEVNULL, check=False)
                found = [contids(lines) for lines in events(listener.out).values() if b"mark=0x12345555 " in lines[0]]
                listed = [text.split(",") for texts in found for text in texts]
                return any({"123451", "123452"} <= set(ids) and "123453" not in ids for ids in listed)

            until(both, "both containers")
        finally:
            for rule in rules:
                subprocess.run(["iptables", "-w", "-D", *rule.split()], check=True)


def test_loopback_beside_namespaces_that_cannot_have_logged_it(
    quiet: AuditState, tasks: list[Task], tmp_path: Path, token: str
) -> None:
    """The same without a mark: the other namespace has no rules. Once it had, it may have logged any such packet."""
    rule, journal = "-p icmp --icmp-type echo-request -j AUDIT --type accept", tmp_path / "journal"
    with listening(tmp_path / "l", "--format", "raw", "--journal", journal) as listener:
        control = str(tmp_path / "l" / "control")
        tasks += [Task(), Task(), Task("unshare", "-n")]
        for number, task in enumerate(tasks, 123451):
            api.set_contid(task.pid, number, control=control)
        assert tasks[2].run("ip link set lo up 2>&1") == ""
        subprocess.run(["iptables", "-w", "-I", "INPUT", "-i", "lo", *rule.split()], check=True)

        def answers(place: str) -> list[set[str]]:
            """What is told of the packets to there so far; nothing (yet) is no container."""
            of_it = f" daddr={place} ".encode()
            found = [contids(lines) for lines in events(listener.out).values() if of_it in lines[0]]
            return [set(",".join(ids).split(",")) for ids in found]

        def ping(place: str) -> list[set[str]]:
            subprocess.run(["busybox", "ping", "-c", "1", place], stdout=subprocess.DEVNULL, check=False)
            return answers(place)

        def both(place: str) -> bool:
            return any({"123451", "123452"} <= ids for ids in ping(place))

        try:
            until(lambda: both("127.0.0.1"), "both containers")
            assert tasks[2].run(f"iptables -w -A INPUT {rule} 2>&1; iptables -w -F 2>&1") == ""
            until(lambda: len(ping("127.0.0.2")) > 20, "more packets")
            # what has ended does not stand in the way
            tasks[2].end()
            until(lambda: both("127.0.0.3"), "both containers again")
        finally:
            subprocess.run(["iptables", "-w", "-D", "INPUT", "-i", "lo", *rule.split()], check=True)
    assert all(ids == {"?"} for ids in answers("127.0.0.2"))
    for ids in answers("127.0.0.1") + answers("127.0.0.3"):
        assert ids == {"?"} or ({"123451", "123452"} <= ids and "123453" not in ids)
    lines = [line + b"\n" for line in listener.out.splitlines() if b"type=NETFILTER_PKT " in line]
    again = auditns("enrich", "--journal", journal, "--record-names", "symbolic", stdin=b"".join(lines)).stdout
    packets = {stamp: contids(told) for stamp, told in events(listener.out).items() if b"NETFILTER_PKT" in told[0]}
    assert {stamp: contids(told) for stamp, told in events(again).items()} == packets


#: what a namespace may have had before it was looked at, and whether nothing can have logged there
HAD = {
    "nothing": ("true", True),
    "addresses": ("ip link set lo up; ip addr add 10.213.14.1/32 dev lo", True),
    "a chain that went": ("iptables -w -N x; iptables -w -X x", False),
    "a table that went": ("nft add table inet x; nft delete table inet x", False),
    "a table of before": ("iptables-legacy -w -L", False),
    "one of IPv6": ("ip6tables-legacy -w -t raw -L", False),
}


@pytest.mark.parametrize("name", HAD)
def test_whether_nothing_can_have_logged_in_a_namespace(root: None, name: str) -> None:
    need_tool("unshare", "ip", "nft", "iptables-legacy")
    command, silent = HAD[name]
    program = f"{sys.executable} -c 'from auditns_connector.host import packet_rules as r; print(r.nothing_logs())'"
    done = subprocess.run(
        ["unshare", "-n", "sh", "-ec", f"{{ {command}; }} >/dev/null; {program}"],
        capture_output=True, text=True, env=environment(), check=True,
    )  # fmt: skip
    assert done.stdout == f"{silent}\n", done.stderr


def test_the_first_packet_of_a_namespace_is_never_the_hosts(
    quiet: AuditState, tasks: list[Task], tmp_path: Path, token: str
) -> None:
    """Addresses are newer than any reading of them, and the packet comes at once. While one namespace is there, others
    come and send; another one's first packets are IPv6's, from no address to all."""
    with listening(tmp_path / "l", "--format", "raw") as listener:
        control = str(tmp_path / "l" / "control")
        tasks.append(Task("unshare", "-n"))
        api.set_contid(tasks[0].pid, 1, control=control)
        setup(tasks[0], 0x4D5, "ip addr add 10.213.11.1/32 dev lo")
        packet(listener, tasks[0], "10.213.11.1", 0x4D5, ["1"])
        for number in range(2, 8):
            task = Task("unshare", "-n")
            tasks.append(task)
            api.set_contid(task.pid, number, control=control)
            setup(task, 0x4E0 + number)
            address, pair = f"10.213.11.{number}", f"v{token}"[:13]
            commands = (
                f"ip addr add {address}/32 dev lo; busybox ping -c 1 -W 1 {address}",
                f"ip addr del {address}/32 dev lo; ip addr add {address}/32 dev lo; busybox ping -c 1 -W 1 {address}",
                f"sleep 0.2; busybox ping -c 1 -W 1 {address}",
                f"ip6tables -w -A INPUT -j AUDIT --type accept; ip link add {pair}a type veth peer name {pair}b",
                f"ip link set {pair}a up; ip link set {pair}b up; sleep 0.3",
            )
            for command in commands:
                task.run(f"( {command} ) >/dev/null 2>&1")
        last = b"mark=%#x " % 0x4E7

        def come() -> bool:
            found = [lines for lines in events(listener.out).values() if b"type=NETFILTER_PKT" in lines[0]]
            return sum(last in lines[0] for lines in found) >= 3 and all(contids(lines) for lines in found)

        until(come, "the last packets, and whose each is")
        seen = [(lines[0], contids(lines)) for lines in events(listener.out).values() if b"NETFILTER_PKT" in lines[0]]
        told = {
            number: [ids for line, ids in seen if b"mark=%#x " % (0x4E0 + number) in line] for number in range(2, 8)
        }
        for number, answers in told.items():
            assert len(answers) >= 3, told
            assert all(ids in ([str(number)], ["?"]) for ids in answers), told
        assert any(ids != ["?"] for answers in told.values() for ids in answers), told


def test_addresses_are_followed_with_as_few_privileges_as_the_listener_keeps(
    quiet: AuditState, tasks: list[Task], tmp_path: Path, token: str
) -> None:
    """What changes after the first reading is known, in both families, and when it has gone too."""
    with listening(tmp_path / "l", "--format", "raw") as listener:
        control = str(tmp_path / "l" / "control")
        tasks += [Task("unshare", "-n"), Task("unshare", "-n")]
        for number, task in enumerate(tasks, 1):
            api.set_contid(task.pid, number, control=control)
            setup(task, 0x4F0 + number, "ip addr add 10.213.12.9/32 dev lo")
        one, other = tasks
        packet(listener, one, "10.213.12.9", 0x4F1, ["?"])
        assert other.run("ip addr del 10.213.12.9/32 dev lo 2>&1") == ""
        packet(listener, one, "10.213.12.9", 0x4F1, ["1"])
        assert other.run("ip addr add 10.213.12.9/32 dev lo 2>&1") == ""
        packet(listener, other, "10.213.12.9", 0x4F2, ["?"])
