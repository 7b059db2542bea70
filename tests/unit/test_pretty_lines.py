"""Lines for people: what was done, by whom and where to, in words."""

from pathlib import Path
from typing import Any

import pytest

from auditns_connector.emit import words
from auditns_connector.emit.json_objects import HOST, Who
from auditns_connector.emit.pretty import Event, Pretty, Template
from auditns_connector.errors import ConfigError
from auditns_connector.vocabulary import syscall_names

MS = 1_700_000_000_100
SYSCALL: dict[str, Any] = {"arch": "c000003e", "syscall": 257, "success": "yes", "pid": 7, "uid": 0, "auid": 1000}


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def line(records: list[tuple[str, Any]], who: Who = HOST, *, ms: int = MS, **options: Any) -> str:
    return Pretty(**options).event(Event(ms, 5, "", who, (), records)).decode().rstrip("\n")


def test_the_day_stands_where_it_is_another_than_before() -> None:
    pretty = Pretty()
    times = []
    for ms in (MS, MS + 1000, MS + 86_400_000):
        pretty.begin()
        times.append(pretty.event(Event(ms, 1, "", HOST, (), [("SYSCALL", SYSCALL)])).decode().split()[1:3])
        pretty.shown()
    assert times == [["2023-11-14", "22:13:20.100"], ["22:13:21.100", "openat"], ["2023-11-15", "22:13:20.100"]]


def test_what_was_not_shown_is_made_again_the_same() -> None:
    pretty = Pretty()
    event = Event(MS, 1, "", HOST, (), [("SYSCALL", SYSCALL)])
    first = pretty.event(event)
    pretty.begin()
    assert pretty.event(event) == first


@pytest.mark.parametrize(
    ("arch", "number", "name"),
    [
        ("c000003e", 316, "renameat2"),
        ("c000003e", 0x40000208, "execve"),
        ("40000003", 11, "execve"),
        ("c00000b7", 221, "execve"),
        ("80000016", 354, "execveat"),
        ("40000008", 4011, "execve"),
        ("c0000102", 437, "openat2"),
    ],
)
def test_system_calls_of_every_architecture_have_names(arch: str, number: int, name: str) -> None:
    assert syscall_names.call_name(arch, number) == name
    assert f" {name} " in line([("SYSCALL", {**SYSCALL, "arch": arch, "syscall": number})])


@pytest.mark.parametrize("arch", ["c000003e", "", "zzz", "1"])
def test_a_system_call_nobody_knows_is_a_number(arch: str) -> None:
    assert " syscall 99999 " in line([("SYSCALL", {**SYSCALL, "arch": arch, "syscall": 99999})])


def test_the_names_of_system_calls_are_those_of_the_package() -> None:
    pytest.importorskip("system_calls")
    import importlib.util

    place = Path(__file__).resolve().parents[2] / "cdefs" / "generate_syscalls.py"
    spec = importlib.util.spec_from_file_location("generate_syscalls", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PLACE.read_text(encoding="ascii") == module.text()


def test_errors_have_names_where_their_numbers_are_known() -> None:
    failed = {**SYSCALL, "success": "no", "exit": -13}
    assert "openat failed (EACCES) pid=7" in line([("SYSCALL", failed)])
    assert "failed (ERESTARTSYS)" in line([("SYSCALL", {**failed, "exit": -512})])
    assert "failed (-13)" in line([("SYSCALL", {**failed, "arch": "40000008"})])
    assert "failed (-4000)" in line([("SYSCALL", {**failed, "exit": -4000})])


@pytest.mark.parametrize(
    ("saddr", "shown"),
    [
        ("020000357F0000350000000000000000", "127.0.0.53:53"),
        ("0002003508080808", "8.8.8.8:53"),
        ("0A000035000000000000000000000000000000000000000100000000", "[::1]:53"),
        ("01002F72756E2F6D792073", "unix:/run/my s"),
        ("010000612E622E63", "unix:@a.b.c"),
        ("0100", "unix:unnamed"),
        ("100000000700000000000000", "netlink:7"),
        ("28000000E8030000020000000000000000", "vsock:2:1000"),
        ("1D00", "family 29"),
    ],
)
def test_addresses_can_be_read(saddr: str, shown: str) -> None:
    assert words.address({"saddr": saddr}) == shown
    connect = {**SYSCALL, "syscall": 42}
    assert f" connect {shown} pid=7" in line([("SYSCALL", connect), ("SOCKADDR", {"saddr": saddr})])


@pytest.mark.parametrize("saddr", ["", "02", "0200", "zz", None, "0A000035"])
def test_an_address_that_is_cut_is_none(saddr: str | None) -> None:
    assert words.address({"saddr": saddr}) is None


def test_users_have_names_where_these_are_known() -> None:
    live = words.Users(live=True)
    live.refresh()
    assert live.name({"uid": 0}, "uid") == "root"
    assert live.name({"uid": 4_000_000_000}, "uid") == "4000000000"
    assert live.name({"auid": 4_294_967_295}, "auid") is None
    assert live.name({"uid": 5, "enriched": {"UID": "o'neil"}}, "uid") == "o'neil"
    assert live.name({"uid": 5, "enriched": {"UID": "unknown(5)"}}, "uid") is not None
    assert words.Users(live=False).name({"uid": 0}, "uid") == "0"


def test_who_logged_in_is_shown_where_it_is_another() -> None:
    names = {"UID": "root", "AUID": "alice"}
    assert " uid=root auid=alice" in line([("SYSCALL", {**SYSCALL, "enriched": names})])
    assert "auid=" not in line([("SYSCALL", {**SYSCALL, "enriched": {"UID": "alice", "AUID": "alice"}})])


def test_files_have_their_directory() -> None:
    records = [
        ("SYSCALL", SYSCALL),
        ("CWD", {"cwd": "/home/a"}),
        ("PATH", {"item": 0, "name": "/home/a", "nametype": "PARENT"}),
        ("PATH", {"item": 1, "name": "../b/c", "nametype": "CREATE"}),
        ("PATH", {"item": 2, "name": "/etc/x", "nametype": "NORMAL"}),
    ]
    assert " openat /home/b/c /etc/x pid=7" in line(records)


def test_an_argument_that_is_missing_is_shown_as_such() -> None:
    assert " execve sh … x pid=7" in line(
        [("SYSCALL", {**SYSCALL, "syscall": 59}), ("EXECVE", {"argv": ["sh", None, "x"]})]
    )


def test_namespaces_are_told_in_words() -> None:
    change = {"nstype": "40000000", "reason": "unshare", "old-ino": 4026, "ino": 4027, "pid": 7}
    made = {"nstype": "40000000", "ino": 4027, "pid": 7}
    for who, options in ((Who("5"), {}), (Who("?"), {}), (HOST, {"namespaces": True})):
        assert " net namespace 4026 -> 4027 (unshare) pid=7" in line([("NS_CHANGE", change)], who, **options)
        assert " new net namespace 4027 " in line([("NS_INIT", made)], who, **options)
        assert " net namespace 4027 is gone " in line([("NS_DEL", made)], who, **options)


@pytest.mark.parametrize("kind", ["NS_INIT", "NS_CHANGE", "NS_DEL", "UNKNOWN[1345]"])
def test_namespaces_of_the_host_are_told_to_people_who_ask(kind: str) -> None:
    """They come and go with every service and every tab of a browser."""
    assert line([(kind, {"nstype": "40000000", "ino": 4027, "pid": 7})]) == ""


@pytest.mark.parametrize("width", [40, 60, 80, 200])
@pytest.mark.parametrize("colour", [False, True])
def test_a_line_fits_the_terminal(width: int, colour: bool) -> None:
    records = [
        ("SYSCALL", {**SYSCALL, "syscall": 59, "success": "no", "exit": -2}),
        ("EXECVE", {"argv": ["x" * 70, "y" * 70]}),
    ]
    shown = line(records, Who("?"), width=lambda: width, colour=colour)
    import re

    bare = re.sub("\x1b\\[[0-9;]*m", "", shown)
    assert len(bare) <= width
    assert bare == line(records, Who("?"), width=lambda: width)


def test_a_template_has_columns_of_ones_own() -> None:
    who = Who("5", {"name": "web", "runtime": "docker"})
    template = Template("{container:6}|{call}|{result}|{user}|{f.items}|{runtime}|{{x}}|{date} {time}")
    records = [("SYSCALL", {**SYSCALL, "items": 2, "success": "no", "exit": -2})]
    assert line(records, who, template=template) == ("web   |openat|ENOENT|0|2|docker|{x}|2023-11-14 22:13:20.100")
    assert line([("USER_CMD", {"pid": 5})], template=Template("{type} {call}{key} {pid}")) == "USER_CMD  5"


@pytest.mark.parametrize("text", ["{nope}", "{", "}", "{container", "{a b}", "{0}"])
def test_a_template_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="output template"):
        Template(text)


def test_nothing_from_outside_is_a_command_to_the_terminal() -> None:
    evil = "\x1b[2J\n\u202e"
    records = [
        ("SYSCALL", {**SYSCALL, "comm": evil, "key": evil, "enriched": {"UID": evil}}),
        ("EXECVE", {"argv": [evil]}),
    ]
    for options in ({}, {"template": Template("{comm} {object} {user} {f.key} {node}")}):
        assert line(records, Who("5", {"name": evil}), **options).isprintable()


@pytest.mark.parametrize("said", ["abc", ["abc", "def"]])
def test_a_field_may_be_called_as_what_the_format_adds_is(said: object) -> None:
    shown = line([("SYSCALL", {**SYSCALL, "enriched": said, "syscall": 99999})])
    assert shown.endswith("syscall 99999 pid=7 uid=0 auid=1000")
