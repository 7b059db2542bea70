"""A copy of this package that needs nothing else: for programs that auditd starts.

auditd gives a plugin an empty environment; its service may hide /home and /root, and forbids memory that is both
writable and executable (MemoryDenyWriteExecute). So the plugin is not run from a virtual environment: the package, its
extension modules and the few packages it imports are copied into one directory, and a system interpreter is chosen by
actually importing all of it there, under those conditions.
"""

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from auditns_connector.errors import AuditnsError, NotSupportedError

PACKAGE: Final = Path(__file__).parents[1]
#: there, with the kind of the package, where a deb or rpm has installed all of this (packaging/stage.sh)
PACKAGED: Final = PACKAGE.parent / "package"
#: packages that ours imports at run time, beside the standard library; a test compares it with the source
THIRD_PARTY: Final = ("pyroute2", "structlog")
#: packages that are imported where they are needed alone, as by the process that seals rotated text: copied where they
#: are installed
OPTIONAL: Final = ("zstandard",)
#: packages that commands alone import, which a plugin never runs
COMMANDS_ONLY: Final = ("jinja2", "prometheus_client", "pyarrow")
#: the part of cffi that extension modules need
BACKEND: Final = "_cffi_backend"
EXTENSIONS: Final = ("_native",)
MINIMUM: Final = (3, 11)
#: what the plugin may not need, because it may not see it
PRIVATE: Final = ("/home/", "/root/", "/tmp/", "/var/tmp/", "/run/user/")
#: -I: no environment, no user site; -S: no site-packages; -B: write nothing beside what was installed
FLAGS: Final = "-ISB"
_SKIP: Final = shutil.ignore_patterns("__pycache__", "*.pyc", "*.o", "*.c")

# Runs in the candidate: import everything, then name every file this took.
_CHECK: Final = """
import sys
if sys.version_info < {minimum}:
    sys.exit("it is Python %d.%d; 3.11 or later is needed" % sys.version_info[:2])
sys.path.insert(0, {lib!r})
for name in {modules!r}:
    try:
        __import__(name)
    except Exception as error:
        sys.exit("%s: %s: %s" % (name, type(error).__name__, error))
used = {{getattr(module, "__file__", None) for module in list(sys.modules.values())}}
with open("/proc/self/maps") as maps:
    used.update(line.split(None, 5)[-1].strip() for line in maps if "/" in line)
print("\\n".join(sorted(path for path in used if path and path.startswith("/"))))
"""


class Bundle(NamedTuple):
    """``lib`` holds the staged copy, ready to be moved; ``interpreter`` has imported all of it."""

    lib: Path
    interpreter: str


@contextlib.contextmanager
def staged(final: str) -> Iterator[Bundle]:
    """Make the copy in a temporary directory, compiled as if it stood in the directory ``final``.

    Raises :class:`NotSupportedError` when no interpreter of this host can run it, saying why and what to install.
    """
    import tempfile

    with tempfile.TemporaryDirectory(prefix="auditns-") as folder:
        lib = Path(folder, "lib")
        _copy_package(lib)
        backends = _backends(Path(folder))
        interpreter = _choose(lib, backends)
        _compile(interpreter, lib, final)
        yield Bundle(lib, interpreter)


def launcher(interpreter: str, lib: str) -> str:
    """The text of the executable: the plugin's main, from ``lib`` alone."""
    return f'''#!{interpreter} {FLAGS}
"""audisp-auditns: the auditd plugin. Made by "auditns install-plugin", which also takes it away (--uninstall)."""

import sys

sys.path.insert(0, {lib!r})

from auditns_connector.cli.plugin import main

sys.exit(main())
'''


def package_modules() -> list[str]:
    """Every module of the package, extension modules included, by its dotted name."""
    names = [f"{PACKAGE.name}.{name}" for name in EXTENSIONS]
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


def _copy_package(lib: Path) -> None:
    for name in EXTENSIONS:
        if not list(PACKAGE.glob(f"{name}*.so")):
            raise AuditnsError(f"the extension module {name} is not built: run make, or pip install, first")
    shutil.copytree(PACKAGE, lib / PACKAGE.name, ignore=_SKIP)
    for name in (*THIRD_PARTY, *OPTIONAL):
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            if name in OPTIONAL:
                continue
            raise AuditnsError(f"the package {name} is not installed beside this one: pip install {name}")
        if spec.submodule_search_locations:
            shutil.copytree(Path(spec.origin).parent, lib / name, ignore=_SKIP)
        else:
            shutil.copy(spec.origin, lib)


def packaged() -> str:
    """``deb`` or ``rpm`` where this program was installed by such a package, else ""."""
    try:
        return PACKAGED.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""  # a virtual environment, a source tree, or the plugin's copy


# --- choosing the interpreter ---


def candidates() -> list[str]:
    """System interpreters by their real paths, the distribution's own first, ours last; none from a home."""
    names = ["python3", *(f"python3.{minor}" for minor in range(20, MINIMUM[1] - 1, -1))]
    paths = [f"{folder}/{name}" for folder in ("/usr/bin", "/usr/local/bin") for name in names]
    paths.append(os.path.join(sys.base_prefix, "bin", f"python{sys.version_info[0]}.{sys.version_info[1]}"))
    real = [os.path.realpath(path) for path in paths if os.access(path, os.X_OK)]
    return [path for path in dict.fromkeys(real) if not path.startswith(PRIVATE)]


def _backends(folder: Path) -> list[Path]:
    """Directories, each with one _cffi_backend to try: ours first; one that an interpreter has is added later."""
    spec = importlib.util.find_spec(BACKEND)
    return [] if spec is None or spec.origin is None else [_backend(folder / "ours", Path(spec.origin))]


def _backend(folder: Path, origin: Path) -> Path:
    folder.mkdir()
    shutil.copy(origin, folder)
    shared = origin.parent / "cffi.libs"  # the libffi of some wheels, found relative to the module
    if shared.is_dir():
        shutil.copytree(shared, folder / shared.name)
    return folder


def _choose(lib: Path, backends: list[Path]) -> str:
    """The first interpreter that can import everything; its backend is then in ``lib``."""
    reasons = []
    for number, interpreter in enumerate(candidates()):
        reason = "no _cffi_backend was found for it"
        own = _ask_for_backend(interpreter)
        for folder in backends + ([_backend(lib.parent / f"own{number}", own)] if own else []):
            copied = [lib / entry.name for entry in folder.iterdir()]
            shutil.copytree(folder, lib, dirs_exist_ok=True)
            reason = check(interpreter, lib, package_modules() + list(THIRD_PARTY))
            if not reason:
                return interpreter
            for path in copied:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        reasons.append(f"{interpreter}: {reason}")
    found = "; ".join(reasons) or "none was found in /usr/bin or /usr/local/bin"
    raise NotSupportedError(
        f"no Python of this system can run the plugin ({found}). Interpreters under /home or /root do not count: "
        f"auditd may not see them. Install Python 3.11 or later with cffi's backend: {_remedy()}"
    )


def _remedy() -> str:
    if shutil.which("dnf"):
        return "dnf install python3 python3-cffi"
    return "apt-get install python3 python3-cffi-backend"


def _ask_for_backend(interpreter: str) -> Path | None:
    code = f"import {BACKEND}; print({BACKEND}.__file__)"
    done = subprocess.run([interpreter, "-IB", "-c", code], env={}, cwd="/", capture_output=True, text=True)
    path = Path(done.stdout.strip() or "/nonexistent")
    return path if done.returncode == 0 and path.is_file() else None


def check(interpreter: str, lib: Path, modules: list[str]) -> str:
    """Import ``modules`` from ``lib`` as the plugin would; returns what is wrong, "" when nothing is."""
    code = _CHECK.format(minimum=MINIMUM, lib=str(lib), modules=modules)
    done = subprocess.run(
        [interpreter, FLAGS, "-c", code],
        env={},
        cwd="/",
        capture_output=True,
        text=True,
        preexec_fn=_deny_write_execute,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        return lines[-1] if lines else f"ended with {done.returncode}"
    private = [path for path in done.stdout.splitlines() if path.startswith(PRIVATE) and not path.startswith(str(lib))]
    return f"it needs {private[0]}" if private else ""


def _deny_write_execute() -> None:
    """PR_SET_MDWE (prctl(2), Linux 6.3), which MemoryDenyWriteExecute sets; older kernels do not know it."""
    import ctypes

    ctypes.CDLL(None).prctl(65, 1, 0, 0, 0)


def _compile(interpreter: str, lib: Path, final: str) -> None:
    """Byte code beside each module, so that the start is quick; the same bytes each time."""
    command = [interpreter, "-IS", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    done = subprocess.run([*command, "-s", str(lib), "-p", final, str(lib)], env={}, cwd="/", capture_output=True)
    if done.returncode != 0:
        raise AuditnsError(f"{interpreter} cannot compile the package: {done.stdout.decode(errors='replace').strip()}")


def shipped(name: str) -> bytes:
    """A file of the project's audisp directory: from the source tree, or from where it was installed."""
    places = [PACKAGE.parent / "audisp" / name, Path(sysconfig.get_path("data"), "share/auditns/audisp", name)]
    from importlib import metadata

    try:
        files = metadata.files("auditns_connector") or []
    except metadata.PackageNotFoundError:
        files = []  # run from a source tree that is not installed
    places += [Path(str(path.locate())) for path in files if path.parts[-2:] == ("audisp", name)]
    for place in places:
        if place.is_file():
            return place.read_bytes()
    raise AuditnsError(f"{name} is missing from this installation: looked in {', '.join(map(str, places))}")
