"""Build the two extension modules: ``auditns_connector._kernel`` and ``auditns_connector._text``.

``X_*.h`` are the declarations of module ``_X``, in name order. The same file is read by cffi and included
by C, so a struct is declared once; it may therefore hold only what cffi's parser takes (types, functions,
``#define NAME number``; no ``#include``, no ``#if``). ``X_*.c`` are compiled and linked in; each includes
the headers it needs itself.

setup.py builds them through ``kernel`` and ``text`` below. Run as a program, this rebuilds both in place,
for work on the C code; the finished file replaces the old one in one step, so that a program which has the
old one mapped goes on undisturbed. ``AUDITNS_WERROR=1`` makes the compiler's warnings errors.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent if "__file__" in globals() else Path("cdefs").resolve()
ROOT = HERE.parent
PACKAGE = "auditns_connector"
FLAGS = ["-O2", "-std=gnu11", "-Wall", "-Wextra", "-fvisibility=hidden"]
# what cffi itself generates is not warning-free, and not ours to mend
GENERATED = ["-Wno-unused-parameter", "-Wno-missing-field-initializers", "-Wno-cast-function-type"]


def builder(name: str, base: str = "") -> FFI:
    """The cffi builder of module ``_name``. The paths of its files are relative (a source distribution may hold
    no others), unless ``base`` says in which folder they are."""
    headers = sorted(HERE.glob(f"{name}_*.h"))
    sources = sorted(HERE.glob(f"{name}_*.c"))
    ffi = FFI()
    for header in headers:
        ffi.cdef(header.read_text(encoding="ascii"))
    preamble = "#include <stddef.h>\n#include <stdint.h>\n#include <sys/types.h>\n"
    preamble += "".join(f'#include "{header.name}"\n' for header in headers)
    werror = ["-Werror"] if os.environ.get("AUDITNS_WERROR") == "1" else []
    ffi.set_source(
        f"{PACKAGE}._{name}",
        preamble,
        sources=[os.path.join(base, path.relative_to(ROOT)) for path in sources],
        depends=[os.path.join(base, path.relative_to(ROOT)) for path in sorted(HERE.glob("*.h"))],
        include_dirs=[os.path.join(base, "cdefs")],
        extra_compile_args=[*FLAGS, *GENERATED, *werror],
        py_limited_api=True,
    )
    return ffi


kernel = builder("kernel")
text = builder("text")


def rebuild() -> None:
    """Compile both and put them into the package's folder."""
    for name in ("kernel", "text"):
        ffi = builder(name, str(ROOT))
        with tempfile.TemporaryDirectory(prefix="auditns-build-") as folder:
            built = Path(ffi.compile(tmpdir=folder))
            place = ROOT / PACKAGE / built.name
            staged = place.with_suffix(".new")
            shutil.copy(built, staged)
            staged.replace(place)
            print(place.relative_to(ROOT), file=sys.stderr)


if __name__ == "__main__":
    rebuild()
