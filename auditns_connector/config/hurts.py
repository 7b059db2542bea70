"""What a configuration that can be read will run into on this host: what ``audisp-auditns --check-config`` says."""

import os
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from auditns_connector.config.log_file import objection
from auditns_connector.config.text import others_may_write
from auditns_connector.errors import AuditnsError, suggestion
from auditns_connector.model.runtimes import BY_NAME
from auditns_connector.vocabulary.record_types import NUMBERS

if TYPE_CHECKING:
    from auditns_connector.config.options import Config

#: options that hold the names of runtimes
_RUNTIMES: Final = ("include", "exclude")


def hurts(config: "Config") -> list[str]:
    """One line for each, ``option: what``, in the order of the file; empty where nothing is known to hurt."""
    return [
        *_outputs(config), *_child(config), *_groups(config), *_users(config), *_places(config), *_words(config),
    ]  # fmt: skip


def _outputs(config: "Config") -> Iterator[str]:
    enabled = (config.file.enabled, config.socket.enabled, config.child.enabled, *map(bool, config.streams))
    if not any(enabled) and not any(rule.path for rule in config.rules):
        yield "output: all outputs are off: nothing is written anywhere"


def _child(config: "Config") -> Iterator[str]:
    if config.child.enabled and config.child.argv:
        program = config.child.argv[0]
        if not os.path.isfile(program):
            yield f"output.child.argv: {program}: there is no such program"
        elif not os.access(program, os.X_OK):
            yield f"output.child.argv: {program}: it cannot be executed"
        elif os.geteuid() == 0 and others_may_write(os.stat(program)):
            yield f"output.child.argv: {program}: others than root may write it, and it is started as root"


def _groups(config: "Config") -> Iterator[str]:
    import grp

    for name, used, group in (
        ("output.file.group", config.file.enabled, config.file.group),
        ("output.socket.group", config.socket.enabled, config.socket.group),
    ):
        if used and group:
            try:
                grp.getgrnam(group)
            except KeyError:
                groups = [one.gr_name for one in grp.getgrall()]
                yield f"{name}: there is no group {group!r} on this host{suggestion(group, groups)}"


def _users(config: "Config") -> Iterator[str]:
    from auditns_connector.config.users import resolve

    for name, why in resolve(config.users.quota).unusable:
        yield f"users.quota.{name}: {why}"
    if config.users.quota and not config.users.streams:
        yield "users.quota: users.streams is 0: no user can make a stream that has it"


def _places(config: "Config") -> Iterator[str]:
    wanted = [
        ("output.file.path", config.file.path if config.file.enabled else ""),
        ("output.socket.path", config.socket.path if config.socket.enabled else ""),
        ("journal.path", config.journal.path),
        ("archive.path", config.archive.path),
        *((f"rule {rule.name}: path", rule.path) for rule in config.rules),
    ]
    for name, path in wanted:
        if path and (why := _unwritable(os.path.dirname(path))):
            yield f"{name}: {path}: {why}"
    if config.archive.path and not os.path.isdir(parent := os.path.dirname(config.archive.path)):
        yield f"archive.path: {config.archive.path}: {parent} is not there, and is not made"
    sockets = (("control", config.control), ("output.socket.path", config.socket.path if config.socket.enabled else ""))
    for name, path in sockets:
        if path and os.path.lexists(path) and not stat.S_ISSOCK(os.lstat(path).st_mode):
            yield f"{name}: {path}: something that is not a socket is there"
    if config.journal.path and (why := _no_journal(config.journal.path)):
        yield f"journal.path: {config.journal.path}: {why}"
    for rule in config.rules:
        if rule.path and (why := objection(rule.path)):
            yield f"rule {rule.name}: path: {rule.path} is not allowed: {why}"


def _no_journal(path: str) -> str:
    """Why ``path`` cannot be written as a journal, "" where it can."""
    from auditns_connector.journal.files import refuse_others

    if not os.path.lexists(path):
        return ""
    if not os.path.isfile(path):
        return "it is not a regular file"
    try:
        refuse_others(path)
    except AuditnsError:
        return "it holds something else"
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    return ""


def _unwritable(folder: str) -> str:
    """Why nothing can be made in ``folder``, or in the nearest one above it that is there; "" where it can."""
    while not os.path.isdir(folder) and folder != "/":
        if os.path.lexists(folder):
            return f"{folder} is no directory"
        folder = os.path.dirname(folder)
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return f"{folder} is read-only"
    if os.geteuid() != 0:
        return ""  # the plugin is root's
    return "" if os.access(folder, os.W_OK | os.X_OK) else f"{folder} cannot be written"


def _words(config: "Config") -> Iterator[str]:
    named = [(f"filter.{name}.runtime", getattr(config, name).runtime) for name in _RUNTIMES]
    named += [(f"rule {rule.name}: match.runtime", rule.match.get("runtime", ())) for rule in config.rules]
    named += [(f"stream.{one.stream}.runtime", one.runtime) for one in config.streams]
    for name, words in named:
        for word in words:
            if (plain := word.removeprefix("!=")) not in BY_NAME:
                yield f"{name}: no runtime is called {plain!r}{suggestion(plain, BY_NAME)}"
    for name in _RUNTIMES:
        for word in getattr(config, name).record:
            if word not in NUMBERS and not word.startswith("UNKNOWN[") and not word.isdecimal():
                yield f"filter.{name}.record: no record type is called {word!r}{suggestion(word, NUMBERS)}"
