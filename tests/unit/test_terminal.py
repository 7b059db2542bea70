"""Whatever a container or a process calls itself: no terminal obeys it, and nobody takes it for something else."""

import contextlib
import io
import json
import os
import pty
import re
import select
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditns_connector.cli import contid, main, ns, status, stream, tree
from auditns_connector.cli import doctor as doctor_command
from auditns_connector.daemon import terminal
from auditns_connector.daemon.log import PAUSE, Log, RateLimitedLog
from auditns_connector.deploy.doctor import Finding
from auditns_connector.emit import pretty
from auditns_connector.emit.json_objects import Who
from auditns_connector.errors import AuditnsError
from auditns_connector.sinks.base import no_lost_line
from auditns_connector.sinks.descriptor import open_descriptor

HOSTILE = (
    "\x1b[2J\x1b]0;owned\x07", "a\nhost  12:00:00", "\r\x08\x7f", "\x9b31m\x85\u2028", "\u202egnp.exe", "\u2066a\u2069",
    "\u200f\u061c", "\x00\x01\x1f", "\udcff\ud800", "\ufeff\u200b", "\U000e0041", "host", " host", "?", "HOST",
    "\uff48\uff4f\uff53\uff54", "unknown", "", "-", "web", "web.1-a",
)  # fmt: skip
TEXT = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=12))
_OURS = re.compile(r"\x1b\[(?:[0-9;]*m|H|J|2J)")


def harmless(shown: str) -> None:
    """No control character but the newline, none that is not seen, and no bidirectional mark, in text for people."""
    bad = [
        c for c in _OURS.sub("", shown) if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
    ]
    assert bad == []


def about(text: str) -> dict[str, Any]:
    fields = ("runtime", "id", "name", "pod", "image", "kind")
    return {"contid": "7", "live": 1, "parent": None, "age": 1.0, **dict.fromkeys(fields, text)}


def snapshot(text: str) -> dict[str, Any]:
    """Of one process in a container, both of that name."""
    namespaces = [
        {"type": "pid", "serial": "a1", "dev": 4, "ino": 9, "initial": False, "held": False, "processes": 1,
         "creator": {"pid": 1, "comm": text}, "born": 1.0}
    ]  # fmt: skip
    sets: list[list[int | None]] = [[None, None, None, 0, None, None, None, None]]
    containers, processes = [about(text)], [[5, 1, text, 0, 0, []], [6, 1, text, -1, 0, []], [7, 1, text, -2, 0, []]]
    return {"v": 1, "time": 1.0, "live": True, "namespaces": namespaces, "containers": containers, "sets": sets,
            "processes": processes}  # fmt: skip


def printed(call: Callable[[], Any]) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        call()
    return out.getvalue()


@given(TEXT)
def test_every_output_for_people_is_harmless(text: str) -> None:
    harmless(terminal.escape(text))
    harmless(terminal.named(text))
    harmless("\n".join(ns.table(ns.rows(snapshot(text)))))
    harmless("\n".join(tree.lines(tree.tree(snapshot(text), everything=True))))
    harmless("\n".join(contid._table([about(text)])))
    harmless(printed(lambda: terminal.show(status.lines({text: {text: text, "list": [text]}}))))
    harmless(printed(lambda: doctor_command._write_text([Finding("x", "fail", text, text)], sys.stdout)))
    for one in (terminal.complain, terminal.show):
        harmless(said := printed(lambda one=one: one(text)))
        assert said.count("\n") == 1
    who = Who("7", {"name": text, "runtime": text, "id": text})
    records = [
        ("SYSCALL", {"comm": text, "key": text, "success": "no", "exit": text, "pid": text, "syscall": text}),
        ("EXECVE", {"argv": [text, text]}),
        ("PATH", {"name": text}),
    ]
    for main_record in (records, records[1:], [(text, {"msg": text, text: text})]):
        harmless(pretty.event(1, who, [(1, 1, who)], main_record, colour=True).decode())
    harmless(pretty.foreign(text.encode("utf-8", "backslashreplace").decode()).decode())
    harmless(terminal.lines(text.encode("utf-8", "backslashreplace")).decode())


@given(TEXT, TEXT)
def test_what_our_programs_say_is_harmless(text: str, value: str) -> None:
    log, out = Log(), io.StringIO()
    with contextlib.redirect_stderr(out):
        log.warning(text, value=value, number=1)
        log.info(text, value=value, path=Path(value), error=OSError(2, text, value), all=[value, text])
    harmless(out.getvalue())
    assert out.getvalue().count("\n") == 2


@given(st.binary(max_size=40))
def test_bytes_on_a_terminal_are_harmless(data: bytes) -> None:
    shown = terminal.lines(data)
    harmless(shown.decode())
    assert shown.count(b"\n") == data.count(b"\n")


@pytest.mark.parametrize("kind", ["name", "id", "runtime"])
@given(TEXT)
def test_no_container_passes_for_the_host_or_the_unknown(kind: str, text: str) -> None:
    host, unknown = pretty.label(Who(None)), pretty.label(Who("?"))
    assert (host, unknown) == ("host", "?")
    known = {"name": "", "id": "", "runtime": "", kind: text}
    for shown in (pretty.label(Who("7", known)), ns.label({"contid": "7", **known})):
        plain = unicodedata.normalize("NFKC", shown).strip().casefold()
        assert plain not in ("host", "?", "unknown", "unset", "kernel", "-", "")


def test_usual_names_have_no_quotes() -> None:
    for name in ("web", "k8s_POD_web-1.2", "a/b:c@d", "my_host", "x" * 80):
        assert pretty.label(Who("7", {"name": name})).removesuffix("…") in name
    assert pretty.label(Who("7", {"name": "host"})) == '"host"'
    shown = tree.lines(tree.tree(snapshot("host")))
    assert shown[0].startswith("host (")
    assert [line for line in shown if line.startswith('"host" (')] == [shown[1]]


def test_errors_are_one_harmless_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(args: Any) -> int:
        raise AuditnsError("no container \x1b[2J\u202e\nin /a\nb")

    monkeypatch.setattr(sys, "argv", ["auditns", "status"])
    monkeypatch.setattr(status, "run", fail)
    out = printed(_main)
    harmless(out)
    assert out == "auditns: no container \\x1b[2J\\u202e\\nin /a\\nb\n"


def _main() -> None:
    with contextlib.suppress(SystemExit):
        main.main()


def test_a_stream_is_read_as_bytes_and_shown_escaped() -> None:
    data = b'type=USER_CMD msg=audit(1.000:1): cmd=\x1b[2J \xe2\x80\xae \x9b \xc2\x9b\x1dUID="r"\n'
    assert terminal.for_people("raw", False) is None
    told = io.StringIO()
    with contextlib.redirect_stderr(told):
        shape = terminal.for_people("raw", True)
    assert told.getvalue() == terminal.ESCAPED_NOTICE + "\n"
    assert shape is not None
    assert shape(data) == b'type=USER_CMD msg=audit(1.000:1): cmd=\\x1b[2J \\u202e \\x9b \\x9b\\x1dUID="r"\n'
    assert printed(lambda: terminal.for_people("pretty", True)) == ""
    objects = terminal.for_people("json", True)
    assert objects is not None
    assert json.loads(objects(b'{"a":"\x7f"}\n')) == {"a": "\x7f"}


def test_raw_text_on_a_real_terminal_is_escaped_and_a_pipe_gets_the_bytes() -> None:
    data = b"cmd=\x1b[2J \xc2\x9b\n"
    ours, theirs = pty.openpty()
    read, write = os.pipe()
    try:
        for fd, other, expected in ((theirs, ours, b"cmd=\\x1b[2J \\x9b\r\n"), (write, read, data)):
            sink = open_descriptor(fd, 1 << 20, no_lost_line, on_terminal=terminal.lines)
            sink.write(data)
            assert sink.flush(10)
            assert select.select([other], [], [], 10)[0]
            assert os.read(other, 100) == expected
            sink.close(1)
    finally:
        for fd in (ours, theirs, read, write):
            os.close(fd)


def test_warnings_that_somebody_can_cause_are_rare_whatever_they_say() -> None:
    said: list[tuple[str, dict[str, Any]]] = []
    now = [0.0]

    class Ear(Log):
        def warning(self, event: str, **fields: Any) -> None:
            said.append((event, fields))

    rate_limited = RateLimitedLog(Ear(), lambda: now[0])
    for i in range(10_000):
        rate_limited.warning("same", "same")
        rate_limited.warning(f"thing {i}", f"thing {i}")
    assert len(said) <= 257
    now[0] = PAUSE
    rate_limited.warning("same", "same")
    assert said[-1] == ("same", {"left_out": 9999})


def test_streams_are_listed_harmlessly(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\x1b[2J\u202e"
    listed = {key: [text] for key in stream._LISTS}
    counters = {"events": 1, "lost_records": 0}
    one = {"stream": "web", **listed, "backlog_limit": 1, "held_records": 0, "counters": counters, "readers_now": [],
           "paused": False}  # fmt: skip
    monkeypatch.setattr(stream, "_ask", lambda args, do, **more: {"streams": [one], "stream": one})
    args = main.build_parser("stream").parse_args(["stream", "list"])
    harmless(printed(lambda: stream.run(args)))


def test_what_is_shown_again_and_again_fits() -> None:
    size = os.terminal_size((20, 5))
    assert terminal.fit(["a" * 19, "b" * 20], size) == ["a" * 19, "b" * 18 + "…"]
    assert terminal.fit([str(i) for i in range(9)], size) == ["0", "1", "2", "… 6 more lines"]
    assert terminal.fit([], size) == []


def test_letters_that_take_two_columns_or_none_are_counted_so() -> None:
    size = os.terminal_size((10, 5))
    assert terminal.fit(["日本語日本", "日本語日a"], size) == ["日本語日…", "日本語日a"]
    assert terminal.fit(["e\u0301" * 9], size) == ["e\u0301" * 9]
    assert [terminal.width(word) for word in ("", "abc", "日", "e\u0301", "Ａ")] == [0, 3, 2, 1, 2]
    assert all(terminal.width(line) < 10 for line in terminal.fit(["日" * 50, "a" + "日" * 50], size))
