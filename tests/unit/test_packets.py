"""Whose packet is it: addresses, namespaces, marks."""

import json
from typing import Any

import pytest

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.attribution.text_answers import TextAnswers
from auditns_connector.audittext.scanner import TextStream
from auditns_connector.model.address_times import address
from auditns_connector.model.addresses import HOST_NETWORK, listed
from auditns_connector.model.places import UNKNOWN
from auditns_connector.pipeline.filters import EventFilter, parse_contids
from auditns_connector.pipeline.text_stage import Enricher
from auditns_connector.query.answers import ids_of, is_contid
from auditns_connector.vocabulary import frames as f
from auditns_connector.vocabulary.namespaces import INITIAL_INODES_618
from tests.unit.test_registry import SHELL, Registering
from tests.unit.world import MS

HOST_NET = INITIAL_INODES_618["net"]


class Net(Registering):
    """Containers 1 and 2 in network namespace 901, 3 in 902, 4 in the host's."""

    def __init__(self) -> None:
        super().__init__()
        for number, pid, inode in ((1, 101, 901), (2, 102, 901), (3, 103, 902), (4, 104, 0)):
            self.fork(SHELL, pid, 10 + number, net=HOST_NET)
            if inode:
                self.unshare(pid, 15 + number, net=inode)
            assert self.set(pid, number, 20 + number) == ""
        self.model.packets.want(100 * MS)
        self.now = 2000 * MS

    def addrs_frame(self, inode: int, **about: object) -> None:
        payload = json.dumps({"ino": inode, "dev": 4, **about}).encode()
        self.put(f.K_ADDRS, None, f.S_PROCFS, payload=payload)

    def addresses(self, inode: int, *addresses: str, since: float = 200, broadcast: tuple[str, ...] = ()) -> None:
        """A reading that began at ``since`` (ms), and is followed."""
        self.addrs_frame(inode, addrs=addresses, since=int(since * MS), all=broadcast)

    def change(self, inode: int, since: float, at: float, new: tuple[str, ...] = (), old: tuple[str, ...] = ()) -> None:
        """What a socket has told at ``at``, and not yet at ``since``."""
        self.now = int(at * MS)
        self.addrs_frame(inode, new=new, old=old, all=(), since=int(since * MS))
        self.now = 2000 * MS

    def all_known(self) -> None:
        self.addresses(HOST_NET, "192.0.2.1", "127.0.0.1", "::1")
        self.addresses(901, "10.0.0.1", "127.0.0.1", "::1", "fd00::1", "10.9.9.9")
        self.addresses(902, "10.0.0.2", "127.0.0.1", "10.9.9.9")

    def marks(self, **marks: int) -> None:
        pairs = [(int(mark[1:], 0), contid) for mark, contid in marks.items()]
        payload = json.dumps({"op": "marks", "marks": pairs}).encode()
        self.put(f.K_REGISTER, None, f.S_CONTROL, payload=payload)

    def enriched(self, body: str, wanted: EventFilter | None = None, name: str = "raw", at: int = 1900) -> str:
        self.now = 2000 * MS
        correlator = Correlator(self.model)
        enricher = Enricher(correlator, [name], wanted=wanted)
        stream = TextStream(whole=enricher.whole)
        text = f"type=NETFILTER_PKT msg=audit({1700000000 + at // 1000}.{at % 1000:03}:7): {body}\n".encode()
        out = b""
        for more in (stream.push, lambda _: stream.flush(eof=True)):
            points = more(text)
            out += enricher.take(points, lambda p: correlator.answer(p, self.now)).get(name, b"")
        return out.decode()

    def packet(self, source: str, destination: str, mark: str = "0x0", at: int = 1900) -> str | None:
        out = self.enriched(f"mark={mark} saddr={source} daddr={destination} proto=6", at=at)
        return out.rpartition("contid=")[2].strip() if "CONTAINER_ID" in out else None


@pytest.fixture
def net() -> Net:
    return Net()


def test_source_first_then_destination(net: Net) -> None:
    net.all_known()
    assert net.packet("10.0.0.1", "10.0.0.2") == "1,2,3"
    assert net.packet("10.0.0.2", "10.0.0.1") == "3,1,2"
    assert net.packet("10.0.0.2", "198.51.100.1") == "3"
    assert net.packet("198.51.100.1", "fd00:0:0::1") == "1,2"
    assert net.packet("10.0.0.1", "10.0.0.1") == "1,2"
    assert net.packet("::ffff:10.0.0.2", "198.51.100.1") == "3"


@pytest.mark.parametrize("at", [-86_400_000, 86_400_000])
def test_a_packet_of_another_time_is_not_judged_by_the_addresses_of_now(net: Net, at: int) -> None:
    net.all_known()
    for source in ("10.0.0.1", "198.51.100.1", "127.0.0.1"):
        assert net.packet(source, "198.51.100.2", at=at) == "?"
    net.marks(m0x64=3)
    assert net.packet("127.0.0.1", "127.0.0.1", "0x64", at=at) == "?"


def test_the_host_network_is_that_of_whoever_is_in_it(net: Net) -> None:
    net.all_known()
    assert net.packet("192.0.2.1", "198.51.100.1") == "4"
    net.exit(104, 1000)
    assert net.packet("192.0.2.1", "198.51.100.1") is None


def test_ambiguous_addresses_need_a_mark(net: Net) -> None:
    net.all_known()
    for place in ("127.0.0.1", "127.8.8.8", "::1", "10.9.9.9"):
        assert net.packet(place, "10.0.0.2") == "?"
    net.marks(m0x64=3, m101=55)
    assert net.packet("127.0.0.1", "127.0.0.1", "0x64") == "3"
    assert net.packet("10.9.9.9", "10.0.0.2", "0x65") == "55"
    assert net.packet("10.9.9.9", "10.0.0.2", "0x66") == "?"
    assert net.packet("10.0.0.1", "10.0.0.2", "0x64") == "1,2,3"


def test_loopback_is_not_of_namespaces_that_cannot_have_logged_it(net: Net) -> None:
    net.all_known()
    for place in ("127.0.0.1", "::1"):
        assert net.packet(place, place) == "?"
    # read before the record was
    for inode in (901, 902):
        net.addrs_frame(inode, silent=1890 * MS)
    assert net.packet("127.0.0.1", "127.0.0.1") == "?"
    net.addrs_frame(901, silent=2001 * MS)
    assert net.packet("127.0.0.1", "127.0.0.1") == "?"
    assert net.packet("::1", "::1") == "4"
    net.addrs_frame(902, silent=2001 * MS)
    assert net.packet("127.0.0.1", "127.9.9.9") == "4"
    # an address that packets come from is told by who owns it, wherever they are logged
    assert net.packet("10.0.0.1", "10.0.0.2") == "1,2,3"
    assert net.packet("10.9.9.9", "10.0.0.2") == "?"


def test_what_is_not_followed_yet_cannot_have_logged_loopback_either(net: Net) -> None:
    net.all_known()
    for inode in (901, 902):
        net.addrs_frame(inode, silent=2001 * MS)
    net.fork(101, 105, 1990, net=903)
    assert net.packet("127.0.0.1", "127.0.0.1") == "?"
    net.addrs_frame(903, silent=2001 * MS)
    assert net.packet("127.0.0.1", "127.0.0.1") == "4"
    assert net.packet("10.0.0.9", "10.0.0.9") == "?"


def test_which_namespaces_are_asked_for(net: Net) -> None:
    net.all_known()

    def asked(place: str) -> set[int]:
        fields = {b"saddr": place.encode(), b"daddr": b"198.51.100.1"}
        return {inst.ino for inst in net.model.packets.rivals(fields, 1900 * MS, 2000 * MS, 2000 * MS)}

    assert asked("127.0.0.1") == {HOST_NET, 901, 902}
    assert asked("10.9.9.9") == set()
    net.addrs_frame(902, silent=2001 * MS)
    assert asked("127.0.0.1") == {HOST_NET, 901}
    net.addrs_frame(901, silent=2001 * MS)
    assert asked("127.0.0.1") == set()


def test_a_mark_of_the_hosts_network_means_all_in_it(net: Net) -> None:
    """The test of the container identifier patches: two containers in the initial network namespace, loopback."""
    net.all_known()
    net.fork(SHELL, 105, 1000, net=HOST_NET)
    assert net.set(105, 5, 1001) == ""
    assert net.packet("127.0.0.1", "127.0.0.1", "0x12345555") == "?"
    net.marks(m0x12345555=HOST_NETWORK)
    assert net.packet("127.0.0.1", "127.0.0.1", "0x12345555") == "4,5"
    assert net.packet("10.0.0.1", "10.0.0.2", "0x12345555") == "1,2,3"
    net.exit(104, 1002)
    net.exit(105, 1003)
    assert net.packet("127.0.0.1", "127.0.0.1", "0x12345555") is None


def test_a_long_list_is_cut_behind_a_whole_identifier() -> None:
    ids = [str((1 << 64) - 2 - n) for n in range(5000)]
    assert listed(ids[:3]) == ",".join(ids[:3])
    for count in (381, 382, 5000):
        text = listed(ids[:count])
        *whole, last = text.split(",")
        assert len(text) <= 8000
        assert whole == ids[: len(whole)]
        assert last == (f"+{count - len(whole)}" if count > 381 else ids[380])
    assert len(listed(ids[:380])) == 380 * 21 - 1


def test_a_list_of_hundreds_fits_a_record(net: Net) -> None:
    net.all_known()
    for n in range(600):
        pid = 1000 + n
        net.fork(SHELL, pid, 1000 + n / 10, net=HOST_NET)
        net.unshare(pid, 1000.02 + n / 10, net=901)
        assert net.set(pid, (1 << 64) - 2 - n, 1100 + n / 10) == ""
    body = "mark=0 saddr=10.0.0.1 daddr=198.51.100.1 proto=1"
    out = net.enriched(body)
    line = next(line for line in out.splitlines() if "CONTAINER_ID" in line)
    assert 7900 < len(line) < 8200
    *_, last, rest = line.rpartition("contid=")[2].split(",")
    assert int(rest.removeprefix("+")) > 200
    # filters and JSON know those that are not written; who reads the text knows that there are others
    hidden = str((1 << 64) - 2 - 599)
    assert hidden not in line
    assert net.enriched(body, EventFilter(contids=[parse_contids(hidden)]))
    stream = TextStream(whole=True)
    points = stream.push(out.encode())
    points = points if points.n else stream.flush(eof=True)
    state = TextAnswers().answer(points, 0, net.model.containers)
    assert state is not None
    assert state.container is not UNKNOWN
    assert state.container is not None
    assert state.container.text.endswith(f",{last},{rest}")
    assert ids_of(state.container.text)[-1] is None
    assert is_contid(state.container.text)
    assert not is_contid(f"1,{rest},2")
    assert not is_contid(rest)


def test_nothing_is_said_to_be_elsewhere_before_all_is_known(net: Net) -> None:
    assert net.packet("198.51.100.1", "10.0.0.1") == "?"
    net.all_known()
    assert net.packet("198.51.100.1", "198.51.100.2") is None
    net.fork(101, 105, 1990, net=903)
    assert net.packet("198.51.100.1", "198.51.100.2") == "?"
    net.addresses(903)
    assert net.packet("198.51.100.1", "198.51.100.2") is None


def test_a_container_that_has_just_gone_had_its_packets(net: Net) -> None:
    net.all_known()
    net.exit(103, 1950)
    assert net.packet("10.0.0.2", "10.0.0.1") == "3,1,2"
    late = Net()
    late.all_known()
    late.exit(103, 1000)
    assert late.packet("10.0.0.1", "198.51.100.1") == "1,2"


def test_addresses_that_a_namespace_gives_up(net: Net) -> None:
    net.all_known()
    net.addresses(902, "10.0.0.3", since=1000)
    assert net.packet("10.9.9.9", "198.51.100.1") == "1,2"
    assert net.packet("10.0.0.2", "198.51.100.1") is None


def test_nested_containers_and_unknown_ones(net: Net) -> None:
    net.all_known()
    net.ask("delegate", 103, 2001)
    net.fork(103, 120, 2002)
    assert net.set(120, 9, 2003, by=103) == ""
    assert net.packet("10.0.0.2", "198.51.100.1") == "3,9,^3"


@pytest.mark.parametrize(
    ("term", "kept"), [("1", True), ("3", True), ("4", False), ("!=1", False), ("unset", False), ("unknown", False)]
)
def test_filters_see_every_container_of_a_packet(net: Net, term: str, kept: bool) -> None:
    net.all_known()
    wanted = EventFilter(contids=[parse_contids(term)])
    assert bool(net.enriched("mark=0 saddr=10.0.0.1 daddr=10.0.0.2 proto=1", wanted)) is kept


def test_as_an_object(net: Net) -> None:
    net.all_known()
    found = json.loads(net.enriched("mark=0 saddr=10.0.0.1 daddr=10.0.0.2 proto=1", name="json"))
    assert found["contid"] == "1,2,3"
    assert net.enriched("mark=0 saddr=10.0.0.1 daddr=10.0.0.2 proto=1", name="pretty")


@pytest.mark.parametrize(
    "body",
    ["", "saddr= daddr=", "saddr=x daddr=1.2.3", "saddr=1.2.3.4.5", "mark=zz saddr=127.0.0.1", "saddr=::::", "saddr=ß"],
)  # fmt: skip
def test_records_that_make_no_sense(net: Net, body: str) -> None:
    net.all_known()
    assert "contid=?" in net.enriched(body)


def test_addresses_in_bytes() -> None:
    assert address("10.0.0.1") == bytes((10, 0, 0, 1)) == address(b"::ffff:10.0.0.1")
    assert [address(text) for text in ("", "x", "1.2.3", "::1%lo", "1.2.3.4\0")] == [None] * 5


def test_answers_of_the_helper_about_a_namespace_of_before(net: Net) -> None:
    payload: dict[str, Any] = {"ino": 902, "dev": 99, "addrs": ["10.7.7.7"]}
    net.put(f.K_ADDRS, None, f.S_PROCFS, payload=json.dumps(payload).encode())
    net.addresses(4711, "10.7.7.7")
    assert net.packet("10.7.7.7", "10.7.7.7") == "?"


def test_an_address_that_is_newer_than_the_packet_is_not_said_to_be_anybodys(net: Net) -> None:
    """Was the host's: the last reading, older than the packet, did not have the address."""
    net.all_known()
    net.change(901, 1899, 1950, new=("10.5.5.5",))
    assert net.packet("10.5.5.5", "198.51.100.1", at=1800) is None
    # stamps are those of the tick before: the packet may be newer
    assert net.packet("10.5.5.5", "198.51.100.1", at=1896) == "?"
    for at in (1899, 1910, 1950):
        assert net.packet("10.5.5.5", "198.51.100.1", at=at) == "?", at
    assert net.packet("10.5.5.5", "198.51.100.1", at=1960) == "1,2"


def test_an_address_that_went_about_the_time_of_the_packet(net: Net) -> None:
    net.all_known()
    net.change(902, 1700, 1750, old=("10.0.0.2",))
    assert net.packet("10.0.0.2", "198.51.100.1", at=1650) == "3"
    # another device of the namespace may have had it too, until it was read again
    assert net.packet("10.0.0.2", "198.51.100.1", at=1720) == "?"
    assert net.packet("10.0.0.2", "198.51.100.1", at=1900) == "?"
    net.addresses(902, "127.0.0.1", since=1800)
    assert net.packet("10.0.0.2", "198.51.100.1", at=1720) == "?"
    assert net.packet("10.0.0.2", "198.51.100.1", at=1900) is None
    assert net.packet("10.0.0.2", "198.51.100.1", at=1650) == "3"


def test_a_namespace_that_is_not_followed_may_have_had_any_address(net: Net) -> None:
    net.addresses(HOST_NET, "192.0.2.1", "127.0.0.1")
    net.addresses(901, "10.0.0.1")
    # 902, container 3's, may have had the same one
    assert net.packet("10.0.0.1", "198.51.100.1") == "?"
    assert net.packet("192.0.2.1", "198.51.100.1") == "?"
    net.addresses(902, "10.0.0.2", since=1920)
    assert net.packet("10.0.0.1", "198.51.100.1") == "?"
    assert net.packet("10.0.0.2", "198.51.100.1", at=1910) == "?"
    assert net.packet("10.0.0.1", "198.51.100.1", at=1930) == "1,2"
    assert net.packet("10.0.0.2", "198.51.100.1", at=1930) == "3"
    assert net.packet("198.51.100.2", "198.51.100.1", at=1930) is None


def test_a_namespace_without_a_container_changes_nothing(net: Net) -> None:
    net.all_known()
    net.fork(SHELL, 105, 1800, net=903)
    assert net.packet("198.51.100.1", "198.51.100.2") is None
    assert net.packet("10.0.0.1", "198.51.100.2") == "?"
    net.addresses(903, "10.0.0.1", since=1850)
    assert net.packet("10.0.0.1", "198.51.100.2") == "?"


def test_a_namespace_that_began_and_ended_about_the_time_of_the_packet(net: Net) -> None:
    net.all_known()
    net.fork(101, 105, 1890, net=903)
    net.exit(105, 1950)
    assert net.packet("198.51.100.1", "198.51.100.2") == "?"
    assert net.packet("198.51.100.1", "198.51.100.2", at=1960) is None


def test_what_is_not_followed_any_more_is_not_known(net: Net) -> None:
    net.all_known()
    net.addrs_frame(902, addrs=None)
    assert net.packet("198.51.100.1", "198.51.100.2") == "?"
    # journals of before say what was read, and that was true in its moment alone
    net.addrs_frame(902, addrs=["10.0.0.2"])
    assert net.packet("10.0.0.2", "198.51.100.2") == "?"
    net.addresses(902, "10.0.0.2", since=1500)
    assert net.packet("10.0.0.2", "198.51.100.2") == "3"
    assert net.packet("10.0.0.2", "198.51.100.2", at=1490) == "?"


def test_packets_before_anybody_followed_addresses(net: Net) -> None:
    net.all_known()
    assert net.packet("10.0.0.1", "198.51.100.1", at=100) == "?"
    assert net.packet("198.51.100.2", "198.51.100.1", at=100) == "?"
    assert net.packet("10.0.0.1", "198.51.100.1", at=300) == "1,2"


@pytest.mark.parametrize(
    ("source", "destination"),
    [("0.0.0.0", "255.255.255.255"), ("::", "ff02::1:ff00:1"), ("198.51.100.1", "224.0.0.251"), ("?", "?"),
     ("198.51.100.1", "10.255.255.255"), ("fe80::7", "ff02::1"), ("0.0.0.0", "10.0.0.2")],
)  # fmt: skip
def test_an_address_of_all_says_nothing(net: Net, source: str, destination: str) -> None:
    """A namespace's first packets, of DHCP and of IPv6, were the host's."""
    net.all_known()
    net.addresses(901, "10.0.0.1", since=300, broadcast=("10.255.255.255",))
    assert net.packet(source, destination) == "?"
    assert net.packet("10.0.0.1", destination) in ("1,2", "1,2,3", "?")
    if destination not in ("?", "10.0.0.2"):
        assert net.packet("10.0.0.1", destination) == "1,2"
    for pid in (101, 102, 103, 104):
        net.exit(pid, 1000)
    assert net.packet(source, destination) is None


def test_a_namespace_that_outlives_its_tasks_keeps_its_addresses(net: Net) -> None:
    net.all_known()
    net.exit(103, 1000)
    net.addresses(901, "10.0.0.1", "10.0.0.2", since=1500)
    assert net.packet("10.0.0.2", "198.51.100.1") == "?"
    net.now = 1800 * MS
    net.addrs_frame(902, gone=True, since=1700 * MS)
    assert net.packet("10.0.0.2", "198.51.100.1", at=1750) == "?"
    assert net.packet("10.0.0.2", "198.51.100.1", at=1900) == "1,2"


def test_what_is_known_survives_a_rotated_journal(net: Net) -> None:
    net.all_known()
    net.change(901, 1600, 1650, new=("10.5.5.5",), old=("fd00::1",))
    before = [about | {"dev": 4} for about in net.model.packets.snapshot()]
    other = Net()
    for about in before:
        other.addrs_frame(about["ino"], **{name: about[name] for name in ("since", "holds")})
    assert other.model.packets.snapshot() == net.model.packets.snapshot()
    for at in (1500, 1620, 1900):
        for source in ("10.5.5.5", "fd00::1", "10.0.0.2", "127.0.0.1", "198.51.100.7"):
            assert other.packet(source, "198.51.100.1", at=at) == net.packet(source, "198.51.100.1", at=at)


def test_addresses_that_come_and_go_do_not_fill_memory(net: Net) -> None:
    net.all_known()
    for n in range(2000):
        at = 2000 + n * 1000
        net.change(901, at, at + 1, new=(f"10.7.{n >> 8}.{n & 255}", "10.8.8.8"), old=("10.8.8.8",))
        net.change(901, at + 1, at + 2, old=(f"10.7.{n >> 8}.{n & 255}",))
        net.addresses(901, "10.0.0.1", since=at + 3)
    (known,) = [known for inst, known in net.model.packets._of.items() if inst.ino == 901]
    assert sum(map(len, known.holds.values())) < 100


def test_while_namespaces_may_have_begun_unseen_nothing_is_proven(net: Net) -> None:
    net.all_known()
    net.put(f.K_LOST, 1850, f.S_PERF, cpu=0, arg=1, cgroup=1800 * MS)
    assert net.packet("198.51.100.1", "198.51.100.2", at=1840) == "?"
    assert net.packet("198.51.100.1", "198.51.100.2", at=1900) is None
    net.model.perf = False
    assert net.packet("198.51.100.1", "198.51.100.2", at=1900) == "?"
    assert net.packet("10.0.0.1", "198.51.100.2", at=1900) == "?"
