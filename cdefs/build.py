"""Build the extension module ``auditns_connector._native``, and the program that container runtimes call.

Each folder here is one job, named as the package that uses it. ``ROOM/*.h`` are declarations, in the order of
:data:`ROOMS`: the same file is read by cffi and included by C, so a struct is declared once; it may therefore hold only
what cffi's parser takes (types, functions, ``#define NAME number``; no ``#include``, no ``#if``). ``*_impl.h`` are for
the C sources alone. ``ROOM/*.c`` are compiled and linked in; each includes the headers it needs itself.

``hook/`` is a program of its own, which includes nothing of the rest. setup.py builds the extension through ``native``
below and the program through ``hook``. Run as a program, this rebuilds both in place, for work on the C code; the
finished file replaces the old one in one step, so that a program which has the old one mapped goes on undisturbed.
``AUDITNS_WERROR=1`` makes the compiler's warnings errors.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent if "__file__" in globals() else Path("cdefs").resolve()
ROOT = HERE.parent
PACKAGE = "auditns_connector"
HOOK = "auditns-oci-hook"
#: lowest first: a header may use the types of those before it
ROOMS = (
    "frames", "kernel", "audittext", "archive", "table", "attribution", "json", "query", "records", "sinks", "process",
    "intake", "loop",
)  # fmt: skip
FLAGS = ["-O2", "-std=gnu11", "-Wall", "-Wextra", "-fvisibility=hidden"]
#: in front of every C file: the numbers of the vocabulary, see generate.py
NUMBERS = ["-include", "generated.h", "-include", "generated_impl.h"]
# what cffi itself generates is not warning-free, and not ours to mend
GENERATED = ["-Wno-unused-parameter", "-Wno-missing-field-initializers", "-Wno-cast-function-type"]


def declarations() -> list[Path]:
    """The headers that cffi reads."""
    return [path for room in ROOMS for path in sorted((HERE / room).glob("*.h")) if not path.stem.endswith("_impl")]


def builder(base: str = "") -> FFI:
    """The cffi builder. The paths of its files are relative (a source distribution may hold no others), unless ``base``
    says in which folder they are."""
    headers = declarations()
    ffi = FFI()
    ffi.cdef((HERE / "generated.h").read_text(encoding="ascii"))
    for header in headers:
        ffi.cdef(header.read_text(encoding="ascii"))
    preamble = "#include <stddef.h>\n#include <stdint.h>\n#include <sys/types.h>\n"
    preamble += "".join(f'#include "{header.relative_to(HERE)}"\n' for header in headers)
    werror = ["-Werror"] if os.environ.get("AUDITNS_WERROR") == "1" else []
    ffi.set_source(
        f"{PACKAGE}._native",
        preamble,
        sources=[
            os.path.join(base, path.relative_to(ROOT)) for room in ROOMS for path in sorted((HERE / room).glob("*.c"))
        ],
        depends=[os.path.join(base, path.relative_to(ROOT)) for path in sorted(HERE.glob("**/*.h"))],
        include_dirs=[os.path.join(base, "cdefs")],
        extra_compile_args=[*FLAGS, *NUMBERS, *GENERATED, *werror],
        py_limited_api=True,
    )
    return ffi


native = builder()


def hook(folder: Path) -> None:
    """Compile the hook program into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    compiler = os.environ.get("CC", "cc").split()
    werror = ["-Werror"] if os.environ.get("AUDITNS_WERROR") == "1" else []
    staged = folder / f"{HOOK}.new"
    flags = [word for name in ("CPPFLAGS", "CFLAGS", "LDFLAGS") for word in os.environ.get(name, "").split()]
    source = HERE / "hook" / "auditns_oci_hook.c"
    subprocess.run([*compiler, *FLAGS, *flags, *werror, "-o", staged, source], check=True)
    staged.chmod(0o755)
    staged.replace(folder / HOOK)


def rebuild() -> None:
    """Write the numbers of the vocabulary, compile both and put them into the package's folder."""
    from generate import write

    write()
    hook(ROOT / PACKAGE / "libexec")
    ffi = builder(str(ROOT))
    with tempfile.TemporaryDirectory(prefix="auditns-build-") as folder:
        built = Path(ffi.compile(tmpdir=folder))
        place = ROOT / PACKAGE / built.name
        staged = place.with_suffix(".new")
        shutil.copy(built, staged)
        staged.replace(place)
        print(place.relative_to(ROOT), file=sys.stderr)


if __name__ == "__main__":
    rebuild()
