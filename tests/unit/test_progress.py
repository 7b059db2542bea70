"""How far a long command is: on a terminal alone, and only where it is known how much there is."""

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from auditns_connector.cli.progress import Progress, size, span, total_of

DEMO = Path(__file__).parents[1] / "golden/demo"
#: shows at once, and after each block
PATIENCE = (
    "import sys, auditns_connector.cli.progress as p; p._FIRST = p._EVERY = 0; "
    "from auditns_connector.cli.main import main; main()"
)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_it_says_how_much_is_read_and_what_time_is_left(tmp_path: Path) -> None:
    clock, out, path = Clock(), io.StringIO(), tmp_path / "log"
    path.write_bytes(bytes(4096))
    shown = Progress(8192, out, clock)
    with path.open("rb", buffering=0) as file:
        shown.opened(file.fileno())
        file.read(1024)
        shown.step()
        assert out.getvalue() == ""
        clock.now = 10
        shown.step()
        assert out.getvalue() == "\rauditns: 12% of 8.0 KiB read, 71 s left"
        file.read(1024)
        shown.step()
        assert out.getvalue().count("\r") == 1, "not more often than somebody can read"
        file.read()
        shown.closing()
    clock.now = 20
    shown.step()
    assert out.getvalue().endswith("\rauditns: 50% of 8.0 KiB read, 21 s left")
    shown.close()
    assert out.getvalue().endswith("\r" + " " * 39 + "\r")


def test_nothing_shown_is_nothing_taken_away() -> None:
    out = io.StringIO()
    Progress(10, out).close()
    assert out.getvalue() == ""


def test_what_grows_while_it_is_read_stays_at_the_end(tmp_path: Path) -> None:
    clock, out, path = Clock(), io.StringIO(), tmp_path / "log"
    path.write_bytes(bytes(100))
    shown = Progress(50, out, clock)
    with path.open("rb", buffering=0) as file:
        shown.opened(file.fileno())
        file.read()
        clock.now = 2
        shown.step()
    assert "100% of 50 bytes" in out.getvalue()


def test_it_is_known_how_much_there_is_of_files_alone(tmp_path: Path) -> None:
    one, two, pipe = tmp_path / "one", tmp_path / "two", tmp_path / "pipe"
    one.write_bytes(bytes(10))
    two.write_bytes(bytes(20))
    os.mkfifo(pipe)
    assert total_of([str(one), str(two)]) == 30
    assert total_of([str(one), str(pipe)]) is None
    assert total_of([str(one), str(tmp_path / "none")]) is None


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (1 << 30, "1.0 GiB")],
)
def test_sizes(number: int, text: str) -> None:
    assert size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "1 s"), (98.5, "99 s"), (100, "2 min"), (5000, "84 min"), (7000, "2 h")]
)
def test_times(seconds: float, text: str) -> None:
    assert span(seconds) == text


def enriched(*, err: int, out: int | None = None) -> tuple[bytes, subprocess.CompletedProcess[bytes]]:
    command = [
        sys.executable,
        "-c",
        PATIENCE,
        "enrich",
        "--journal",
        str(DEMO / "run.journal"),
        str(DEMO / "audit.log"),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE if out is None else out, stderr=err, check=True)
    return done.stdout, done


@pytest.fixture
def terminal() -> tuple[int, int]:
    return pty.openpty()


def read(master: int) -> str:
    shown = b""
    os.set_blocking(master, False)
    while True:
        try:
            shown += os.read(master, 65536)
        except OSError:
            os.close(master)
            return shown.decode()


def test_enrich_shows_it_on_a_terminal_and_leaves_nothing_behind(terminal: tuple[int, int]) -> None:
    master, slave = terminal
    text, _ = enriched(err=slave)
    os.close(slave)
    shown = read(master)
    assert "auditns: 100% of " in shown
    assert text == enriched(err=subprocess.DEVNULL)[0]
    last = shown.replace("\r\n", "\n").rpartition("\r")[2]
    assert last.startswith("auditns: "), "what was shown is written over, and the summary stands alone"
    assert "% of" not in last


def test_it_shows_nothing_where_the_text_itself_goes_to_a_terminal(terminal: tuple[int, int]) -> None:
    master, slave = terminal
    other, end = pty.openpty()
    # what is written there must be read meanwhile
    with subprocess.Popen(["cat"], stdin=other, stdout=subprocess.DEVNULL) as reader:
        enriched(err=slave, out=end)
        reader.kill()
    for fd in (slave, other, end):
        os.close(fd)
    assert "% of" not in read(master)


def test_it_shows_nothing_in_a_file(tmp_path: Path) -> None:
    with (tmp_path / "err").open("wb") as err:
        enriched(err=err.fileno())
    assert "% of" not in (tmp_path / "err").read_text()
