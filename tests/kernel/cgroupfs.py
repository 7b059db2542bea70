"""Cgroup folders for tests: find them, run a command in one, remove what a test made."""

import contextlib
import shlex
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

#: so long those that have been killed may live (seconds)
_PATIENCE = 1.0


def hierarchies() -> list[tuple[Path, str, str]]:
    """(root folder, "cgroup" or "cgroup2", mount options) of every mounted hierarchy."""
    lines = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [(Path(where), kind, options) for _, where, kind, options, *_ in lines if kind in ("cgroup", "cgroup2")]


def folders(path: str) -> list[Path]:
    """Every folder at and below the cgroup ``path`` ("/a/b"), in all hierarchies."""
    found: list[Path] = []
    for top, _, _ in hierarchies():
        start = Path(f"{top}{path}")
        if start.is_dir():
            found += [start, *(folder for folder in start.rglob("*") if folder.is_dir())]
    return found


def first(path: str) -> str:
    """The topmost part of a cgroup path: "/a/b/c" gives "/a"."""
    return "/" + path.strip("/").split("/")[0]


def remove_new(path: str, before: Iterable[Path]) -> None:
    """Remove the folders at and below ``path`` that were not there ``before``, and that nobody uses."""
    patience = time.monotonic() + _PATIENCE
    for folder in sorted(set(folders(path)) - set(before), reverse=True):
        remove(folder, patience)


def remove(folder: Path, patience: float | None = None) -> None:
    """Remove one folder; give its last processes ten seconds to be reaped. One in which some live is left to these, as
    that of another container, from ``patience`` on (time.monotonic seconds; None: a second from now)."""
    if patience is None:
        patience = time.monotonic() + _PATIENCE
    for _ in range(1000):
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > patience and _in_use(folder):
                return
            time.sleep(0.01)  # EBUSY
        else:
            return


def _in_use(folder: Path) -> bool:
    """Whether a process runs at or below ``folder``."""
    for procs in folder.rglob("cgroup.procs"):
        with contextlib.suppress(OSError):  # it has gone meanwhile
            if any(lives(int(pid)) for pid in procs.read_text().split()):
                return True
    return False


def lives(pid: int) -> bool:
    """Whether ``pid`` runs: who has ended and is not reaped yet does not."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return fields.rpartition(b")")[2].split()[0] not in (b"Z", b"X")


def make(path: str) -> list[Path]:
    """Make the cgroup ``path`` in the v2 and in systemd's hierarchy; gives the folders."""
    made = []
    for top, kind, options in hierarchies():
        if kind == "cgroup2" or "name=systemd" in options:
            made.append(Path(f"{top}{path}"))
            made[-1].mkdir(parents=True, exist_ok=True)
    return made


def command_in(path: str, command: Sequence[str]) -> list[str]:
    """``command`` wrapped so that it runs in the cgroup ``path``, which must have been made."""
    moves = "; ".join(f"echo $$ > {shlex.quote(str(folder / 'cgroup.procs'))}" for folder in make(path))
    return ["sh", "-c", f'{moves}; exec "$@"', "sh", *command]
