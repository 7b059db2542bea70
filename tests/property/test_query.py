"""A search in windows of any size finds the events that conditions tested one by one on whole events find."""

import gzip
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from auditns_connector.pipeline.text_stage import JSON, Enricher
from auditns_connector.query import windows
from auditns_connector.query.answers import LogAnswers
from auditns_connector.query.asked import Asked, Options
from auditns_connector.query.logs import Text
from auditns_connector.query.names import Names
from auditns_connector.query.search import Search, Shown
from tests.reference.asked import wanted

WORDS = ("sh", "cat", "a b", 'x"y', "passwd", "shadow", "nginx", "\u00e9", "k1", "k2")
PATHS = ("/etc/shadow", "shadow", "../etc/passwd", "/usr/bin/sh", "a b/c", "./x")
CONTIDS = ("", "7", "42", "?", "7,^42")
PIDS = (59, 100, 4711)


def untrusted(word: str) -> str:
    raw = word.encode()
    plain = all(0x21 <= byte <= 0x7E and byte != 0x22 for byte in raw)
    return f'"{word}"' if plain else raw.hex().upper()


def lines_of(serial: int, one: tuple[Any, ...]) -> list[str]:
    """The lines of an event."""
    pid, comm, exe, key, call, success, cwd, paths, argv, contid, target, delay = one
    stamp = f"msg=audit({1700000000 + delay}.{serial % 1000:03d}:{serial}):"
    key = "(null)" if key is None else untrusted(key)
    how = f"arch=c000003e syscall={call} success={success} exit=0 pid={pid} auid={pid + 1} uid=0"
    found = [f"type=SYSCALL {stamp} {how} comm={untrusted(comm)} exe={untrusted(exe)} key={key}"]
    if argv:
        words = " ".join(f"a{i}={untrusted(word)}" for i, word in enumerate(argv))
        found.append(f"type=EXECVE {stamp} argc={len(argv)} {words}")
    if cwd:
        found.append(f"type=CWD {stamp} cwd={untrusted(cwd)}")
    found += [f"type=PATH {stamp} item={i} name={untrusted(path)} nametype=NORMAL" for i, path in enumerate(paths)]
    if target:
        found.append(f'type=OBJ_PID {stamp} opid={target} oauid=5 ouid=5 oses=1 ocomm="cat"')
    if contid:
        found.append(f"type=CONTAINER_ID {stamp} contid={contid}")
    return [*found, f"type=PROCTITLE {stamp} proctitle=00", f"type=EOE {stamp} "]


EVENT = st.tuples(
    st.sampled_from(PIDS), st.sampled_from(WORDS), st.sampled_from(PATHS), st.none() | st.sampled_from(WORDS),
    st.sampled_from((59, 257, 62)), st.sampled_from(("yes", "no")), st.sampled_from(("", "/etc", "/a b")),
    st.lists(st.sampled_from(PATHS), max_size=2), st.lists(st.sampled_from(WORDS), max_size=3),
    st.sampled_from(CONTIDS), st.sampled_from((0, 100)), st.integers(0, 5),
)  # fmt: skip
PATTERN = st.builds(lambda negated, word: negated + word, st.sampled_from(["", "!="]), st.sampled_from(
    [*WORDS, *PATHS, "/etc/passwd", "*", "s*", "*a*", "/etc/*", "?h", "[sc]*"]
))  # fmt: skip
SOME = st.lists(PATTERN, max_size=2)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "comm": SOME,
        "exe": SOME,
        "key": SOME,
        "file": SOME.map(lambda some: [one for one in some if "/." not in one and "./" not in one]),
        "argv": SOME,
        "success": st.sampled_from([["yes"], ["no"], ["!=no"]]),
        "auid": st.sampled_from([["60"], ["!=101"], ["4712", "60"]]),
        "pid": st.sampled_from([["59"], ["100", "4711"], ["!=59"]]),
        "type": st.sampled_from([["EXECVE"], ["OBJ_PID"], ["!=CWD"]]),
    },
)


@contextmanager
def text_of(data: bytes) -> Iterator[Text]:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        yield Text((("x", file.fileno()),), "", ours=True)


def found(data: bytes, options: Options, size: int) -> list[dict[str, Any]]:
    """What a search finds, in windows of that size."""
    answers = LogAnswers(Names())
    asked, out = Asked(options, answers), bytearray()

    def deliver(block: bytes | memoryview) -> bool:
        out.extend(block)
        return True

    search = Search(answers, asked, Shown(answers, Enricher(answers, [JSON], wanted=asked), JSON, deliver).take)
    former, windows.SIZE = windows.SIZE, size
    try:
        with text_of(data) as text:
            search.prepare(text, names=False)
            assert search.forwards(text, learn=False)
    finally:
        windows.SIZE = former
    assert not search.failed
    return [json.loads(line) for line in out.splitlines()]


def split(options: dict[str, list[str]], since: int | None, until: int | None) -> Options:
    values = {name: texts for name, texts in options.items() if name not in ("pid", "type")}
    return Options(values=values, pids=options.get("pid", ()), types=options.get("type", ()), since=since, until=until)


@given(
    st.lists(EVENT, max_size=12), OPTIONS, st.randoms(use_true_random=False), st.sampled_from([2500, 6000, 1 << 20]),
    st.none() | st.integers(1700000000000, 1700000006000), st.none() | st.integers(1700000000000, 1700000006000),
)  # fmt: skip
def test_a_search_in_windows_is_conditions_one_by_one(
    events: list[tuple[Any, ...]], options: dict[str, list[str]], random: Any, size: int, since: int | None,
    until: int | None,
) -> None:  # fmt: skip
    events.sort(key=lambda one: one[-1])
    waiting = [(one[-1], lines_of(serial, one)) for serial, one in enumerate(events, 1)]
    lines: list[str] = []
    while waiting:  # lines of two events of one second may lie between each other
        one = random.choice([some for when, some in waiting[:2] if when == waiting[0][0]])
        lines.append(one.pop(0))
        waiting = [some for some in waiting if some[1]]
    data = "".join(f"{line}\n" for line in lines).encode()
    every = found(data, Options(), 1 << 20)
    assert sorted(event["serial"] for event in every) == list(range(1, len(events) + 1))
    expected = sorted(event["serial"] for event in every if wanted(event, options, since, until))
    seen = found(data, split(options, since, until), size)
    assert sorted(event["serial"] for event in seen) == expected
    assert all(event in every for event in seen)


@given(st.binary(max_size=4000), st.integers(1, 300), st.booleans())
def test_windows_are_the_text(data: bytes, size: int, packed: bool) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(gzip.compress(data) if packed else b"t" + data)
        file.seek(0)
        parts = list(windows.forwards(windows.opened("x", file.fileno()), size))
        assert b"".join(parts) == (data if packed else b"t" + data)
        assert all(part.endswith(b"\n") for part in parts[:-1])
        if not packed:
            back = list(windows.backwards("x", file.fileno()))
            assert b"".join(reversed(back)) == b"t" + data
            assert os.fstat(file.fileno())
