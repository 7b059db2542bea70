"""Write ``generated.h`` and ``generated_impl.h``: the numbers that C and Python share, from where they are stated,
which is ``auditns_connector/vocabulary``. ``build.py`` does it before it compiles; a test says when the files are not
what this gives.

``generated.h`` is read by cffi too and holds plain numbers; ``generated_impl.h`` is for the C alone. The compiler
includes both in front of every C file, so that a number of the vocabulary is never more than its name away.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
_HEAD = "/* Written by cdefs/generate.py from auditns_connector/vocabulary: change it there. */\n"


def _numbers(module: ModuleType, prefixes: tuple[str, ...], c_prefix: str = "") -> Iterator[str]:
    for name, value in vars(module).items():
        if name.startswith(prefixes) and isinstance(value, int):
            yield f"#define {c_prefix}{name} {value}"


def header() -> str:
    """generated.h"""
    from auditns_connector.vocabulary import archive, audit_text, frames, namespaces, record_types, timing

    lines: list[str] = ["", "/* frames.py: kinds and sources of frames */"]
    lines += _numbers(frames, ("K_", "S_", "RULES_", "CPU_UNKNOWN"))
    lines += ["", "/* audit_text.py: flags of points, modes of a scan, marks of lines, bounds */"]
    lines += _numbers(
        audit_text, ("P_", "MODE_", "LINE_", "MAX_", "CLOSED", "OLDER_MS", "PATIENT_", "AWAITS_"), "AUDITNS_"
    )
    lines += ["", "/* timing.py, nanoseconds */"]
    lines += _numbers(timing, ("EPSILON", "LATE", "EXEC_TIME", "SLACK", "SAME_START"), "AUDITNS_")
    lines += ["", "/* archive.py: kinds of terms, holders and tallies, flags of events */"]
    lines += _numbers(archive, ("TERM_", "HOLDER_", "TALLY_", "EVENT_"), "ARCHIVE_")
    lines += ["", "/* namespaces.py: how many types there are, and the place of one */"]
    lines += [f"#define NS_TYPES {len(namespaces.ALL_ORDER)}", f"#define NS_PID {namespaces.PID}"]
    lines += ["", "/* record_types.py */"]
    numbers = {
        "AUDIT_EOE": record_types.EOE,
        "AUDIT_FIRST_DAEMON": record_types.DAEMON[0],
        "AUDIT_LAST_DAEMON": record_types.DAEMON[-1],
        "AUDIT_CONTAINER_ID": record_types.CONTAINER_ID,
        "AUDIT_CONTAINER_INFO": record_types.CONTAINER_INFO,
        "AUDIT_NS_INFO": record_types.NS_INFO,
        "AUDIT_CONTAINER_LOST": record_types.CONTAINER_LOST,
        "AUDIT_FIRST_OWN": min(record_types.OWN),
        "AUDIT_LAST_OWN": max(record_types.OWN),
    }
    lines += [f"#define {name} {value}" for name, value in numbers.items()]
    return _HEAD + "\n".join(lines) + "\n"


def _cases(table: Mapping[int, frozenset[int]]) -> Iterator[str]:
    for arch, numbers in table.items():
        yield f"    X({arch:#x}, " + " || ".join(f"nr == {number}" for number in sorted(numbers)) + ")"


def impl_header() -> str:
    """generated_impl.h"""
    from auditns_connector.vocabulary import namespaces, record_types, syscalls

    lines = [
        "",
        "/* record_types.py: bits above the number of a type, and X(first, last, bits) for each range of them */",
    ]
    bits = {
        "OWN": "OWN_BIT",
        "OWN_LONE": "OWN_ALONE_BIT",
        "LONE": "LONE_BIT",
        "SINGLE": "SINGLE_BIT",
        "USER": "USER_BIT",
    }
    lines += [f"#define TYPE_{name} {getattr(record_types, bit):#x}u" for name, bit in bits.items()]
    ranges = " ".join(f"X({first}, {last}, {bits:#x}u)" for first, last, bits in record_types.RANGES)
    lines += [f"#define TYPE_RANGES(X) {ranges}"]
    lines += ["", "/* syscalls.py: X(arch, whether the call nr loads another program) */", "#define EXEC_CALLS(X) \\"]
    lines += [" \\\n".join(_cases(syscalls.EXECS))]
    names = r"\0".join((*namespaces.ALL_ORDER, "time_for_children"))
    lines += ["", "/* namespaces.py: links of /proc/PID/ns */", f'#define NS_LINK_NAMES "{names}"']
    return _HEAD + "\n".join(lines) + "\n"


def generated() -> dict[str, str]:
    """File name -> what is to be in it."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    return {"generated.h": header(), "generated_impl.h": impl_header()}


def write() -> None:
    """Bring the files up to date; one that is stays untouched."""
    for name, text in generated().items():
        path = HERE / name
        if not path.exists() or path.read_text(encoding="ascii") != text:
            path.write_text(text, encoding="ascii")


if __name__ == "__main__":
    write()
