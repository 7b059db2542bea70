"""The line of the configuration that says of which runtimes every container is to be registered: ``[hook] expect``.

An administrator's file is changed in that line alone, and only where the result is the configuration that was meant. A
line that was put in says so, and is taken out again, with a file that was made for it, when it names no runtime any
more."""

import os
import re
import stat
import tomllib
from collections.abc import Collection, Iterator
from typing import Final

from auditns_connector.config.options import parse
from auditns_connector.config.text import read_text
from auditns_connector.errors import AuditnsError
from auditns_connector.state.directory import SafeDir

_TABLE: Final = re.compile(r"^[ \t]*\[[ \t]*hook[ \t]*\][ \t]*(?:#.*)?$", re.M)
_LINE: Final = re.compile(r"^([ \t]*expect[ \t]*=[ \t]*)\[[^\[\]#]*\]", re.M)
_NEXT: Final = re.compile(r"^[ \t]*\[", re.M)
_MODE: Final = 0o640
#: behind what was put in
_OURS: Final = "  # auditns install-hook"


def expect(path: str, runtimes: Collection[str], *, more: bool = True) -> bool:
    """Have the configuration ``path`` (made when absent) expect these ``runtimes`` too, or no longer (``more`` False).
    False where nothing had to be changed. Raises :class:`AuditnsError`."""
    path, text, mode = os.path.realpath(path), "", _MODE
    try:
        text, mode = read_text(path), stat.S_IMODE(os.stat(path).st_mode)
    except FileNotFoundError:
        if not more:
            return False
    except OSError as error:
        raise AuditnsError(f"{path}: {error.strerror}") from error
    before = set(parse(text, path).hook.expect)
    wanted = before | set(runtimes) if more else before - set(runtimes)
    if wanted == before:
        return False
    changed = edited(text, sorted(wanted))
    with SafeDir(os.path.dirname(path) or ".", create=False) as folder:
        if changed:
            folder.write(os.path.basename(path), changed.encode("utf-8"), mode=mode)
        else:
            folder.remove(os.path.basename(path))
    return True


def edited(text: str, runtimes: Collection[str]) -> str:
    """The configuration ``text`` with these runtimes in that line. Raises :class:`AuditnsError` where it is written in
    a way that is not seen through."""
    line = "[" + ", ".join(f'"{name}"' for name in runtimes) + "]"
    changed = _with(text, line)
    for candidate in (*([] if runtimes else _without(changed)), changed):
        if _meant(text, candidate, list(runtimes)):
            return candidate
    raise AuditnsError(f"[hook] of the configuration is written in an unusual way; put into it: expect = {line}")


def _with(text: str, line: str) -> str:
    """``text`` with this list in that line, which is put in where there is none."""
    table = _TABLE.search(text)
    if table is None:
        return f"{text}{chr(10) if text else ''}[hook]{_OURS}\nexpect = {line}{_OURS}\n"
    following = _NEXT.search(text, table.end())
    end = following.start() if following is not None else len(text)
    found = _LINE.search(text, table.end(), end)
    if found is not None:
        return text[: found.start()] + found[1] + line + text[found.end() :]
    return f"{text[: table.end()]}\nexpect = {line}{_OURS}{text[table.end() :]}"


def _without(text: str) -> Iterator[str]:
    """``text`` without what was put in, the table first."""
    line = f"\nexpect = []{_OURS}"
    table = f"[hook]{_OURS}{line}\n"
    for part in (f"\n{table}", table, line):
        before, found, behind = text.partition(part)
        if found:
            yield before + behind


def _meant(text: str, changed: str, runtimes: list[str]) -> bool:
    """Whether ``changed`` says the same as ``text`` but for that line."""
    try:
        now, before = tomllib.loads(changed), tomllib.loads(text)
    except ValueError:
        return False
    now["hook"] = {"expect": [], **now.get("hook", {})}
    before["hook"] = {**before.get("hook", {}), "expect": runtimes}
    return now == before
