"""``auditns search`` and ``containers`` over files: what each condition means, and what bad input does."""

import contextlib
import gzip
import io
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from auditns_connector.cli import main as cli
from auditns_connector.errors import AuditnsError, ConfigError
from auditns_connector.query import logs
from tests.kernel.support import need_tool
from tests.unit.queries import BASE, DB, OTHER, WEB, Ask, asked, call, event, info, opened, sample

__all__ = ["asked"]
IN_WEB = [1, 2, 6, 7, 8, 9, 10]


@pytest.mark.parametrize(
    ("words", "serials"),
    [
        ([], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        (["--contid", WEB], IN_WEB),
        (["--contid", f"{WEB},{DB}"], [1, 2, 3, 4, 6, 7, 8, 9, 10]),
        (["--contid", "unset"], [5]),
        (["--contid", "!=unset", "--contid", f"!={WEB}"], [3, 4, 8]),
        (["--name", "web"], IN_WEB),
        (["--name", "w*", "--name", "db"], [1, 2, 3, 4, 6, 7, 8, 9, 10]),
        (["--name", "!=web"], [3, 4, 8]),
        (["--name", "nothing"], []),
        (["--image", "nginx:*"], [1, 2, 3, 4, 6, 7, 8, 9, 10]),
        (["--pod", "p-db"], [3, 4, 8]),
        (["--runtime", "docker", "--pid", "61"], [4, 8]),
        (["--pid", "50,60"], [1, 2, 3, 7, 8, 10]),
        (["--pid", "!=50", "--contid", WEB], [6, 9]),
        (["--entered-by", "1000"], [6]),
        (["--entered-by", "nsenter"], [6]),
        (["--entered-by", "/usr/bin/ns*"], [6]),
        (["--entered-by", "daemon"], []),
        (["--auid", "1000"], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        (["--auid", "!=1000"], []),
        (["--uid", "root", "--comm", "curl"], [7]),
        (["--exe", "/usr/sbin/sshd"], [9]),
        (["--exe", "*/cat"], [2, 4, 5, 10]),
        (["--key", "exec"], [1, 3, 6]),
        (["--type", "USER_LOGIN"], [9]),
        (["--type", "1306"], [7]),
        (["--syscall", "openat"], [2, 4, 5, 10]),
        (["--syscall", "connect,kill"], [7, 8]),
        (["--syscall", "exec*"], [1, 3, 6]),
        (["--syscall", "257"], [2, 4, 5, 10]),
        (["--success", "no"], [5, 10]),
        (["--success", "no", "--contid", WEB], [10]),
        (["--file", "/etc/shadow"], [2, 5]),
        (["--file", "shadow"], [2, 5]),
        (["--file", "/etc/*"], [2, 4, 5]),
        (["--file", "!=/etc/*", "--syscall", "openat"], [10]),
        (["--argv", "run me"], [1]),
        (["--argv", "/bin/sh -c *"], [1]),
        (["--argv", "run"], []),
        (["--addr", "10.0.0.5"], [7]),
        (["--addr", "10.0.0.5:443"], [7]),
        (["--addr", "10.0.0.0/8"], [7, 9]),
        (["--addr", "10.9.8.7"], [9]),
        (["--addr", "10.0.0.5:80"], []),
        (["--since", f"@{BASE + 8}"], [7, 8, 9, 10]),
        (["--until", f"@{BASE + 3}"], [1, 2]),
        (["--since", f"@{BASE + 2}", "--until", f"@{BASE + 5}.004"], [2, 3, 4]),
    ],
)
def test_conditions(asked: Ask, words: list[str], serials: list[int]) -> None:
    assert asked.serials(*words) == serials
    assert asked.code == 0


def test_what_is_found_is_the_text_as_it_was(asked: Ask) -> None:
    assert sorted(asked("search").splitlines()) == sorted(sample().splitlines())
    assert asked("search", "--file", "/etc/shadow") == opened(2, 2, 50, "shadow", ours=WEB) + opened(
        5, 5, 99, "/etc/shadow", success="no", exit=-13
    )


@pytest.mark.parametrize("size", [200, 1000, 5000])
def test_an_event_that_is_longer_than_windows(asked: Ask, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """What it is found by may stand in any of them."""
    monkeypatch.setattr("auditns_connector.query.windows.SIZE", size)
    words = [f'EXECVE a{i}="{"x" * 50}{i}"' for i in range(100)]
    big = event(2, 2, call(59, 50, "long", key="exec"), *words, ours=WEB)
    asked.path.write_text(opened(1, 1, 5, "x") * 1 + big + opened(3, 3, 6, "y"))
    for needle in (
        ["--comm", "long"],
        ["--argv", f"*{'x' * 50}50"],
        ["--contid", WEB],
        ["--contid", WEB, "--comm", "long"],
    ):
        assert asked.serials(*needle) == [2]
        assert sorted(asked("search", *needle).splitlines()) == sorted(big.splitlines())


def test_count_and_limit(asked: Ask) -> None:
    assert asked("search", "--count", "--contid", WEB, "--type", "SYSCALL") == "6\n"
    assert asked.serials("--limit", "2", "--contid", WEB, "--type", "SYSCALL") == [1, 2]


def test_json_has_the_names_that_other_records_told(asked: Ask) -> None:
    (line,) = asked("search", "--format", "json", "--argv", "run me").splitlines()
    one = json.loads(line)
    assert one["contid"] == WEB
    known = {
        "kind": "runtime",
        "runtime": "docker",
        "name": "web",
        "pod": "p-web",
        "image": "nginx:1",
        "namespace": "shop",
    }
    assert known.items() <= one["container"].items()


def test_lines_for_people_have_names(asked: Ask) -> None:
    assert asked("search", "--format", "pretty", "--argv", "run me").startswith("web ")


def test_silence_is_not_known_where_nobody_put_records_in(asked: Ask) -> None:
    asked.path.write_text(opened(1, 1, 5, "x"))
    assert asked.serials("--contid", "unset") == []
    assert asked.serials("--contid", "unknown") == [1]
    assert asked.serials("--name", "!=web") == []


def test_a_contid_that_came_back_is_another_container(asked: Ask) -> None:
    text = info(9001, 0, WEB, "old") + opened(1, 1, 5, "x", ours=WEB)
    asked.path.write_text(text + info(9002, 5, WEB, "new") + opened(2, 6, 5, "x", ours=WEB))
    assert asked.serials("--name", "old") == [1]
    assert asked.serials("--name", "new") == [2]
    rows = [json.loads(line) for line in asked("containers", "--json").splitlines()]
    assert [(row["name"], row["events"]) for row in rows] == [("old", 2), ("new", 2)]


def test_hosts(asked: Ask) -> None:
    asked.path.write_text(event(1, 1, "SYSCALL pid=1", node="node=h1.lan ") + event(2, 2, "SYSCALL pid=1"))
    assert asked.serials("--host", "h1") == [1]
    assert asked.serials("--host", "h1.*") == [1]
    assert asked.serials("--host", "!=h2") == [1]  # of the other nobody knows


@contextlib.contextmanager
def as_stdin(fd: int) -> Iterator[None]:
    """``fd`` is descriptor 0 in the block, and closed behind it."""
    kept = os.dup(0)
    try:
        os.dup2(fd, 0)
        yield
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(fd)


def test_text_of_stdin(asked: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.write(write, sample().encode())
    os.close(write)
    with as_stdin(read):
        assert asked.serials("--name", "web", files=(Path("-"),)) == IN_WEB


def test_compressed_text_and_what_is_cut_of_it(asked: Ask) -> None:
    packed = gzip.compress(sample().encode() * 50)
    whole, cut = asked.folder / "a.gz", asked.folder / "b.gz"
    whole.write_bytes(packed)
    cut.write_bytes(packed[: len(packed) * 2 // 3])
    assert len(asked.serials(files=(whole,))) == 500
    found = asked.serials(files=(cut, asked.path))
    assert asked.code == 1
    assert "cut" in asked.said
    assert found[-10:] == list(range(1, 11))
    assert len(found) > 10 + 50  # what stands before the cut


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--contid", "x"], "contid"),
        (["--pid", "x"], "--pid"),
        (["--pid", "0"], "--pid"),
        (["--type", "NOPE"], "type"),
        (["--syscall", "nope"], "system call"),
        (["--success", "maybe"], "yes, no"),
        (["--auid", "nobody-of-that-name"], "user"),
        (["--since", "whenever"], "time"),
        (["--comm", ""], "empty"),
        (["--key", "!="], "empty"),
    ],
)
def test_what_cannot_be_meant_is_refused(asked: Ask, words: list[str], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        asked("search", *words)


def test_a_file_that_is_not_there(asked: Ask) -> None:
    with pytest.raises(AuditnsError, match="No such file"):
        asked("search", files=(asked.folder / "none",))


@pytest.mark.parametrize(
    "words",
    [
        ["--since", "14:00", "--until", "13:00"], ["--since", "@5", "--until", "@4.9"], ["--addr", "10.0.0.0/33"],
        ["--addr", "::1/129"], ["--addr", "!=10.1.2.3/99"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_what_can_mean_nothing_is_refused(asked: Ask, words: list[str]) -> None:
    """It was searched for, and not found."""
    with pytest.raises(ConfigError, match=words[0]):
        asked("search", *words)


def test_what_is_no_audit_text(asked: Ask) -> None:
    asked.path.write_bytes(b"hello\n" * 3 + b"\0" * 5000)
    assert asked.serials() == []
    assert asked.code == 1
    assert "audit text" in asked.said


SHORT = (
    'Nov 30 09:00:00 host audit[4711]: SYSCALL arch=c000003e syscall=59 success=yes exit=0 ppid=1 pid=4711 comm="ls"\n'
    "Nov 30 09:00:00 host audit: PROCTITLE proctitle=6C73\n"
)


@pytest.mark.parametrize("words", [[], ["--pid", "4711"], ["--pid", "1"], ["--count"], ["--reverse"]])
def test_what_the_journal_s_short_form_leaves_out_is_said(asked: Ask, words: list[str]) -> None:
    """Whatever is asked for, and wherever its bytes do not stand: before, text without them passed for searched."""
    asked.path.write_text(SHORT)
    asked("search", *words)
    assert asked.code == 1
    assert "journalctl -o json has times and serials" in asked.said
    asked.path.write_text(SHORT + opened(1, 1, 50, "a"))
    asked("search", *words)
    assert (asked.code, asked.said) == (0, "")


# -- the log and what it was rotated to


def test_rotated_files_are_one_log(asked: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = sample().splitlines(keepends=True)
    for number, part in ((3, lines[:9]), (2, lines[9:22]), (1, lines[22:30])):
        (asked.folder / f"log.{number}").write_text("".join(part))
    (asked.folder / "log").write_text("".join(lines[30:]))
    packed = asked.folder / "log.3.gz"
    packed.write_bytes(gzip.compress((asked.folder / "log.3").read_bytes()))
    (asked.folder / "log.3").unlink()
    (asked.folder / "log.1.gz").write_bytes(b"\x1f\x8b being written")
    (asked.folder / "logs").write_text("another")
    config = asked.folder / "auditns.toml"
    config.write_text(f'[output.file]\npath = "{asked.folder}/log"\n')
    shown = asked("search", "--config", str(config), files=())
    assert sorted(shown.splitlines()) == sorted(sample().splitlines())
    assert asked.code == 0
    assert asked.serials("--config", str(config), "--name", "web", files=()) == IN_WEB


def test_order_of_rotated_files() -> None:
    ends = ("", ".1", ".10.gz", ".2.zst", "-20261129.gz", "-20261130", ".x", ".2.gz.tmp", ".1.gz")
    names = [f"a.log{end}" for end in ends]
    assert logs.rotated("/x/a.log", [*names, "ba.log"]) == [
        "a.log-20261129.gz", "a.log-20261130", "a.log.10.gz", "a.log.2.zst", "a.log.1", "a.log",
    ]  # fmt: skip


def test_a_log_that_is_rotated_while_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "log").write_text("two\n")
    (tmp_path / "log.1").write_text("one\n")
    real, turned = os.open, []

    def rotating(path: Any, *more: Any) -> int:
        if str(path).endswith("log") and not turned:
            turned.append(1)
            (tmp_path / "log.1").rename(tmp_path / "log.2")
            (tmp_path / "log").rename(tmp_path / "log.1")
            (tmp_path / "log").write_text("three\n")
        return real(path, *more)

    monkeypatch.setattr(os, "open", rotating)
    with logs.log(str(tmp_path / "log"), "h") as text:
        assert [os.read(fd, 100) for _, fd in text.files] == [b"one\n", b"two\n", b"three\n"]


def test_without_a_plugin_it_is_the_log_of_the_service(asked: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    config, own, other = asked.folder / "auditns.toml", asked.folder / "plugin.log", asked.folder / "listen.log"
    config.write_text(f'[output.file]\npath = "{own}"\n')
    monkeypatch.setattr("auditns_connector.config.options.DEFAULT_PATH", str(config))
    monkeypatch.setattr("auditns_connector.cli.query_options.SERVICE_LOG", str(other))
    other.write_text(sample())
    assert asked.serials("--name", "web", files=()) == IN_WEB
    with pytest.raises(AuditnsError, match=r"plugin\.log: there is no such log"):
        asked("search", "--config", str(config), files=())
    own.write_text("".join(sample().splitlines(keepends=True)[:1]))
    assert asked.serials("--name", "web", files=()) != IN_WEB


def test_no_log() -> None:
    with pytest.raises(AuditnsError, match="no such log"), logs.log("/nonexistent-folder/log", "h"):
        pass


# -- containers


def test_containers(asked: Ask) -> None:
    rows = {row["contid"]: row for row in map(json.loads, asked("containers", "--json").splitlines())}
    assert set(rows) == {WEB, DB, OTHER, None}
    web = rows[WEB]
    assert (web["name"], web["image"], web["namespace"], web["pod"]) == ("web", "nginx:1", "shop", "p-web")
    assert (web["events"], web["execs"], web["failures"], web["entries"]) == (9, 2, 1, 1)
    assert (web["first_seen"], web["last_seen"]) == (f"{BASE}.001", f"{BASE + 12}.010")
    assert rows[OTHER]["events"] == 1
    assert rows[None]["failures"] == 1


def test_records_of_ours_whose_event_is_not_here_say_whose_it_is(asked: Ask) -> None:
    """As where the rest of it was rotated away; it is no event of the host."""
    said = [(1, "contid=4,^2"), (2, "record=2 contid=4"), (3, "contid=?"), (4, "contid=4"), (4, "contid=5")]
    lines = [f"type=CONTAINER_ID msg=audit(1700000000.100:{serial}): {fields}\n" for serial, fields in said]
    asked.path.write_text("".join(lines) + "type=NS_INFO msg=audit(1700000000.100:5): netns=1\n")
    found = [json.loads(line) for line in asked("search", "--format", "json").splitlines()]
    assert [(one["serial"], one["contid"]) for one in found] == [(1, "4,^2"), (2, "?"), (3, "?"), (4, "?"), (5, "?")]
    assert asked.serials("--contid", "2") == [1]
    assert asked.serials("--contid", "unset") == []


def test_containers_that_touched_a_file(asked: Ask) -> None:
    rows = [json.loads(line)["contid"] for line in asked("containers", "--json", "--file", "/etc/shadow").splitlines()]
    assert rows == [WEB, None]


def test_containers_for_people(asked: Ask) -> None:
    shown = asked("containers").splitlines()
    assert shown[0].split()[:3] == ["CONTAINER", "CONTID", "RUNTIME"]
    assert shown[1].split()[:5] == ["web", WEB, "docker", "nginx:1", "shop/p-web"]
    assert shown[-1].split()[0] == "host"


def test_names_cannot_do_anything_to_a_terminal(asked: Ask) -> None:
    evil = "\x1b]0;x\x07\u202e".encode().hex().upper()
    asked.path.write_text(
        info(9001, 0, WEB, "web").replace('ctr-name="web"', f"ctr-name={evil}") + opened(1, 1, 5, "x", ours=WEB)
    )
    for shown in (asked("containers"), asked("search", "--format", "pretty")):
        assert "\\x1b" in shown
        assert shown.replace("\n", "").isprintable()


def test_stdout_is_asked_for_nothing(asked: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting writes a number and nothing else, whatever is found."""
    assert asked("search", "--count", "--comm", "nothing") == "0\n"
    assert isinstance(sys.stdout, io.TextIOBase)


# -- README


def questions() -> list[list[str]]:
    """The commands of README's section on the log."""
    section = (Path(__file__).parents[2] / "README.md").read_text().partition("### Ask the log")[2].partition("###")[0]
    lines = section.partition("```sh")[2].partition("```")[0].splitlines()
    return [shlex.split(line.partition(" # ")[0])[1:] for line in lines if line.startswith("auditns ")]


ANSWERS = ("execve /bin/sh -c run me", "web ", "bash", "/etc/shadow", "web")


@pytest.mark.parametrize("number", range(len(ANSWERS)))
def test_each_question_of_readme_is_one_command(asked: Ask, number: int) -> None:
    today = time.localtime()
    at = int(time.mktime((today.tm_year, today.tm_mon, today.tm_mday, 14, 1, 0, 0, 0, -1)))
    moved = re.sub(r"audit\((\d+)", lambda match: f"audit({int(match[1]) - BASE + at}", sample())
    asked.path.write_text(moved)
    words = [str(asked.folder / word) if word.endswith(".html") else word for word in questions()[number]]
    found = asked(words[0], *words[1:])
    assert asked.code == 0
    if "--html" in words:
        found = (asked.folder / "web.html").read_text()
    assert ANSWERS[number] in found
    assert len(questions()) == len(ANSWERS)


# -- logs of several hosts, with clocks of their own


def test_hosts_with_clocks_of_their_own(asked: Ask) -> None:
    """One host is an hour ahead, and both have a container of the same number."""
    far = event(1, 3600, "SYSCALL pid=5", f"CONTAINER_ID contid={WEB}", node="node=h1 ")
    near = event(1, 1, "SYSCALL pid=6", f"CONTAINER_ID contid={WEB}", node="node=h2 ")
    asked.path.write_text(far + near + far.replace(":1)", ":2)") + near.replace(":1)", ":2)"))
    assert asked.serials() == [1, 1, 2, 2]
    assert asked.serials("--until", f"@{BASE + 10}") == [1, 2]
    assert asked.serials("--since", f"@{BASE + 10}", "--host", "h1") == [1, 2]
    rows = [json.loads(line) for line in asked("containers", "--json").splitlines()]
    assert sorted((row["host"], row["events"]) for row in rows) == [("h1", 2), ("h2", 2)]


def test_text_packed_with_zstd(asked: Ask) -> None:
    zstandard = pytest.importorskip("zstandard", reason="the extra zstd has it")
    packed = asked.folder / "log.zst"
    packed.write_bytes(zstandard.ZstdCompressor().compress(sample().encode()))
    assert asked.serials("--name", "web", files=(packed,)) == IN_WEB
    whole = packed.read_bytes()
    two = whole + b"\x50\x2a\x4d\x18\x03\0\0\0abc" + zstandard.ZstdCompressor(write_checksum=True).compress(b"x\n")
    packed.write_bytes(two)
    assert asked.serials("--name", "web", files=(packed,)) == IN_WEB
    assert asked.code == 0
    for cut in (1, 2, 3, 10, len(two) - len(whole) - 3, len(two) - len(whole) + 1, len(two) // 2):
        packed.write_bytes(two[:-cut])
        asked.serials(files=(packed,))
        assert asked.code == 1, cut
        assert "cut" in asked.said


def test_ausearch_reads_what_is_found(asked: Ask) -> None:
    need_tool("ausearch")
    found = asked("search", "--contid", WEB, "--syscall", "connect,openat")
    read, write = os.pipe()
    os.write(write, found.encode())
    os.close(write)
    done = subprocess.run(["ausearch", "-i"], stdin=read, capture_output=True, text=True, check=False)
    os.close(read)
    assert done.stdout.count("type=SYSCALL") == 3, done.stdout + done.stderr
    assert "10.0.0.5" in done.stdout


def test_ten_thousand_containers(asked: Ask) -> None:
    asked.path.write_text("".join(opened(n, n // 100, 50, "/f", ours=str(10_000 + n)) for n in range(1, 10_001)))
    assert len(asked("containers", "--json").splitlines()) == 10_000
    assert asked.serials("--contid", "15000") == [5000]


def test_stdin_that_does_not_wait_is_waited_for(asked: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    text = sample().encode()
    os.set_blocking(read, False)
    waited: list[int] = []

    def comes(fds: list[int], *_: object) -> None:
        """In place of select(): more text comes, at the third time the end."""
        waited.append(len(fds))
        if len(waited) < 3:
            os.write(write, text[: len(text) // 2] if len(waited) == 1 else text[len(text) // 2 :])
        else:
            os.close(write)

    monkeypatch.setattr("auditns_connector.pipeline.compressed.select.select", comes)
    with as_stdin(read):
        assert asked.serials("--name", "web", files=(Path("-"),)) == IN_WEB
    assert waited == [1, 1, 1]


@pytest.mark.parametrize("word", ["300.1.1.1", "1.2.3", "300.1.1.1:80", "[::zz]", "[1:2:3]:80"])
def test_what_only_looks_like_an_address_is_found_nowhere(asked: Ask, word: str) -> None:
    assert asked.serials("--addr", word) == []
    assert asked.code == 0


def test_what_is_missing_is_told_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.run(["show"])
    assert "required: CONTAINER (see" in capsys.readouterr().err


@pytest.mark.parametrize("how", [[], ["--reverse"], ["--count"], ["--reverse", "--count"], ["--reverse", "--limit=1"]])
@pytest.mark.parametrize("text", [b"hello\nworld\n", b"no line", b"\xff\0" * 70_000, b"x" * (9 << 20)])
def test_what_is_no_audit_text_at_all_is_said(
    how: list[str], text: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "log").write_bytes(text)
    assert cli.run(["search", *how, str(tmp_path / "log")]) == 1
    said = capfd.readouterr()
    assert said.out in ("", "0\n")
    assert "none of this is audit text" in said.err


@pytest.mark.parametrize(
    ("words", "cut"),
    [
        (["search", "--key", "k"], 1),
        (["search", "--type", "PATH", "--format", "json"], 1),
        (["search", "--type", "PATH", "--count"], 1),
        (["search", "--reverse", "--key", "k"], 1),
        (["containers"], 1),
        (["report"], 1),
        (["show", WEB], 1),
    ],
)
def test_an_event_that_was_searched_in_parts_is_told(asked: Ask, words: list[str], cut: int) -> None:
    """One above 16 MiB was cut without a word; an enrich of the same file told it."""
    many = [f'EXECVE a{i}="{"x" * 8000}"' for i in range((17 << 20) // 8000)]
    asked.path.write_text(
        sample() + event(11, 20, call(59, 50, "big"), *many, 'PATH item=0 name="/late"', ours=WEB) + sample()
    )
    asked(words[0], *words[1:])
    assert asked.code == 0
    told = "1 event had more than 16 MiB, or 4096 younger ones beside them, before they had ended"
    assert asked.said.count(told) == cut
    assert "CONTAINER_LOST source=filter" not in asked.said
    asked.path.write_text(sample())
    asked(words[0], *words[1:])
    assert "16 MiB" not in asked.said


def test_what_a_search_shows_is_what_stands_in_the_text(asked: Ask) -> None:
    """That an event was searched in parts is told beside it: a search writes no records."""
    many = [f'EXECVE a{i}="{"x" * 8000}"' for i in range((17 << 20) // 8000)]
    text = event(11, 20, call(59, 50, "big"), *many, 'PATH item=0 name="/late"', ours=WEB)
    asked.path.write_text(text)
    shown = asked("search", "--type", "PATH")
    assert 'name="/late"' in shown
    assert shown in text
