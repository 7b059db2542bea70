"""Write ``auditns_connector/vocabulary/syscall_names.txt``: every system call of every architecture that has an
AUDIT_ARCH_* value, from the package system-calls (the tables of the kernel tree; ``pip install system-calls``). To be
run by hand when that knows a newer kernel; a test says when the file is not what it gives.

A line is an architecture's ``arch=`` values, a colon, and its calls in the order of their numbers: a number where it is
not the one before and one more, then the name.
"""

import importlib
import sys
from pathlib import Path

PLACE = Path(__file__).resolve().parent.parent / "auditns_connector" / "vocabulary" / "syscall_names.txt"
_64, _LE, _N32 = 0x80000000, 0x40000000, 0x20000000
#: table -> AUDIT_ARCH_* (include/uapi/linux/audit.h, elf-em.h)
ARCHES: dict[str, tuple[int, ...]] = {
    "x86_64": (_64 | _LE | 62,),
    "i386": (_LE | 3,),
    "arm64": (_64 | _LE | 183,),
    "arm": (_LE | 40, 40),
    "powerpc": (20,),
    "powerpc64": (_64 | 21, _64 | _LE | 21),
    "s390": (22,),
    "s390x": (_64 | 22,),
    "riscv32": (_LE | 243,),
    "riscv64": (_64 | _LE | 243,),
    "loongarch32": (_LE | 258,),
    "loongarch64": (_64 | _LE | 258,),
    "mipso32": (8, _LE | 8),
    "mips64": (_64 | 8, _64 | _LE | 8),
    "mips64n32": (_64 | _N32 | 8, _64 | _LE | _N32 | 8),
    "alpha": (_64 | _LE | 0x9026,),
    "arc": (_LE | 93, _LE | 195),
    "csky": (_LE | 252,),
    "hexagon": (164,),
    "ia64": (_64 | _LE | 50,),
    "m68k": (4,),
    "microblaze": (189,),
    "nios2": (_LE | 113,),
    "openrisc": (92,),
    "parisc": (15,),
    "parisc64": (_64 | 15,),
    "sh": (42, _LE | 42),
    "sparc": (2,),
    "sparc64": (_64 | 43,),
    "xtensa": (94,),
}
#: tables of processes that say the ``arch=`` of another one
ALSO = {"x86_64": ("x32",)}


def calls(name: str) -> dict[int, str]:
    """Number -> name of a table."""
    module = importlib.import_module(f"system_calls.tables.{name}")
    return {number: call for call, number in getattr(module, f"syscalls_{name}").items()}


def text() -> str:
    """What is to be in the file."""
    lines = []
    for name, arches in ARCHES.items():
        table = calls(name)
        for other in ALSO.get(name, ()):
            table = calls(other) | table
        words, due = [], None
        for number, call in sorted(table.items()):
            if number != due:
                words.append(str(number))
            words.append(call)
            due = number + 1
        lines.append(f"{' '.join(f'{arch:x}' for arch in arches)}: {' '.join(words)}\n")
    return "".join(lines)


if __name__ == "__main__":
    PLACE.write_text(text(), encoding="ascii")
    print(PLACE, file=sys.stderr)
