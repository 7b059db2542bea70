"""Archives for tests: text sealed into a directory, and text that has something to be found in it."""

from collections.abc import Callable, Sequence
from pathlib import Path

from auditns_connector.archive.files import ArchiveFiles
from auditns_connector.archive.seal import SEGMENT, Sealed, Sealer, open_catalogue
from auditns_connector.archive.text_files import TextFile, open_all


def unheard(text: str) -> None:
    raise AssertionError(text)


def seal(
    archive: Path,
    paths: Sequence[Path],
    *,
    say: Callable[[str], None] = unheard,
    keep: bool = False,
    size: int = SEGMENT,
    ahead: Path | None = None,
) -> Sealed:
    """As ``auditns archive seal`` does it."""
    texts = open_all([str(path) for path in paths], say)
    following = TextFile(str(ahead)) if ahead is not None else None
    try:
        with ArchiveFiles(str(archive), create=True) as files, files.locked():
            files.clean()
            catalogue = open_catalogue(files, say)
            try:
                return Sealer(files, catalogue, say, keep=keep, size=size).seal(texts, following)
            finally:
                catalogue.close()
    finally:
        for text in [*texts, *([following] if following else [])]:
            text.close()


def event(
    number: int, *, contid: str = "", pid: int = 0, name: str = "/etc/hostname", success: str = "yes", ms: int = -1
) -> bytes:
    """An open of a file: of the host, or of a container."""
    stamp = f"msg=audit({1_700_000_000 + (number if ms < 0 else ms) // 1000}.{(number if ms < 0 else ms) % 1000:03d}"
    stamp += f":{number}):"
    records = [
        (
            f"type=SYSCALL {stamp} arch=c000003e syscall=257 success={success} exit=3 a0=1 items=1 ppid=1 "
            f'pid={pid or 1000 + number % 50} auid=1000 uid=0 comm="cat" exe="/usr/bin/cat" key="open"'
        ),
        f'type=PATH {stamp} item=0 name="{name}" inode=1 nametype=NORMAL',
        *([f"type=CONTAINER_ID {stamp} record=1 contid={contid}"] if contid else []),
        f"type=PROCTITLE {stamp} proctitle=636174",
    ]
    return "".join(record + "\n" for record in records).encode()


def workload(count: int, *, containers: int = 5, first: int = 1) -> bytes:
    """``count`` events of as many containers in turn, and of the host."""
    return b"".join(
        event(
            number,
            contid=str(100 + number % (containers + 1)) if number % (containers + 1) else "",
            name=f"/data/{number % 97}/file-{number}",
        )
        for number in range(first, first + count)
    )
