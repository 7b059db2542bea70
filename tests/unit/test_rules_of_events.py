"""Rules of the configuration: which events they match, and what becomes of these."""

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.audittext.scanner import TextStream
from auditns_connector.cli.options import _matches
from auditns_connector.config import options as config
from auditns_connector.config.rules import Rule, read
from auditns_connector.errors import ConfigError
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.pipeline import rules as rules_of
from auditns_connector.pipeline.rules import AllOf, EventMatch, RuleSet
from auditns_connector.pipeline.text_stage import RAW, Enricher


def call(serial: int, fields: str, *more: str) -> str:
    """An event of system call 59 of x86_64, with further records."""
    head = f"msg=audit(1700000000.000:{serial}):"
    lines = [
        f"type=SYSCALL {head} arch=c000003e {fields}",
        *(f"type={record.replace(' ', f' {head} ', 1)}" for record in more),
    ]
    return "\n".join([*lines, f"type=EOE {head} ", ""])


CAT = 'syscall=59 success=yes exit=0 ppid=1 pid=100 auid=1000 uid=0 comm="cat" exe="/usr/bin/cat" key="e"'
SUDO = 'syscall=59 success=no exit=-13 ppid=1 pid=101 auid=1000 uid=0 comm="sudo" exe="/usr/bin/sudo" key="e"'
CONNECT = 'syscall=42 success=yes exit=0 ppid=1 pid=102 auid=4294967295 uid=0 comm="curl" exe="/opt/curl" key=(null)'
TEXT = (
    call(1, CAT, 'EXECVE argc=1 a0="cat"')
    + call(2, SUDO)
    + call(3, CONNECT, "SOCKADDR saddr=020001BB0A0102030000000000000000")
    + "type=USER_LOGIN msg=audit(1700000000.000:4): pid=103 uid=0 auid=7 ses=1 "
    + "msg='op=login exe=\"/usr/bin/cat\" res=success'\n"
)


def run(wanted: Any, text: str = TEXT, logs: Any = None) -> dict[str, list[int]]:
    """Output -> serials of the events in it, each once."""
    enricher = Enricher(Correlator(Model()), [RAW], wanted=wanted, logs=logs)
    stream = TextStream(whole=True)
    enricher.stream = stream
    found: dict[str, list[int]] = {}
    for step in (lambda: stream.push(text.encode()), lambda: stream.flush(eof=True)):
        out = enricher.take(step(), lambda points: enricher._correlator.answer(points, 1 << 60))
        for name, block in out.items():
            serials = [int(line.partition(":")[2].partition(")")[0]) for line in bytes(block).decode().splitlines()]
            found[name] = list(dict.fromkeys([*found.get(name, []), *serials]))
    return found


def matching(**fields: Any) -> list[int]:
    match = EventMatch({name: [value] if isinstance(value, str) else value for name, value in fields.items()})
    return run(match).get(RAW, [])


@pytest.mark.parametrize(
    ("fields", "serials"),
    [
        ({"exe": "/usr/bin/*"}, [1, 2, 4]),
        ({"exe": ["/usr/bin/*", "!=/usr/bin/sudo"]}, [1, 4]),
        ({"exe": "!=/usr/bin/*"}, [3]),
        ({"key": "e"}, [1, 2]),
        ({"key": "!=e"}, [3, 4]),
        ({"comm": ["cat", "curl"]}, [1, 3]),
        ({"auid": "unset"}, [3]),
        ({"auid": "1000", "success": "no"}, [2]),
        ({"success": "yes"}, [1, 3, 4]),
        ({"syscall": "connect"}, [3]),
        ({"syscall": "!=execve"}, [3, 4]),
        ({"sockaddr": "10.0.0.0/8"}, [3]),
        ({"sockaddr": "10.2.0.0/16"}, []),
        ({"record": "USER_LOGIN"}, [4]),
        ({"record": "!=SYSCALL"}, [4]),
        ({"pid": "100,103"}, [1, 4]),
        ({"pid": "!=100"}, [2, 3, 4]),
        ({"contid": "unset"}, []),
        ({"contid": "unknown", "exe": "/opt/*"}, [3]),
        ({"runtime": "docker"}, []),
        ({"runtime": "!=docker", "key": "e"}, [1, 2]),
    ],
)
def test_what_matches(fields: dict[str, Any], serials: list[int]) -> None:
    assert matching(**fields) == serials


def test_what_a_sender_says_of_a_container_matches_none() -> None:
    forged = (
        "type=USER_CMD msg=audit(1700000000.000:9): pid=1 uid=0 msg='contid=5 runtime=docker key=\"e\" auid=1000'\n"
    )
    for fields in ({"contid": ["5"]}, {"runtime": ["docker"]}, {"key": ["e"]}, {"auid": ["1000"]}):
        assert run(EventMatch(fields), forged).get(RAW, []) == []


def test_the_first_rule_that_keeps_or_drops_decides() -> None:
    rules = [
        Rule("sudo", "keep", {"exe": ("/usr/bin/sudo",)}),
        Rule("seen", "log", {"key": ("e",)}, "/x"),
        Rule("execs", "drop", {"key": ("e",)}),
        Rule("late", "log", {"key": ("e",)}, "/y"),
    ]
    filter_ = RuleSet(rules)
    assert run(filter_, logs=filter_.logged) == {RAW: [2, 3, 4], "seen": [1, 2], "late": [2]}
    assert filter_.status() == {"sudo": 1, "seen": 2, "execs": 1, "late": 1}


def test_what_comes_late_goes_where_its_event_went_into_the_file_of_a_rule_too() -> None:
    """A record behind the end of its event matches no rule by itself; nor is it written where its event was not."""
    rules = [
        Rule("cat", "log", {"exe": ("/usr/bin/cat",)}, "/x"),
        Rule("sudo", "log", {"exe": ("/usr/bin/sudo",)}, "/y"),
        Rule("both", "log", {"key": ("e",)}, "/z"),
        Rule("nocat", "drop", {"exe": ("/usr/bin/cat",)}),
    ]
    filter_ = RuleSet(rules)
    enricher = Enricher(Correlator(Model()), [RAW], wanted=filter_, logs=filter_.logged)
    stream = enricher.stream = TextStream(whole=True)
    out: dict[str, str] = {}

    def late(serial: int, kind: str = "PROCTITLE") -> str:
        return f"type={kind} msg=audit(1700000000.000:{serial}): proctitle=00\n"

    for text in (call(1, CAT), call(2, SUDO) + late(1), late(2) + late(1, "CWD") + call(3, CONNECT), late(3), ""):
        points = stream.push(text.encode()) if text else stream.flush(eof=True)
        for name, block in enricher.take(points, lambda points: enricher._correlator.answer(points, 1 << 60)).items():
            out[name] = out.get(name, "") + "".join(
                line + "\n" for line in bytes(block).decode().splitlines() if "CONTAINER_ID" not in line
            )
    assert out["cat"] == call(1, CAT) + late(1) + late(1, "CWD")
    assert out["sudo"] == call(2, SUDO) + late(2)
    assert out["both"] == call(1, CAT) + call(2, SUDO) + late(1) + late(2) + late(1, "CWD")
    assert out[RAW] == call(2, SUDO) + late(2) + call(3, CONNECT) + late(3)


def test_no_more_rules_log_than_an_event_has_bits(tmp_path: Path) -> None:
    rule = '[[rule]]\naction = "log"\npath = "/var/log/{n}"\nmatch = {{ key = ["e"] }}\n'
    assert len(read("f", tomllib.loads("".join(rule.format(n=n) for n in range(63)))["rule"])) == 63
    with pytest.raises(ConfigError, match="at most 63 rules may log"):
        read("f", tomllib.loads("".join(rule.format(n=n) for n in range(64)))["rule"])


def test_rules_stand_behind_the_filters() -> None:
    filter_ = RuleSet([Rule("all", "log", {"pid": ("!=1",)}, "/x")], EventMatch({"key": ["e"]}))
    assert run(filter_, logs=filter_.logged) == {RAW: [1, 2], "all": [1, 2]}
    assert not RuleSet([])


def test_records_of_ours_that_stand_alone() -> None:
    containers = Model().containers
    drop = RuleSet([Rule("1", "drop", {"record": ("NS_INIT",), "contid": ("unset",)})])
    assert not drop.tells(containers, _number("NS_INIT"), 1, None)
    assert drop.tells(containers, _number("NS_DEL"), 1, None)
    assert RuleSet([Rule("1", "drop", {"exe": ("*",)})]).tells(containers, _number("NS_INIT"), 1, None)


def _number(name: str) -> int:
    from auditns_connector.vocabulary.record_types import NUMBERS

    return NUMBERS[name]


def test_the_same_on_the_command_line() -> None:
    assert _matches(["exe=/usr/bin/a,b", "exe!=/bin/*", "auid=0,1000", "success!=yes"]) == {
        "exe": ["/usr/bin/a,b", "!=/bin/*"], "auid": ["0", "1000"], "success": ["!=yes"],
    }  # fmt: skip
    assert run(AllOf([EventMatch(_matches(["key=e"])), EventMatch(_matches(["success!=yes"]))])) == {RAW: [2]}
    for wrong in ("exe", "exe=", "file=/x", "=x", "!=x"):
        with pytest.raises(ConfigError, match="--match"):
            _matches([wrong])


@pytest.mark.parametrize(
    ("data", "word"),
    [
        ("rule = 1", "allowed: tables"),
        ("[[rule]]\naction = 'drop'", "match: allowed"),
        ("[[rule]]\nmatch = {exe = 'x'}", "action: None"),
        ("[[rule]]\nmatch = {exe = 'x'}\naction = 'dorp'", "'dorp' is not allowed; allowed: keep, drop, log"),
        ("[[rule]]\nmatch = {exe = 'x'}\naction = 'log'", "path: the file"),
        ("[[rule]]\nmatch = {exe = 'x'}\naction = 'drop'\npath = '/x'", "path: the file"),
        ("[[rule]]\nmatch = {exe = 'x'}\naction = 'log'\npath = 'x'", "path: allowed: an absolute path"),
        ("[[rule]]\nmatch = {file = 'x'}\naction = 'drop'", "match.file: no such field; allowed: key, contid"),
        ("[[rule]]\nmatch = {exe = []}\naction = 'drop'", "match.exe: allowed"),
        ("[[rule]]\nmatch = {exe = ['!=']}\naction = 'drop'", "match.exe: allowed"),
        ("[[rule]]\nmatch = {exe = 1.5}\naction = 'drop'", "match.exe: allowed"),
        ("[[rule]]\nmatch = {exe = 'x'}\naction = 'drop'\nkind = 1", "kind: no such option"),
        (2 * "[[rule]]\nname = 'a'\nmatch = {exe = 'x'}\naction = 'drop'\n", "same"),
    ],
)  # fmt: skip
def test_a_wrong_rule_is_refused(data: str, word: str) -> None:
    with pytest.raises(ConfigError, match=word.replace("[", r"\[")):
        config.parse(data)


@pytest.mark.parametrize(("field", "value"), [("syscall", "nosuch"), ("contid", "x"), ("pid", "0"), ("record", "NONE")])
def test_a_value_that_nothing_can_have_is_refused(field: str, value: str) -> None:
    with pytest.raises(ConfigError, match=value):
        RuleSet([Rule("1", "drop", {field: (value,)})])


def test_rules_are_read(tmp_path: Path) -> None:
    text = "[[rule]]\nmatch = {success = true, pid = 5}\naction = 'log'\npath = '/var/log/x'\n"
    assert config.parse(text).rules == (Rule("1", "log", {"success": ("yes",), "pid": ("5",)}, "/var/log/x"),)
    assert read("x", []) == ()
    with pytest.raises(ConfigError, match="uses it"):
        config.parse(text + "[output.file]\npath = '/var/log/x'\n")


def test_events_are_numbered_once_for_all_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    number = rules_of.events_of
    monkeypatch.setattr(rules_of, "events_of", lambda points: (asked.append(points.n), number(points))[1])
    rules = [Rule(name, "log", {"exe": (f"*{name}",)}, f"/{name}") for name in ("cat", "sudo", "curl")]
    found = run(RuleSet([*rules, Rule("pid", "drop", {"pid": ("103",)}, "")]))
    assert found[RAW] == [1, 2, 3]
    assert asked == [3, 1], "once for each block"
    assert run(RuleSet([Rule("pid", "drop", {"pid": ("100",)}, "")]))[RAW] == [2, 3, 4]
    assert asked == [3, 1], "no rule asks what records say"


@pytest.mark.parametrize("digits", [10, 5000])
def test_a_number_of_a_system_call_that_is_none_matches_no_name(digits: int) -> None:
    text = call(1, f"syscall={'9' * digits} success=yes pid=100 auid=1000")
    assert run(EventMatch({"syscall": ["execve", "59"]}), text).get(RAW, []) == []
    assert run(EventMatch({"syscall": ["!=execve"]}), text)[RAW] == [1]


def test_many_rules_take_little_memory() -> None:
    code = (
        "import re; from auditns_connector.config.rules import Rule\n"
        "from auditns_connector.pipeline.rules import RuleSet\n"
        "def kib(): return int(re.search(r'VmRSS:\\s+([0-9]+)', open('/proc/self/status').read())[1])\n"
        "RuleSet([Rule('first', 'drop', {'key': ('x',)})]); before = kib()\n"
        "kept = RuleSet([Rule(str(i), 'drop', {'key': (f'x{i}',)}) for i in range(500)]); print(kib() - before)"
    )
    grown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(grown.stdout) < 500 * 200
