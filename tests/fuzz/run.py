"""Fuzz: ``python -m tests.fuzz.run [--seconds N] [--target NAME] [--replay]``.

The C (text, kernel, table, archive) is built with clang's libFuzzer, AddressSanitizer and UBSan below the user's cache
folder; what parses in Python (targets.py) runs under atheris (python.py). Each begins with seeds (recorded text, the
grammar of the property tests, records as the kernel writes them, files as we write them) and what earlier runs found.
A crash ends it with exit code 1 and names the input; put that below tests/fuzz/regressions/TARGET under the name of the
defect.
--replay only goes once through seeds and regressions.
"""

import argparse
import hashlib
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from auditns_connector.emit.fields import NUMERIC, UNTRUSTED
from auditns_connector.vocabulary import record_types as rectypes
from tests.decoders import cn_message, proc_event
from tests.fuzz import targets
from tests.golden.enriching import DATA
from tests.perfrecords import comm, namespaces, raw_attach, raw_exec, raw_exit, raw_newtask, sample, task
from tests.property.audit_text import stream

HERE = Path(__file__).parent
CDEFS = HERE.parents[1] / "cdefs"
FLAGS = (
    "-g",
    "-O1",
    "-std=gnu11",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-fno-omit-frame-pointer",
    "-fno-sanitize-recover=all",
    "-include",
    "generated.h",
    "-include",
    "generated_impl.h",
)
#: which rooms of cdefs/ each target is made of
ROOMS = {
    "text": ("audittext", "table", "attribution", "json", "query"),
    "kernel": ("frames", "kernel", "sinks"),
    "table": ("frames", "table"),
    "archive": ("archive", "audittext"),
}
NAMES = (*ROOMS, *targets.TARGETS)


def types_header() -> str:
    """The tables that Python hands to the C, as a header."""
    names = "".join(f'"{name}\\0"' for name in rectypes.NUMBERS)
    numbers = ",".join(f"{rectypes.flagged(number)}u" for number in rectypes.NUMBERS.values())
    fields = {**dict.fromkeys(sorted(NUMERIC), 1), **dict.fromkeys(sorted(UNTRUSTED), 2)}
    listed = "".join(f'"{name}\\0"' for name in fields)
    return (
        f"static const char type_names[] = {names};\nstatic const uint32_t type_numbers[] = {{{numbers}}};\n"
        f"#define TYPE_COUNT {len(rectypes.NUMBERS)}\n"
        f"static const char field_names[] = {listed};\n"
        f"static const uint8_t field_kinds[] = {{{','.join(map(str, fields.values()))}}};\n"
        f"#define FIELD_COUNT {len(fields)}\n"
    )


def seeds(target: str) -> Iterator[bytes]:
    """Inputs to begin with; their first bytes are the target's own."""
    if target == "text":
        for path in sorted(DATA.glob("*.log")):
            text = path.read_bytes()
            for at in range(0, min(len(text), 40_000), 4000):
                yield b"\0\0" + text[at : at + 4000]
                yield b"\xff\x85" + text[at : at + 4000]
        for seed in range(60):
            yield bytes((seed * 5 % 256, seed * 7 % 256)) + stream(seed).replace(b"\n\n", b"\n")[:4000]
        return
    if target == "archive":
        for how, text in ((seed * 5 % 128, stream(seed).replace(b"\n\n", b"\n")[:4000]) for seed in range(60)):
            yield bytes((how,)) + text
        for path in sorted(DATA.glob("*.log")):
            yield b"\x09" + path.read_bytes()[:6000]
        # a table of three events, in two of which one part follows another, and its text
        table = bytes((0, 0, 0x11, 8, 0x10, 1, 12, 0x10, 0, 19, 0x12, 3, 0x10))
        yield b"\xc0" + bytes((len(table), 0, 20, 3)) + table + b"0123abcd....ABC\n"
        yield from (bytes((0x80,)) + bytes(seed * step % 256 for step in range(1, 2000)) for seed in range(5))
        return
    if target == "table":
        for seed in range(40):
            yield bytes((0, *(seed * step * step % 256 for step in range(1, 400))))
        return
    for what in (0, 1, 2, 4, 0x40, 0x80, 0x100, 0x200, 0x400, 0x40000000, 0x80000000, 77):
        body = struct.pack("<iiiiiiii", *range(1, 9))
        yield b"\1" + cn_message(proc_event(what, body, time=5), seq=9)
    records = (
        task(7, 1, 20, 20, 1, 1), namespaces(1, 20, 20), comm(2, 20, 20, b"true", by_exec=True),
        sample(raw_exec(20, 20, b"/usr/bin/true"), 3, 20, 20), sample(raw_exit(20), 4, 20, 20),
        task(4, 5, 20, 20, 1, 1),
        sample(raw_attach(20, 0, 9, b"/a"), 6, 1, 1), sample(raw_newtask(21, 1 << 33), 7, 1, 1),
    )  # fmt: skip
    yield b"\2\1" + b"".join(records)
    yield from (b"\2\1" + record for record in records)
    header = struct.pack("<IBBHQiiiiQQ", 48, 1, 1, 0, 7, 1, 1, 1, 1, 0, 0)
    yield b"\0" + header + header.replace(b"\7", b"\3")


def build(target: str, folder: Path, clang: str) -> Path:
    """Compile; returns the program."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fuzz_types.h").write_text(types_header())
    program = folder / f"fuzz_{target}"
    sources = [path for room in ROOMS[target] for path in sorted((CDEFS / room).glob("*.c"))]
    subprocess.run(
        [clang, *FLAGS, "-fsanitize=fuzzer,address,undefined", f"-I{CDEFS}", f"-I{folder}", "-include", "stddef.h",
         "-D_GNU_SOURCE", "-Wno-macro-redefined", "-include", "stdint.h", "-include", "sys/types.h",
         str(HERE / f"fuzz_{target}.c"), *map(str, sources), "-o", str(program)],
        check=True,
    )  # fmt: skip
    return program


def run(target: str, seconds: int, replay: bool, clang: str) -> int:
    """Exit code: 0 when nothing was found."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "auditns-fuzz" / target
    if target in ROOMS:
        command, given_by = [str(build(target, base, clang))], seeds(target)
        dictionary = [f"-dict={HERE / 'audit.dict'}"]
    else:
        base.mkdir(parents=True, exist_ok=True)
        command, given_by, dictionary = [sys.executable, "-m", "tests.fuzz.python", target], targets.seeds(target), []
    found, given = base / "corpus", base / "seeds"
    found.mkdir(exist_ok=True)
    shutil.rmtree(given, ignore_errors=True)
    given.mkdir()
    for seed in given_by:
        (given / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    regressions = sorted((HERE / "regressions" / target).glob("*"))
    environment = {**os.environ, "UBSAN_OPTIONS": "print_stacktrace=1", "ASAN_OPTIONS": "detect_leaks=1"}
    every = [*map(str, given.iterdir()), *map(str, regressions)]
    once = subprocess.run([*command, *every], env=environment, capture_output=True, text=True)
    print(
        f"{target}: {len(every) - len(regressions)} seeds, {len(regressions)} regressions: exit code {once.returncode}"
    )
    if once.returncode or replay:
        # atheris writes the traceback to stdout
        sys.stderr.write((once.stdout[-4000:] + once.stderr[-4000:]) if once.returncode else "")
        return once.returncode and 1
    options = [
        f"-max_total_time={seconds}",
        "-max_len=8192",
        "-timeout=10",
        "-print_final_stats=1",
        "-rss_limit_mb=2048",
    ]
    options += [f"-artifact_prefix={base}/", *dictionary]
    command += [str(found), str(given), *options]
    long = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    stats = [
        line for line in long.stderr.splitlines() if line.startswith(("stat::number_of", "stat::average", "SUMMARY"))
    ]
    print(f"{target}: {seconds} s: exit code {long.returncode}; {'; '.join(stats)}")
    if long.returncode:
        sys.stderr.write(long.stdout[-6000:] + long.stderr[-6000:])
    return long.returncode and 1


def main() -> int:
    """Run the targets one after the other."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz.run", description="Fuzz the C and what parses in Python."
    )
    parser.add_argument("--seconds", type=int, default=600, help="for all targets together (default: %(default)s)")
    parser.add_argument("--target", choices=NAMES, action="append")
    parser.add_argument("--replay", action="store_true", help="only seeds and regressions, once")
    args = parser.parse_args()
    clang = shutil.which("clang")
    if clang is None:
        print("fuzzing needs clang and its run-time library: apt-get install clang libclang-rt-dev", file=sys.stderr)
        return 2
    names = args.target or NAMES
    return max([run(name, max(1, args.seconds // len(names)), args.replay, clang) for name in names])


if __name__ == "__main__":
    sys.exit(main())
