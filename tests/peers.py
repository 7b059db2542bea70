"""LAUREL and the audit tools in two versions, as installed here and the newest that Debian has; and Debian's kernels.

``python -m tests.peers`` (``make peers``) fetches the newest from the Debian mirror that apt uses here and unpacks
them, with the libraries they were built for, below the user's cache folder; nothing is installed. What a test or bench
asks for afterwards is :func:`versions`, :func:`installed` and :func:`newest`; the last two raise
:class:`NotHereError`, whose message is the reason to skip.
"""

import argparse
import contextlib
import functools
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

#: where Debian's newest packages are
SUITE: Final = "sid"
#: what :func:`fetch` unpacks, each with all it depends on
PACKAGES: Final = ("laurel", "auditd")
#: suites whose kernels are booted in a guest, each with those it needs beside it
KERNELS: Final = {"bookworm": (), "bookworm-backports": ("bookworm",), "sid": ()}
PROGRAMS: Final = ("laurel", "auditd", "auditctl", "ausearch", "aureport", "augenrules")
KEYRING: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"
_SBIN: Final = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
_FOLDERS: Final = ("usr/sbin", "usr/bin", "sbin", "bin")
#: they need a newer libc than the host may have, so their own loader starts them
_LAUNCHER: Final = '#!/bin/sh\nexec {loader} --library-path {libraries} {program} "$@"\n'


class NotHereError(Exception):
    """That program cannot be had here; the message says why."""


class Peer(NamedTuple):
    """One program in one version. ``path`` is a file that can be executed, also as a plugin of auditd."""

    program: str
    version: str
    path: Path

    @property
    def title(self) -> str:
        """For tables: ``LAUREL 0.8.2``, ``ausearch 4.2.1``."""
        return f"{'LAUREL' if self.program == 'laurel' else self.program} {self.version}"


def folder() -> Path:
    """Where the newest are unpacked."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "auditns-peers"


def launchers() -> Path:
    """The folder with one file for each program of PROGRAMS, to be put before PATH."""
    return folder() / "bin"


def _version(path: Path) -> str:
    """What the program says of itself; auditd and auditctl say it in other ways, and are of ausearch's version."""
    named = path.with_name("ausearch") if path.name in ("auditd", "auditctl", "augenrules") else path
    done = subprocess.run([named, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"\d+(?:\.\d+)+", done.stdout)
    if done.returncode or not found:
        raise NotHereError(f"{path} does not run here: {(done.stderr or done.stdout).strip()[:200]}")
    return found[0]


@functools.cache
def installed(program: str) -> Peer:
    """As the host has it."""
    path = shutil.which(program, path=_SBIN)
    if path is None:
        raise NotHereError(f"no {program} is installed")
    return Peer(program, _version(Path(path)), Path(path))


@functools.cache
def newest(program: str) -> Peer:
    """As :func:`fetch` unpacked it."""
    path = launchers() / program
    if not path.exists():
        raise NotHereError(f"no newest {program} is unpacked in {folder()}: run make peers")
    return Peer(program, _version(path), path)


def versions(program: str) -> list[Peer]:
    """The installed one and the newest, as far as they are here and differ."""
    found: dict[str, Peer] = {}
    for get in (installed, newest):
        with contextlib.suppress(NotHereError):
            peer = get(program)
            found.setdefault(peer.version, peer)
    return list(found.values())


# -- fetching


def mirror() -> str:
    """The Debian mirror among apt's sources. Raises :class:`NotHereError`."""
    if shutil.which("apt-get") is None:
        raise NotHereError("apt-get, which would fetch it, is not here")
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=False,
    )
    for uri in done.stdout.split():
        if re.fullmatch(r"[a-z+]+://\S+/debian/?", uri):
            return uri
    raise NotHereError("no Debian mirror is among apt's sources")


class Apt:
    """apt with lists and an (empty) state of its own below ``place``: what it resolves is a whole system's worth."""

    def __init__(self, place: Path, suites: Iterable[str]) -> None:
        self.place = place
        uri = mirror()
        if not Path(KEYRING).exists():
            raise NotHereError(f"no {KEYRING}, which says whose packages they are")
        for name in ("lists/partial", "cache/archives/partial"):
            (place / name).mkdir(parents=True, exist_ok=True)
        (place / "status").write_bytes(b"")
        sources = place / "sources.list"
        sources.write_text("".join(f"deb [signed-by={KEYRING}] {uri} {suite} main\n" for suite in suites))
        self._options = [
            f"Dir::Etc::sourcelist={sources}",
            "Dir::Etc::sourceparts=/dev/null",
            f"Dir::State::lists={place}/lists",
            f"Dir::State::status={place}/status",
            f"Dir::Cache={place}/cache",
            "APT::Sandbox::User=root",
            "APT::Install-Recommends=0",
        ]

    def run(self, *words: str) -> str:
        """One apt-get command's output. Raises :class:`NotHereError` with the end of what it said."""
        options = [word for option in self._options for word in ("-o", option)]
        done = subprocess.run(["apt-get", "-qq", *options, *words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotHereError(f"apt-get {' '.join(words)}: {done.stderr.strip()[-300:]}")
        return done.stdout

    def download(self, *packages: str) -> list[Path]:
        """Fetch ``packages`` and all they depend on; the files."""
        self.run("--yes", "--download-only", "install", *packages)
        return sorted((self.place / "cache/archives").glob("*.deb"))

    def download_alone(self, package: str) -> Path:
        """Fetch one package without what it depends on; the file."""
        target = self.place / "alone"
        target.mkdir(exist_ok=True)
        name = self.run("--print-uris", "download", package).split()[1]
        if not (target / name).exists():
            with contextlib.chdir(target):
                self.run("download", package)
        return target / name


def unpack(files: Iterable[Path], root: Path) -> None:
    """Unpack packages below ``root``."""
    for file in files:
        subprocess.run(["dpkg", "-x", file, root], check=True)


def fetch() -> None:
    """Fetch and unpack PACKAGES anew. Raises :class:`NotHereError`."""
    place = folder()
    place.mkdir(parents=True, exist_ok=True)
    apt = Apt(place, [SUITE])
    apt.run("update")
    shutil.rmtree(place / "cache/archives")
    (place / "cache/archives/partial").mkdir(parents=True)
    files = apt.download(*PACKAGES)
    root = place / "root"
    shutil.rmtree(root, ignore_errors=True)
    unpack(files, root)
    _write_launchers(root)
    installed.cache_clear()
    newest.cache_clear()


def _write_launchers(root: Path) -> None:
    libraries = root / "usr/lib" / f"{platform.machine()}-linux-gnu"
    loader = next(libraries.glob("ld-linux-*.so.*"), None)
    if loader is None:
        raise NotHereError(f"no dynamic loader in {libraries}")
    launchers().mkdir(exist_ok=True)
    for program in PROGRAMS:
        found = next((path for top in _FOLDERS if (path := root / top / program).exists()), None)
        launcher = launchers() / program
        launcher.unlink(missing_ok=True)
        if found is not None:
            launcher.write_text(_LAUNCHER.format(loader=loader, libraries=libraries, program=found))
            launcher.chmod(0o750)


def kernel(suite: str) -> Path:
    """The image of the kernel of that suite of KERNELS, as :func:`fetch_kernel` unpacked it."""
    found = sorted((folder() / "kernels" / suite).glob("vmlinuz-*"))
    if not found:
        raise NotHereError(f"no kernel of {suite} is unpacked in {folder()}: run python -m tests.peers --kernels")
    return found[-1]


def fetch_kernel(suite: str) -> Path:
    """Fetch the kernel of ``suite`` and keep its image. Raises :class:`NotHereError`."""
    place = folder() / "kernels" / suite
    place.mkdir(parents=True, exist_ok=True)
    apt = Apt(place, [suite, *KERNELS[suite]])
    apt.run("update")
    names = [line.split()[1] for line in apt.run("--print-uris", "install", f"linux-image-amd64/{suite}").splitlines()]
    # newer ones keep the image apart from the modules, which a guest does without
    for shape in (r"linux-binary-\d\S+", r"linux-image-\d\S+"):
        if package := next((match[0] for name in names if (match := re.match(shape, name.partition("_")[0]))), None):
            break
    else:
        raise NotHereError(f"{suite} has no kernel package that is known here")
    archive = apt.download_alone(package)
    unpack([archive], place / "root")
    (image,) = [path for top in ("boot", "usr/lib") for path in (place / "root" / top).rglob("vmlinuz*")]
    kept = place / f"vmlinuz-{re.sub('^linux-[a-z]+-', '', package)}"
    shutil.copyfile(image, kept)
    for spent in ("root", "alone", "cache"):
        shutil.rmtree(place / spent, ignore_errors=True)
    return kept


def ensure(say: bool = True) -> None:
    """Fetch them where they are not there yet; where that fails, say so and go on with what there is."""
    try:
        if not (launchers() / "laurel").exists():
            fetch()
    except NotHereError as error:
        if say:
            print(f"peers: {error}", file=sys.stderr)


def main() -> int:
    """Fetch, and tell what there is."""
    parser = argparse.ArgumentParser(prog="python -m tests.peers", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kernels", action="store_true", help="fetch kernels instead, for guests")
    kernels = parser.parse_args().kernels
    try:
        for suite in KERNELS if kernels else ():
            print(fetch_kernel(suite))
        if kernels:
            return 0
        fetch()
    except NotHereError as error:
        print(f"peers: {error}", file=sys.stderr)
        return 1
    for program in PROGRAMS:
        for peer in versions(program):
            print(f"{peer.title}: {peer.path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
