"""What the command line says to who mistypes, and the small words it takes."""

import argparse
import os
import pty
import subprocess
import sys
from collections.abc import Iterator

import pytest

from auditns_connector import __version__
from auditns_connector.cli import main as cli
from auditns_connector.cli.arguments import seconds
from auditns_connector.errors import AuditnsError


def said(*argv: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a command line."""
    with pytest.raises(SystemExit) as ended:
        sys.exit(cli.run(argv))
    out = capsys.readouterr()
    return int(ended.value.code or 0), out.out, out.err


@pytest.mark.parametrize("argv", [("--\x1b[2J",), ("archive", "check", "\x1b[2J"), ("contid", "get", "\x1b[2J")])
def test_what_is_no_argument_is_told_escaped(argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """A name of a file that a pattern of the shell stands for may be anything."""
    code, out, err = said(*argv, capsys=capsys)
    assert (code, out) == (2, "")
    assert "\x1b" not in err
    assert r"\x1b[2J" in err


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (("lisen",), "auditns: there is no command 'lisen'; did you mean listen? (see auditns --help)\n"),
        (("zzz", "--json"), "auditns: there is no command 'zzz' (see auditns --help)\n"),
        (("contid", "get", "abc"), "'abc' is no process id: a number from 1 to 2147483647"),
        (("listen", "--duration", "5y"), "'5y' is no time: seconds, or as 90s, 5m, 2h, 1d"),
    ],
)
def test_a_mistake_is_told_in_words(argv: tuple[str, ...], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = said(*argv, capsys=capsys)
    assert (code, out) == (2, "")
    assert text in err


@pytest.mark.parametrize("argv", [("help",), ("help", "enrich")])
def test_help_is_a_command(argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = said(*argv, capsys=capsys)
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: {' '.join(('auditns', *argv[1:]))} ")


def test_the_help_of_sealing_says_that_files_are_removed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = said("archive", "seal", "--help", capsys=capsys)
    assert (code, err) == (0, "")
    assert "removed once all of it is there and was read back, unless --keep is given" in " ".join(out.split())


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert said("-v", capsys=capsys) == (0, f"auditns {__version__}\n", "")


@pytest.mark.parametrize(
    ("text", "number"), [("5", 5), ("0.5", 0.5), ("90s", 90), ("5m", 300), ("2h", 7200), ("1d", 86400)]
)
def test_times(text: str, number: float) -> None:
    assert seconds(text) == number


@pytest.mark.parametrize("text", ["", "0", "-1", "m", "5 y", "1e99", "nan", "inf"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        seconds(text)


def test_text_from_a_terminal_is_announced() -> None:
    main, other = pty.openpty()
    code = "import sys; from auditns_connector.cli.main import main; "
    code += "sys.argv[1:] = ['enrich', '--journal', '/nonexistent']; main()"
    done = subprocess.run([sys.executable, "-c", code], stdin=other, capture_output=True, text=True)
    os.close(main)
    os.close(other)
    assert "auditns: audit text is read from this terminal; ^D ends it" in done.stderr


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parser and those of its commands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from parsers(inner)


@pytest.mark.parametrize("word", ["\N{FULLWIDTH DIGIT ONE}x", "", "nan", "1_0", "9" * 5000])
@pytest.mark.parametrize("name", cli.COMMANDS)
def test_no_mistake_is_told_in_the_words_of_the_program_text(name: str, word: str) -> None:
    """Whatever an argument refuses, its function has said what it takes; nothing says invalid _pid value."""
    for parser in parsers(cli.build_parser(name)):
        for action in parser._actions:
            if action.type is None:
                continue
            try:
                parser._get_value(action, word)
            except argparse.ArgumentError as error:
                assert not error.message.startswith("invalid "), (parser.prog, action.dest)


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (("contid", "gett"), "'gett' is none of set, get, list, delegate; did you mean get?"),
        (("enrich", "--format", "jsno"), "'jsno' is none of raw, json, pretty; did you mean json?"),
        (("ns", "abc"), "'abc' is no process id"),
        (("tree", "--interval", "0"), "'0' is no time: from 0.05 seconds to 1d"),
        (("enrich", "--count", "0"), "'0' is no number of events: a whole number from 1 on"),
        (("stream", "create", "x", "--readers", "65"), "'65' is no number of readers: a whole number from 1 to 64"),
    ],
)
def test_a_word_that_is_none_of_those_is_told_with_the_nearest(
    argv: tuple[str, ...], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert text in said(*argv, capsys=capsys)[2]


@pytest.mark.parametrize("since", ["-2h", "-1h30min", "-5", "-1h 30min"])
def test_a_time_before_now_is_no_option(since: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said("report", "--since", since, os.devnull, capsys=capsys)[0] == 0


MANY = "1" * 5000


@pytest.mark.parametrize(
    "argv",
    [
        *(("search", option, MANY) for option in ("--pid", "--type", "--auid", "--syscall")),
        *(("enrich", "--match", f"{field}={MANY}") for field in ("pid", "record", "auid", "syscall")),
        ("enrich", "--type", f"UNKNOWN[{MANY}]"),
        ("stream", "show", "x", "--user", MANY),
        ("stream", "create", "x", "--owner", f"{MANY}:{MANY}"),
    ],
)
def test_a_number_of_thousands_of_digits_is_a_mistake_in_words(argv: tuple[str, ...]) -> None:
    with pytest.raises(AuditnsError):
        cli.run(argv)
