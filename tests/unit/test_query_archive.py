"""The same questions asked of an archive, of text, and of both: the same answers. And the log from its end, and as it
grows."""

import gzip
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from auditns_connector.archive.index_terms import Term
from auditns_connector.archive.reader import Archive, Wanted
from auditns_connector.matching.conditions import of_option
from tests.unit import archive_help
from tests.unit.queries import BASE, BOOT, DB, WEB, Ask, asked, by_number, call, event, executed, info, opened, sample
from tests.unit.test_query_search import IN_WEB

__all__ = ["asked"]
pytest.importorskip("zstandard", reason="the extra archive has it")


@pytest.fixture
def archived(asked: Ask) -> Ask:
    """The sample in an archive, with nothing left of its text."""
    asked("archive", "seal", "--archive", str(asked.folder / "archive"))
    assert asked.code == 0
    asked.path.write_text("")
    return asked


def of(asked: Ask) -> list[str]:
    return ["--archive", str(asked.folder / "archive")]


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--contid", WEB],
        ["--contid", f"{WEB},{DB}"],
        ["--contid", "unset"],
        ["--contid", f"!={WEB}"],
        ["--name", "web"],
        ["--name", "w*", "--pid", "50"],
        ["--name", "nothing"],
        ["--image", "nginx:*"],
        ["--pid", "50,60"],
        ["--pid", "61"],
        ["--entered-by", "1000"],
        ["--entered-by", "nsenter"],
        ["--entered-by", "*"],
        ["--entered-by", "2000"],
        ["--entered-by", f"{BOOT}:70:5"],
        ["--auid", "1000"],
        ["--uid", "root"],
        ["--exe", "/usr/sbin/sshd"],
        ["--exe", "*/cat"],
        ["--comm", "cat"],
        ["--key", "exec"],
        ["--type", "USER_LOGIN"],
        ["--syscall", "connect,kill"],
        ["--success", "no"],
        ["--file", "/etc/shadow"],
        ["--file", "shadow"],
        ["--file", "/etc/*"],
        ["--argv", "run me"],
        ["--argv=-c"],
        ["--argv", "/bin/sh -c *"],
        ["--addr", "10.0.0.5"],
        ["--addr", "10.0.0.5:443"],
        ["--addr", "10.0.0.0/8"],
        ["--addr", "10.9.8.7"],
        ["--since", f"@{BASE + 3}", "--until", f"@{BASE + 8}"],
        ["--limit", "3"],
        ["--reverse"],
        ["--reverse", "--limit", "2", "--contid", WEB],
    ],
    ids=" ".join,
)
def test_an_archive_answers_as_text_does(asked: Ask, words: list[str]) -> None:
    by_text = asked.serials(*words)
    raw = sorted(asked("search", *words).splitlines())
    asked("archive", "seal", "--archive", str(asked.folder / "archive"))
    asked.path.write_text("")
    assert asked.serials(*words, *of(asked)) == by_text
    assert sorted(asked("search", *words, *of(asked)).splitlines()) == raw


LATE = [
    [], ["--contid", "7"], ["--contid", "unset"], ["--contid", "!=7"], ["--key", "open"], ["--file", "/f3"],
    ["--file", "/late/3"], ["--file", "!=/f3"], ["--pid", "1003"], ["--type", "PATH"], ["--type", "CWD"],
    ["--contid", "7", "--limit", "3"],
]  # fmt: skip


@pytest.mark.parametrize("format", ["raw", "json"])
@pytest.mark.parametrize("words", LATE, ids=" ".join)
def test_late_records_are_found_with_their_event_in_an_archive(asked: Ask, words: list[str], format: str) -> None:
    """They were left out of every answer: no record of theirs says whose they are, and in a block they stood far from
    their event."""
    text = b""
    for n in range(1, 40):
        text += archive_help.event(n, contid="7" if n % 2 else "", name=f"/f{n}")
        if n % 10 == 0:
            for late, name in ((3, "PATH"), (4, "PATH"), (3, "CWD")):
                stamp = f"msg=audit(1700000000.{late:03d}:{late})"
                text += f'type={name} {stamp}: item=5 name="/late/{late}" nametype=NORMAL\n'.encode()
    asked.path.write_bytes(text)
    words = [*words, "--format", format]
    forwards, backwards = asked("search", *words), asked("search", *words, "--reverse")
    assert ("/late/" in forwards) == (words[1:2] not in (["/late/3"], ["CWD"]))
    asked("archive", "seal", "--archive", str(asked.folder / "archive"))
    asked.path.write_text("")
    assert said_by(asked("search", *words, *of(asked))) == said_by(forwards)
    if "--limit" not in words:
        sealed = asked("search", *words, "--reverse", *of(asked))
        assert [n for n in range(40) if f":{n})" in sealed] == [n for n in range(40) if f":{n})" in backwards]
        assert sealed.count("/late/") >= backwards.count("/late/")


def said_by(text: str) -> list[str]:
    """Lines of text, or serial, container and records of JSON: two late records of an event are one object where
    nothing stands between them."""
    if not text.startswith("{"):
        return text.splitlines()
    objects = [json.loads(line) for line in text.splitlines()]
    return [f"{one['serial']} {one['contid']} {record}" for one in objects for record in one["records"]]


def test_what_is_apart_is_said_by_the_text(asked: Ask) -> None:
    """A record of ours that stands apart is one of the event that it names, sealed or not. No event is left of the
    host: that could not be sealed."""
    stamp = f"msg=audit({BASE}.001:1): "
    text = f"type=USER_CMD {stamp}pid=9 uid=0 auid=1 msg='op=test res=success'\n"
    text += f"type=CONTAINER_ID msg=audit({BASE}.002:2): contid={WEB} event={BASE}.001:1\n" + opened(
        3, 1, 50, "a", ours=WEB
    )
    asked.path.write_text(text)
    both = ["--contid", WEB], ["--contid", "unset"]
    found = [sorted(asked("search", *words).splitlines()) for words in both]
    asked("archive", "seal", "--archive", str(asked.folder / "archive"))
    assert asked.code == 0
    asked.path.write_text("")
    sealed = [sorted(asked("search", *words, *of(asked)).splitlines()) for words in both]
    assert sealed == found == [sorted(text.splitlines()), []]
    rows = [json.loads(line) for line in asked("containers", "--json", *of(asked)).splitlines()]
    assert {row["contid"]: row["events"] for row in rows} == {WEB: 2}


#: a name as it stands in a record of a process in /etc, and the file that it is
NAMES = {
    "./a/../b": "/etc/b", "//srv//c/": "/srv/c", "/srv/./d": "/srv/d", "../e": "/e", "/../../f": "/f", "g/.": "/etc/g",
    ".h": "/etc/.h", "i/..": "/etc", "/": "/", "../../..": "/", "..j": "/etc/..j",
}  # fmt: skip


@pytest.mark.parametrize("sealed", [False, True])
def test_a_file_is_found_however_its_path_was_written(asked: Ask, sealed: bool) -> None:
    asked.path.write_text("".join(opened(i + 1, 1, 7, name, ours=WEB) for i, name in enumerate(NAMES)))
    if sealed:
        asked("archive", "seal", "--archive", str(asked.folder / "archive"))
        asked.path.write_text("")
    words = of(asked) if sealed else []
    for path in NAMES.values():
        same = [i + 1 for i, other in enumerate(NAMES.values()) if other == path]
        assert asked.serials(*words, "--file", path) == same, path
        if path != "/":
            last = path.rpartition("/")[2]
            assert asked.serials(*words, "--file", last) == same, last
            assert set(same) <= set(asked.serials(*words, "--file", f"*/{last}")), last


def test_a_path_that_is_elsewhere_is_not_read(asked: Ask) -> None:
    """Blocks are chosen by the whole path, by a key, by an entry: not by a part that many have."""
    text = "".join(opened(i + 1, 1, 7, f"/srv/{i}/index.html", ours=WEB) for i in range(50))
    asked.path.write_text(text)
    asked("archive", "seal", "--archive", str(asked.folder / "archive"))
    with Archive(str(asked.folder / "archive")) as archive:
        for option, value, found in (
            ("file", "/srv/7/index.html", True), ("file", "/srv/70/index.html", False), ("file", "index.html", True),
            ("file", "/srv/*/index.html", True), ("file", "/srv/*/index.htm", False), ("key", "open", True),
            ("key", "ope", False),
        ):  # fmt: skip
            (one,) = of_option(option, [value])
            terms = (tuple(Term(kind, word) for kind, word in one.terms),)
            assert terms[0], value
            assert bool(list(archive.candidates(Wanted(terms=terms)))) == found, value


def test_what_is_sealed_and_what_is_not_are_one_log(asked: Ask) -> None:
    lines = sample().splitlines(keepends=True)
    asked.path.write_text("".join(lines[:22]))
    asked("archive", "seal", "--archive", str(asked.folder / "archive"))
    asked.path.write_text("".join(lines[22:]))
    config = asked.folder / "auditns.toml"
    config.write_text(f'[archive]\npath = "{asked.folder}/archive"\n[output.file]\npath = "{asked.path}"\n')
    both: dict[str, Any] = {"files": ()}
    assert asked.serials("--config", str(config), "--name", "web", **both) == IN_WEB
    assert asked.serials("--config", str(config), "--name", "web", "--reverse", **both) == IN_WEB[::-1]
    listed = asked("containers", "--json", "--config", str(config), **both)
    rows = {row["contid"]: row for row in map(json.loads, listed.splitlines())}
    assert (rows[WEB]["events"], rows[WEB]["execs"], rows[WEB]["name"]) == (9, 2, "web")


def test_what_is_no_audit_text_is_not_sealed_and_stays(asked: Ask) -> None:
    """It was put into a segment as it was, and removed."""
    program, packed, prefixed = (asked.folder / name for name in ("program", "packed.gz", "prefixed"))
    program.write_bytes(bytes(range(256)) * 400)
    packed.write_bytes(gzip.compress(b"hello\n" * 20))
    prefixed.write_text("\n" * 3 + "".join(f"Nov 29 12:00:00 h1 audisp[1]: {line}\n" for line in sample().splitlines()))
    archive = ["--archive", str(asked.folder / "archive")]
    asked("archive", "seal", *archive, files=(program, packed))
    assert (asked.code, program.exists(), packed.exists()) == (1, True, True)
    assert [str(path) in asked.said for path in (program, packed)] == [True, True]
    asked("archive", "seal", *archive, files=(program, prefixed, asked.path))
    assert (asked.code, program.exists(), prefixed.exists(), asked.path.exists()) == (1, True, False, False)
    assert asked("archive", "cat", *archive, files=()).count("h1 audisp") == len(sample().splitlines())


def test_text_that_is_sealed_and_kept_is_found_once(asked: Ask) -> None:
    asked("archive", "seal", "--keep", "--archive", str(asked.folder / "archive"))
    with asked.path.open("a") as log:
        log.write(opened(11, 20, 50, "/new", ours=WEB))
    assert asked.serials(*of(asked), "--contid", WEB) == [*IN_WEB, 11]


@pytest.mark.parametrize("name", ["gz", "zst"])
def test_compressed_text_that_is_sealed_and_kept_is_found_once(asked: Ask, name: str) -> None:
    """It is known by the first line of its text, whatever its bytes are."""
    if name == "zst":
        zstandard = pytest.importorskip("zstandard")
        packed = zstandard.ZstdCompressor().compress(asked.path.read_bytes())
    else:
        packed = gzip.compress(asked.path.read_bytes())
    kept = asked.path.with_name(f"{asked.path.name}.1.{name}")
    kept.write_bytes(packed)
    asked("archive", "seal", "--keep", "--archive", str(asked.folder / "archive"), files=(kept,))
    asked.path.write_text(opened(11, 20, 50, "/new", ours=WEB))
    both: dict[str, Any] = {"files": (kept, asked.path)}
    assert asked.serials(*of(asked), "--contid", WEB, **both) == [*IN_WEB, 11]
    assert asked.serials(*of(asked), "--contid", WEB, "--reverse", **both) == [11, *IN_WEB[::-1]]
    kept.write_bytes(packed[: len(packed) // 2])
    assert 11 in asked.serials(*of(asked), "--contid", WEB, **both)


def test_lives_and_reports_of_an_archive(asked: Ask) -> None:
    words = (["show", "web"], ["diff", "web", "db"], ["report", "--pid", "50"], ["containers"])
    by_text = [asked(*some, "--json") for some in words]
    report = json.loads(asked("report", "--json"))
    asked("archive", "seal", "--archive", str(asked.folder / "archive"))
    asked.path.write_text("")
    assert [asked(*some, "--json", *of(asked)) for some in words[:3]] == by_text[:3]
    counted = json.loads(asked("report", "--json", *of(asked)))
    for table in ("containers", "execs", "failures"):
        rows = [{k: v for k, v in row.items() if k not in ("entries", "first", "last")} for row in counted[table]]
        other = [{k: v for k, v in row.items() if k not in ("entries", "first", "last")} for row in report[table]]
        assert sorted(map(str, rows)) == sorted(map(str, other)), table


def entered(serial: int, second: int, pid: int, contid: str) -> str:
    """An exec of an entry of which nothing else tells, as in a log that was enriched afterwards."""
    came = (
        f"CONTAINER_INFO contid={contid} entry={BOOT}:{pid}:5 entry-how=setns entry-time={BASE}.000 entry-pid={pid} "
        'entry-start=5 entry-comm="nsenter" entry-exe="/usr/bin/nsenter" entry-auid=1000 entry-ses=3 entry-from=session'
    )
    return event(serial, second, call(59, pid, "sh", ppid=2), 'EXECVE argc=1 a0="sh"', came, ours=contid)


@pytest.mark.parametrize("spelled", [str, by_number])
def test_entries_that_events_alone_tell_of_are_found_in_an_archive(asked: Ask, spelled: Callable[[str], str]) -> None:
    """They were none: what was counted at sealing were the records of their own."""
    text = info(9001, 0, WEB, "web") + info(9002, 0, DB, "db") + executed(1, 1, 50, 49, "/bin/sh", ours=WEB)
    text += "".join(entered(number, number, 70 + number % 2, WEB) for number in range(2, 7)) + entered(8, 8, 75, DB)
    asked.path.write_text(spelled(text))
    words = (["show", "web"], ["show", "db"], ["report", "--pid", "70"], ["containers"])
    by_text, found = [asked(*some, "--json") for some in words], asked.serials("--entered-by", "nsenter")
    asked("archive", "seal", "--archive", str(asked.folder / "archive"))
    asked.path.write_text("")
    assert found == [2, 3, 4, 5, 6, 8] == asked.serials("--entered-by", "nsenter", *of(asked))
    assert [asked(*some, "--json", *of(asked)) for some in words[:3]] == by_text[:3]
    rows = [json.loads(line) for line in asked("containers", "--json", *of(asked)).splitlines()]
    assert {row["contid"]: row["entries"] for row in rows} == {WEB: 2, DB: 1}


def test_a_damaged_archive_is_told(archived: Ask) -> None:
    (segment,) = (archived.folder / "archive").glob("*[0-9]*")
    data = bytearray(segment.read_bytes())
    data[200:900:7] = bytes(100)
    segment.chmod(0o600)
    segment.write_bytes(data)
    archived("search", *of(archived))
    assert archived.code == 1
    assert segment.name in archived.said


# -- from the end


def test_the_newest_first(asked: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    forwards = asked.serials()
    for size in (300, 1500, 1 << 20):
        monkeypatch.setattr("auditns_connector.query.windows.SIZE_BACK", size)
        assert asked.serials("--reverse") == forwards[::-1]
        assert asked.serials("--reverse", "--name", "web") == IN_WEB[::-1]
        assert asked.serials("--reverse", "--file", "/etc/shadow", "--limit", "1") == [5]
    assert asked("search", "--reverse", "--limit", "1", "--contid", WEB).startswith("type=SYSCALL")


def test_a_pipe_from_its_end(asked: Ask) -> None:
    command = [sys.executable, "-m", "auditns_connector.cli.main", "search", "--reverse", "--format", "json"]
    done = subprocess.run([*command, "--key", "open", "-"], input=sample().encode(), stdout=subprocess.PIPE, check=True)
    assert [json.loads(line)["serial"] for line in done.stdout.splitlines()] == [10, 5, 4, 2]


# -- as it grows


class Following:
    """``auditns search --follow`` in a process of its own."""

    def __init__(self, *words: str) -> None:
        command = [sys.executable, "-m", "auditns_connector.cli.main", "search", "--follow", "--format", "json", *words]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        self.found: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.found.append(json.loads(line))

    def until(self, serial: int) -> None:
        """Wait until it was found."""
        end = time.monotonic() + 60
        while not any(one["serial"] == serial for one in self.found):
            assert time.monotonic() < end, self.found
            assert self.process.poll() is None, self.process.stderr
            time.sleep(0.02)

    def stop(self) -> list[int]:
        self.process.terminate()
        self.process.wait(60)
        self._reader.join(60)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()
        return [one["serial"] for one in self.found if one["serial"] < 9000]


def test_what_comes_to_a_log_rotation_included(tmp_path: Path) -> None:
    log = tmp_path / "log"
    first = info(9001, 0, WEB, "web") + opened(1, 1, 50, "a", ours=WEB) + opened(2, 2, 51, "b")
    log.write_text(first + opened(3, 3, 50, "c", ours=WEB)[:120])
    following = Following("--name", "web", str(log))
    try:
        following.until(1)
        with log.open("a") as file:
            file.write(opened(3, 3, 50, "c", ours=WEB)[120:])
        following.until(3)
        log.rename(tmp_path / "log.1")
        with (tmp_path / "log.1").open("a") as file:  # whoever writes has not seen it yet
            file.write(opened(4, 4, 50, "d", ours=WEB))
        following.until(4)
        log.write_text(opened(5, 5, 60, "e") + executed(6, 6, 52, 50, "/bin/x", ours=WEB))
        following.until(6)
        assert next(one for one in following.found if one["serial"] == 6)["container"]["name"] == "web"
    finally:
        serials = following.stop()
    assert serials == [1, 3, 4, 6]


def test_a_pipe_that_goes_on(tmp_path: Path) -> None:
    following = Following("--file", "a", "-")
    try:
        assert following.process.stdin is not None
        following.process.stdin.write(opened(1, 1, 50, "a").encode())
        following.process.stdin.flush()
        following.until(1)
    finally:
        assert following.stop() == [1]


def test_it_ends_where_nobody_reads(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(sample())
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "auditns_connector.cli.main", "search", "--follow", "--key", "none", str(log)]
    assert subprocess.run(command, stdout=write, timeout=120).returncode == 0
    os.close(write)


# -- while it is sealed


def test_nothing_is_missed_or_doubled_while_text_is_sealed_and_rotated(asked: Ask) -> None:
    """Whatever is sealed and removed between two looks, each event that was written is found once."""
    config = asked.folder / "auditns.toml"
    config.write_text(f'[archive]\npath = "{asked.folder}/archive"\n[output.file]\npath = "{asked.path}"\n')
    asked.path.write_text("".join(opened(n, n, 50, f"/f{n}", ours=WEB) for n in range(1, 200)))
    program = [sys.executable, "-m", "auditns_connector.cli.main", "archive"]
    seal = [*program, "seal", "--archive", f"{asked.folder}/archive"]
    written = 200
    for turn in range(6):
        asked.path.rename(asked.folder / "audit.log.1")
        asked.path.write_text("".join(opened(n, n, 50, f"/f{n}", ours=WEB) for n in range(written, written + 50)))
        written += 50
        sealing = subprocess.Popen([*seal, f"{asked.folder}/audit.log.1"], stdout=subprocess.DEVNULL)
        try:
            while True:
                found = asked.serials("--config", str(config), "--contid", WEB, files=())
                assert sorted(found) == list(range(1, written)), turn
                assert asked.code == 0, asked.said
                if sealing.poll() is not None:
                    break
        finally:
            assert sealing.wait(60) == 0
        assert not (asked.folder / "audit.log.1").exists()


def test_what_is_pruned_meanwhile_is_told_or_gone(asked: Ask) -> None:
    for n in range(1, 4):
        asked.path.write_text(opened(n, n, 50, f"/f{n}", ours=WEB))
        asked("archive", "seal", "--archive", str(asked.folder / "archive"))
    program = [sys.executable, "-m", "auditns_connector.cli.main", "archive"]
    prune = [*program, "prune", "--archive", f"{asked.folder}/archive"]
    pruning = subprocess.Popen([*prune, "--max-age", "1d"], stdout=subprocess.DEVNULL)
    asked.path.write_text("")
    while pruning.poll() is None:
        found = asked.serials(*of(asked), "--contid", WEB)
        assert set(found) <= {1, 2, 3}
        assert found == sorted(found)
    assert pruning.wait(60) == 0


@pytest.mark.parametrize("word", ["helloworld", "hello*", "end", "sh helloworld end", "hello"])
def test_an_argument_in_pieces_is_found_in_an_archive_too(asked: Ask, word: str) -> None:
    stamp = f"msg=audit({BASE}.000:1):"
    asked.path.write_text(
        f"type=SYSCALL {stamp} arch=c000003e syscall=59 success=yes ppid=1 pid=9\n"
        f'type=EXECVE {stamp} argc=3 a0="sh" a1_len=10 a1[0]="hello"\n'
        f'type=EXECVE {stamp} a1[1]=776F726C64 a2="end"\n'
    )
    plain = asked.serials("--argv", word)
    asked("archive", "seal", "--archive", str(asked.folder / "archive"))
    asked.path.write_text("")
    assert asked.serials(*of(asked), "--argv", word) == plain == ([] if word == "hello" else [1])
