"""Putting the plugin where auditd finds it, and taking it away again.

What is put down is written into a manifest with its digest. Nothing is changed or removed that is not in it with that
digest: a file that somebody edited stays, a file of somebody else's is an error (or replaced with ``force``).
"""

import errno
import hashlib
import json
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from auditns_connector import __version__
from auditns_connector.deploy import bundle
from auditns_connector.errors import AuditnsError, NotPermittedError, NotSupportedError, reason
from auditns_connector.state.paths import SPOOL_DIR

LIB: Final = "/usr/lib/auditns-connector"
MANIFEST: Final = f"{LIB}/manifest.json"
LAUNCHER: Final = "/usr/sbin/audisp-auditns"
CONFIG: Final = "/etc/audit/auditns.toml"
AUDITD_CONF: Final = "/etc/audit/auditd.conf"
PLUGINS: Final = "/etc/audit/plugins.d"

Say = Callable[[str], None]


class Item(NamedTuple):
    """One file to be put down. ``config``: an administrator's to edit; never overwritten once edited."""

    path: str
    data: bytes
    mode: int
    config: bool = False


class Manifest(NamedTuple):
    """What a former run has put down: path -> digest, and the directories it made."""

    files: dict[str, str]
    directories: list[str]


def install(prefix: str = "/", *, dry_run: bool = False, force: bool = False, say: Say = print) -> list[str]:
    """Install or update the plugin below ``prefix``; returns what the caller should tell people.

    Under a prefix the files name each other with it, for a trial with ``auditd -c PREFIX/etc/audit``. ``say`` gets
    one line per action; the many of the library are one line with their number. Raises :class:`AuditnsError`, before
    anything is changed where that can be known before.
    """
    place = Place(prefix, dry_run, say)
    _refuse_packaged("it is switched on by active = yes in /etc/audit/plugins.d/auditns.conf, and a HUP to auditd")
    place.check()
    old = place.manifest()
    with bundle.staged(place.at(LIB) + "/lib") as made:
        items = [*_library(place, made.lib), *_entry_points(place, made.interpreter)]
        place.refuse_outside([place.at(MANIFEST), *(item.path for item in items), *old.files], old.directories)
        _refuse_foreign(place, items, old, force)
        say(f"use {made.interpreter}")
        kept = place.put(items, old, force)
    hints = [f"{path} was edited and stays as it is" for path in kept]
    if os.geteuid() != 0:
        hints.append(f"the files belong to uid {os.geteuid()}: auditd refuses them until they are root's")
    if not dry_run:
        hints.append(f"check the configuration: {place.at(LAUNCHER)} --check-config")
        hints.append("let auditd start it: systemctl kill -s HUP auditd (without systemd: pkill -HUP -x auditd)")
    return hints


def uninstall(prefix: str = "/", *, dry_run: bool = False, say: Say = print) -> list[str]:
    """Remove what :func:`install` has put below ``prefix`` and nobody has changed since; returns hints."""
    place = Place(prefix, dry_run, say)
    _refuse_packaged("remove it with that package")
    old = place.manifest()
    if not old.files:
        return ["nothing is installed" + (f" below {prefix}" if place.prefix else "")]
    place.check()
    place.refuse_outside([place.at(MANIFEST), *old.files], old.directories)
    kept = place.take_away(old)
    hints = [f"{path} was changed and stays" for path in kept]
    if not dry_run:
        hints.append("let auditd stop it: systemctl kill -s HUP auditd (without systemd: pkill -HUP -x auditd)")
    return hints


class Place:
    """The file system below a prefix, changed by one action at a time, or only talked about."""

    def __init__(self, prefix: str, dry_run: bool, say: Say) -> None:
        absolute = os.path.abspath(prefix)
        self.prefix = "" if absolute == "/" else absolute
        self._dry_run = dry_run
        self._say = say
        self._many: Counter[tuple[str, str]] = Counter()

    def at(self, path: str) -> str:
        """``path`` below the prefix."""
        return self.prefix + path

    def check(self) -> None:
        """Whether we may and can."""
        if self.prefix:
            return
        if os.geteuid() != 0 and not self._dry_run:
            raise NotPermittedError("installing the plugin needs root")
        if not os.path.isdir("/etc/audit"):
            raise NotSupportedError("auditd is not installed here: apt-get install auditd, or dnf install audit")

    def plugins(self) -> str:
        """The directory in which auditd looks for plugins."""
        try:
            with open(self.at(AUDITD_CONF), encoding="utf-8", errors="replace") as file:
                for line in file:
                    key, _, value = line.partition("=")
                    if key.strip().lower() == "plugin_dir" and value.strip().startswith("/"):
                        return self._below(os.path.normpath(value.strip()))
        except OSError:
            pass  # no auditd.conf, or not ours to read: then its default
        return self.at(PLUGINS)

    def _below(self, path: str) -> str:
        """``path`` as it stands in a configuration: below the prefix already, or to be taken as below it."""
        return path if not self.prefix or path.startswith(self.prefix + "/") else self.at(path)

    def refuse_outside(self, files: Iterable[str], directories: Iterable[str]) -> None:
        """Raise :class:`AuditnsError` where one of these is not below the prefix, by its name or by a link in it. Of
        directories those that lead to the prefix are no harm: they are removed where they are empty."""
        if not self.prefix:
            return
        root = os.path.realpath(self.prefix) + "/"
        led = [(path, os.path.realpath(os.path.dirname(path))) for path in files]
        led += [(path, os.path.realpath(path)) for path in directories if not f"{self.prefix}/".startswith(f"{path}/")]
        for path, real in led:
            if os.path.normpath(path) != path or not f"{real}/".startswith(root):
                raise AuditnsError(f"{path} leads outside of {self.prefix}: nothing is changed there")

    def manifest(self) -> Manifest:
        """What is installed; empty when nothing is. A manifest that cannot be understood is an error."""
        path = self.at(MANIFEST)
        try:
            data = json.loads(Path(path).read_bytes())
            files, directories = data["files"], data["directories"]
            if data["version"] != 1 or not all(isinstance(value, str) for value in [*files.values(), *directories]):
                raise ValueError
        except FileNotFoundError:
            return Manifest({}, [])
        except OSError as error:
            raise _failed(path, error) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise AuditnsError(f"{path}: not a manifest of this program; move it away to start anew") from error
        return Manifest(dict(files), list(directories))

    def put(self, items: list[Item], old: Manifest, force: bool) -> list[str]:
        """Write all ``items`` that differ, remove what the former version had more; returns edited files kept."""
        kept, todo = [], []
        files = dict(old.files)
        for item in items:
            state = self._state(item.path)
            edited = item.config and state not in (None, digest(item.data), old.files.get(item.path))
            if edited and (not force or item.path == self.at(CONFIG)):
                kept.append(item.path)
                self._say(f"keep {item.path}")
                continue
            files[item.path] = digest(item.data)
            if state != digest(item.data) or _mode(item.path) != item.mode:
                todo.append(item)
        wanted = [item.path for item in items]
        if any(not item.config for item in todo):
            # auditd starts a plugin anew only when the executable is another file than before
            todo = [item for item in items if item in todo or item.path == self.at(LAUNCHER)]
        obsolete = sorted(old.files.keys() - set(wanted))
        directories = list(old.directories)
        if todo or obsolete or files != old.files:
            folders = [os.path.dirname(path) for path in [self.at(MANIFEST), *wanted]]
            for folder in dict.fromkeys([*folders, *self._spool()]):
                self._make_directories(folder, directories)
            self._write_manifest(files, directories)  # first, so that a run cut short can be undone
        for item in todo:
            self._tell("write", item.path, f" ({item.mode:04o})")
            self._write(item)
        for path in obsolete:
            if self._state(path) == old.files[path]:
                self._remove(path)
            files.pop(path, None)
        if obsolete:
            self._write_manifest(files, directories)
        self._tell_many()
        if not todo and not obsolete:
            self._say("everything is in place already")
        return kept

    def take_away(self, old: Manifest) -> list[str]:
        """Remove every unchanged file, configuration first so that auditd starts nothing half there."""
        kept = []
        for path in sorted(old.files, key=lambda path: (path.startswith(self.at(LIB)), path)):
            state = self._state(path)
            if state == old.files[path]:
                self._remove(path)
            elif state is not None:
                self._say(f"keep {path}")
                kept.append(path)
        self._remove(self.at(MANIFEST))
        for folder in sorted(old.directories, key=len, reverse=True):
            self._remove_directory(folder)
        self._tell_many()
        return kept

    # --- what is said ---

    def _tell(self, verb: str, path: str, more: str = "", *, kind: str = "files") -> None:
        """Say what is done to ``path``; what is done inside the library is counted, for :meth:`_tell_many`."""
        if path.startswith(self.at(LIB) + "/lib/"):
            self._many[verb, f"{kind} below {self.at(LIB)}/lib{more}"] += 1
        else:
            self._say(f"{verb} {path}{more}")

    def _tell_many(self) -> None:
        for (verb, what), count in self._many.items():
            self._say(f"{verb} {count} {what}")
        self._many.clear()

    # --- single actions ---

    def _state(self, path: str) -> str | None:
        """The digest of a regular file; None: nothing there; "" something else, as a link."""
        try:
            info = os.lstat(path)
            return digest(Path(path).read_bytes()) if stat.S_ISREG(info.st_mode) else ""
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _failed(path, error) from error

    def _spool(self) -> list[str]:
        """Where text waits that memory does not hold; it is the same for every installation on the host."""
        return [] if self.prefix else [SPOOL_DIR]

    def _make_directories(self, folder: str, made: list[str]) -> None:
        if os.path.isdir(folder):
            return
        if folder in made and self._dry_run:
            return
        self._make_directories(os.path.dirname(folder), made)
        self._tell("make", folder, " (0755)", kind="directories")
        if folder not in made:
            made.append(folder)
        if not self._dry_run:
            try:
                os.mkdir(folder)
                os.chmod(folder, 0o755)
            except OSError as error:
                raise _failed(folder, error) from error

    def _write(self, item: Item) -> None:
        if self._dry_run:
            return
        temporary = os.path.join(os.path.dirname(item.path), f".{os.path.basename(item.path)[:200]}.{os.getpid()}")
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with open(fd, "wb") as file:
                file.write(item.data)
                if os.geteuid() == 0:
                    os.fchown(fd, 0, 0)
                os.fchmod(fd, item.mode)
            os.rename(temporary, item.path)
        except OSError as error:
            if error.errno != errno.EEXIST and os.path.lexists(temporary):
                os.unlink(temporary)
            raise _failed(item.path, error) from error

    def _write_manifest(self, files: dict[str, str], directories: list[str]) -> None:
        data = {"version": 1, "package": __version__, "files": dict(sorted(files.items())), "directories": directories}
        text = json.dumps(data, indent=1) + "\n"
        self._say(f"write {self.at(MANIFEST)} (0644)")
        self._write(Item(self.at(MANIFEST), text.encode(), 0o644))

    def _remove(self, path: str) -> None:
        self._tell("remove", path)
        if not self._dry_run:
            try:
                os.unlink(path)
            except OSError as error:
                raise _failed(path, error) from error

    def _remove_directory(self, folder: str) -> None:
        if self._dry_run:
            self._tell("remove", folder, ", if empty", kind="directories")
            return
        try:
            os.rmdir(folder)
            self._tell("remove", folder, kind="directories")
        except OSError:
            self._say(f"keep {folder}: it is not empty, or gone")


def digest(data: bytes) -> str:
    """How the manifest names a file's content."""
    return hashlib.sha256(data).hexdigest()


def _refuse_packaged(instead: str) -> None:
    if kind := bundle.packaged():
        raise NotSupportedError(f"the plugin belongs to the {kind} package auditns-connector: {instead}")


def _library(place: Place, lib: Path) -> Iterator[Item]:
    for path in sorted(lib.rglob("*")):
        if path.is_file():
            yield Item(f"{place.at(LIB)}/lib/{path.relative_to(lib)}", path.read_bytes(), 0o644)


def _entry_points(place: Place, interpreter: str) -> Iterator[Item]:
    yield Item(place.at(LAUNCHER), bundle.launcher(interpreter, place.at(LIB) + "/lib").encode(), 0o750)
    yield Item(place.at(CONFIG), bundle.shipped("auditns.toml"), 0o640, config=True)
    conf = bundle.shipped("auditns.conf").decode()
    if place.prefix:
        arguments = f"{place.at(LAUNCHER)}\nargs = --config {place.at(CONFIG)}"
        conf = conf.replace(LAUNCHER, arguments)
    yield Item(f"{place.plugins()}/auditns.conf", os.fsencode(conf), 0o640, config=True)


def _refuse_foreign(place: Place, items: list[Item], old: Manifest, force: bool) -> None:
    for item in items:
        state = place._state(item.path)
        if item.config or force or state in (None, digest(item.data), old.files.get(item.path)):
            continue
        what = "is not a regular file" if state == "" else "is not what this program has put there"
        raise AuditnsError(f"{item.path} {what}; --force replaces it")


def _mode(path: str) -> int:
    try:
        return stat.S_IMODE(os.lstat(path).st_mode)
    except OSError:
        return -1  # not there: it will be written


def _failed(path: str, error: OSError) -> AuditnsError:
    kind = NotPermittedError if error.errno in (errno.EPERM, errno.EACCES) else AuditnsError
    return kind(f"{path}: {reason(error)}")
