"""Streams, the parts without input or output: definitions, backlogs, the tailored view, messages."""

import pytest

from auditns_connector.config.streams import Definition, change, read
from auditns_connector.daemon.rate import RateLimit
from auditns_connector.errors import ConfigError
from auditns_connector.model.places import UNKNOWN, Container
from auditns_connector.streams.backlog import Backlog, Entry, Gap
from auditns_connector.streams.messages import RefusedError, Sender, parse, record, word
from auditns_connector.streams.tailor import Names, Tailor, Tally

ONE = Container((("podman", "a" * 64),), "runtime", 0, None)
TWO = Container((("docker", "b" * 64),), "runtime", 0, None)
NESTED = Container((*ONE.key, ("docker", "c" * 64)), "runtime", 0, ONE)
IDS = {ONE: 1, TWO: 2, NESTED: 3}


def contid(container: Container) -> int:
    return IDS[container]


def entry(serial: int, records: int = 1, home: Container = ONE) -> Entry:
    return Entry(serial, serial * 1000, records, home, lambda: b"%d\n" % serial)


def taken(backlog: Backlog) -> list[object]:
    out: list[object] = []
    while (item := backlog.take()) is not None:
        out.append(item.serial if isinstance(item, Entry) else (item.records, item.first, item.last))
    return out


# -- definitions


@pytest.mark.parametrize("name", ["web", "a", "a.b", "a-b_c", "0", "x" * 63])
def test_a_name_that_may_be_a_directory(name: str) -> None:
    assert read(name, {"contid": [1]}).stream == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a..b", ".private", "a/b", "../x", "/x", "A", "a b", "a\n", "a\0", "x" * 64, "a.", 7, None]
)
def test_a_name_that_may_not(name: object) -> None:
    with pytest.raises(ConfigError, match="stream name"):
        read(name, {"contid": [1]})


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({}, "which containers"),
        ({"contid": [-1]}, "contid"),
        ({"contid": [1], "mode": "4755"}, "mode"),
        ({"contid": [1], "mode": "0755"}, "mode"),
        ({"contid": [1], "overflow": "never"}, "drop-oldest"),
        ({"contid": [1], "backlog_limit": -1}, "backlog_limit"),
        ({"contid": [1], "stream": "other"}, "unknown key"),
        ([], "not a table"),
    ],
)
def test_what_is_not_allowed_is_said(table: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read("web", table)


def test_nothing_is_written_unless_the_limit_is_raised() -> None:
    assert read("web", {"contid": [1]}).backlog_limit == 0


def test_a_definition_survives_being_kept() -> None:
    definition = read("web", {"contid": ["0x10"], "label": ["a=b*"], "mode": "0660", "uid": 7, "paused": True})
    assert read("web", definition.as_dict()) == definition


def test_any_container_around_it_matches_and_the_outermost_is_home() -> None:
    assert read("w", {"contid": [1]}).home(contid, NESTED) is ONE
    assert read("w", {"contid": [2]}).home(contid, NESTED) is None
    assert read("w", {"runtime": ["podman", "docker"]}).home(contid, NESTED) is ONE
    assert read("w", {"contid": [1]}).home(contid, None) is None
    assert read("w", {"name": ["*"]}).home(contid, UNKNOWN) is None


def test_terms_must_all_match_the_same_container() -> None:
    assert read("w", {"contid": [1], "runtime": ["docker"]}).home(contid, NESTED) is None
    assert read("w", {"contid": [1], "runtime": ["podman"]}).home(contid, NESTED) is ONE


def test_what_a_container_says_it_has_inside_is_the_home_of_no_stream() -> None:
    for table in ({"contid": [3]}, {"runtime": ["docker"]}, {"name": ["cccc*"]}):
        assert read("w", table).home(contid, NESTED) is None


def test_labels_pods_and_names() -> None:
    web = Container((("docker", "d" * 64),), "runtime", 0, None)
    web.name, web.pod, web.labels = "web-1", "shop", {"tier": "front", "x": ""}
    assert Definition("s", name=("web-*",)).matches(None, web)
    assert Definition("s", name=("dddd*",)).matches(None, web)
    assert Definition("s", pod=("sh?p",)).matches(None, web)
    assert Definition("s", label=("x",)).matches(None, web)
    assert Definition("s", label=("tier=fr*",)).matches(None, web)
    assert not Definition("s", label=("tier=b*",)).matches(None, web)
    assert not Definition("s", label=("y",)).matches(None, web)
    assert not Definition("s", pod=("*",)).matches(None, ONE)


def test_a_change_keeps_the_rest() -> None:
    old = read("w", {"contid": [1], "backlog_limit": 5})
    assert change(old, {"backlog_limit": 9}) == old._replace(backlog_limit=9)


# -- backlog


def test_drop_oldest_keeps_the_newest_and_tells_the_loss_first() -> None:
    backlog = Backlog(3)
    for serial in range(1, 8):
        backlog.push(entry(serial))
    assert (backlog.records, backlog.lost) == (3, 4)
    assert taken(backlog) == [(4, 1, 4), 5, 6, 7]
    assert backlog.records == 0


def test_drop_newest_keeps_the_oldest_and_loses_in_one_piece() -> None:
    backlog = Backlog(4, "drop-newest")
    assert [backlog.push(entry(serial)) for serial in range(1, 8)] == [True] * 4 + [False] * 3
    assert backlog.take().serial == 1  # type: ignore[union-attr]
    assert backlog.push(entry(8)) is False  # not before half is free
    assert backlog.refuses
    backlog.take()
    assert backlog.push(entry(9)) is True
    assert taken(backlog) == [3, 4, (4, 5, 8), 9]


def test_an_event_larger_than_the_limit_is_lost_whole() -> None:
    backlog = Backlog(4)
    backlog.push(entry(1, 4))
    assert backlog.push(entry(2, 5)) is False
    assert taken(backlog) == [1, (5, 2, 2)]


def test_losses_of_several_containers_are_nobodys() -> None:
    backlog = Backlog(1)
    for serial, home in ((1, ONE), (2, TWO), (3, ONE)):
        backlog.push(entry(serial, home=home))
    mine = backlog.extract(ONE)
    assert taken(mine) == [(0, 1, 2), 3]  # how many were another's is not told
    assert taken(backlog) == [(2, 1, 2)]


def test_a_pause_and_an_overflow_that_meet_are_one_loss() -> None:
    backlog = Backlog(2)
    backlog.append(Gap.of(entry(1), paused=True))
    for serial in (2, 3, 4):
        backlog.push(entry(serial))
    assert backlog.take() == Gap(2, 1, 2, 2000, ONE)


def test_a_reader_of_one_container_is_given_no_others_events() -> None:
    backlog = Backlog(100)
    for serial, home in ((1, ONE), (2, TWO), (3, NESTED), (4, ONE)):
        backlog.push(entry(serial, home=home))
    mine = backlog.extract(ONE)
    assert taken(mine) == [1, 4]
    assert (taken(backlog), backlog.records) == ([2, 3], 0)


def test_what_a_reader_left_comes_first_again() -> None:
    backlog = Backlog(10)
    for serial in (1, 2):
        backlog.push(entry(serial))
    first = backlog.take()
    assert first is not None
    rest = backlog.items()
    backlog.push(entry(3))
    backlog.prepend([first, *rest])
    assert backlog.records == 3
    assert taken(backlog) == [1, 2, 3]


def test_a_smaller_limit_drops_what_is_too_much() -> None:
    backlog = Backlog(10)
    for serial in range(1, 6):
        backlog.push(entry(serial))
    backlog.resize(2, "drop-oldest")
    assert taken(backlog) == [(3, 1, 3), 4, 5]


def test_text_is_not_made_for_what_is_dropped() -> None:
    made: list[int] = []
    backlog = Backlog(1)
    for serial in (1, 2):
        backlog.push(Entry(serial, 0, 1, ONE, lambda serial=serial: made.append(serial) or b"x\n"))  # type: ignore[misc]
    item = backlog.take()
    assert isinstance(item, Gap)
    kept = backlog.take()
    assert isinstance(kept, Entry)
    assert (kept.lines(), kept.lines(), made) == (b"x\n", b"x\n", [2])


def test_rate_limit() -> None:
    second = 1_000_000_000
    rate = RateLimit(10)
    assert [rate.allows(4, second) for _ in range(3)] == [True, True, False]
    assert rate.allows(4, second + second // 5)
    assert not rate.allows(1, second + second // 5)
    assert rate.allows(100, 100 * second)  # larger than the allowance: when it is whole
    assert all(RateLimit(0).allows(1000, 1) for _ in range(3))


# -- tailored view


def tailor(**changed: object) -> tuple[Tailor, Tally]:
    names = Names(
        {4711: 7, 100: 0},
        lambda uid: uid - 100000 if 100000 <= uid < 165536 else None,
        lambda gid: gid - 200000 if 200000 <= gid < 265536 else None,
    )._replace(**changed)  # type: ignore[arg-type]
    tally = Tally()
    return Tailor(names, tally), tally


HEAD = b"type=SYSCALL msg=audit(1.000:5): "


def test_numbers_are_the_containers() -> None:
    one, tally = tailor()
    line = one.line(
        b"node=host " + HEAD + b"arch=c000003e syscall=59 success=yes exit=0 a0=1267 ppid=100 pid=4711 auid=100005 "
        b'uid=100001 gid=200002 euid=0 ses=9 comm="x" key=(null)\x1dARCH=x86_64 UID="alice"\n'
    )
    assert line == (
        HEAD + b"arch=c000003e syscall=59 success=yes exit=0 a0=1267 ppid=0 pid=7 auid=5 "
        b'uid=1 gid=2 euid=65534 ses=4294967295 comm="x" key=(null)\n'
    )
    assert (tally.pids, tally.hidden_pids, tally.ids, tally.hidden_ids) == (2, 0, 3, 1)


def test_what_cannot_be_translated_is_nobodys() -> None:
    one, tally = tailor()
    assert one.line(HEAD + b"pid=9999 ppid=77777777777 uid=-5 gid=x auid=1000 old-auid=1001 ses=3 oses=4\n") == (
        HEAD + b"pid=0 ppid=0 uid=65534 gid=65534 auid=4294967295 old-auid=4294967295 ses=4294967295 oses=4294967295\n"
    )
    assert tally.hidden_pids == 2
    assert tally.hidden_ids == 4


def test_unset_stays_unset() -> None:
    one, tally = tailor()
    line = HEAD + b"pid=0 uid=4294967295 auid=4294967295 ses=4294967295\n"
    assert one.line(line) == line
    assert tally.hidden_ids == 0


def test_the_senders_own_text_is_left_alone() -> None:
    one, _ = tailor()
    line = (
        b"type=USER_CMD msg=audit(1.000:5): pid=4711 uid=100000 auid=1000 ses=2 msg='op=x pid=4711 uid=0 res=success'\n"
    )
    assert one.line(line) == (
        b"type=USER_CMD msg=audit(1.000:5): pid=7 uid=0 auid=4294967295 ses=4294967295 "
        b"msg='op=x pid=4711 uid=0 res=success'\n"
    )


def test_a_login_inside_is_the_auid() -> None:
    one, _ = tailor(login=(1000, 3))
    assert (
        one.line(HEAD + b"auid=4294967295 ses=4294967295 oauid=1000\n") == HEAD + b"auid=1000 ses=3 oauid=4294967295\n"
    )


def test_results_and_arguments() -> None:
    one, _ = tailor(result=0, hide_arguments=True)
    assert one.line(HEAD + b"exit=4711 a0=1267 a3=7\n") == HEAD + b"exit=0 a0=0 a3=0\n"
    assert one.line(HEAD + b"exit=-2\n") == HEAD + b"exit=-2\n"


# -- messages


def test_only_user_types() -> None:
    assert parse(b"USER_CMD op=x y\r") == ("USER_CMD", b"op=x y")
    for line in (b"SYSCALL x", b"CONFIG_CHANGE op=add_rule", b"USER", b"user_cmd x", b"", b"\xff x", b"CONTAINER_ID x"):
        with pytest.raises(RefusedError):
            parse(line)
    with pytest.raises(RefusedError):
        parse(b"USER_CMD " + b"x" * 5000)


HOSTILE = b"x' res=1\ntype=SYSCALL msg=audit(1.0:1): pid=1 contid=7 \x1d\x00\""


def test_no_text_can_forge_anything() -> None:
    line = record("USER_CMD", HOSTILE, Sender(4711, 100000, 0xFFFFFFFF, 3, b"/tmp/a' b"), "web", 1500, 9)
    assert line == (
        b"type=USER_CMD msg=audit(1.500:9): pid=4711 uid=100000 auid=4294967295 ses=3 msg='op=stream-send "
        b'stream="web" data='
        + HOSTILE.hex().upper().encode()
        + b" exe="
        + b"/tmp/a' b".hex().upper().encode()
        + b" hostname=? addr=? terminal=? res=success'\n"
    )
    assert line.count(b"\n") == 1
    assert b"contid" not in line


def test_a_plain_word_stays_readable() -> None:
    assert word(b"backup-done") == b'"backup-done"'
    assert word(b"contid=7") == b"636F6E7469643D37"
