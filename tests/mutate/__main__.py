"""Weaken each rule of mutants.py in a copy of the tree, and see that the test named for it fails.

``python -m tests.mutate [-k PART] [--slice I/N] [--find]``: all mutants, or those whose name holds PART, or the I-th of
N parts of them; ``--find`` runs every test of the file and says which one notices first. Exit code 1 when one is not
caught.
"""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.mutate.mutants import MUTANTS, Mutant

ROOT: Final = Path(__file__).resolve().parents[2]
_LEFT_OUT: Final = shutil.ignore_patterns(".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", "build", "dist")
#: seconds after which a mutant's test is taken to hang, which is noticed too; far more than one takes on a busy machine
_TIMEOUT: Final = 1800


class Copy:
    """A copy of the tree whose extension is compiled file by file, so that a mutant in C costs a second."""

    def __init__(self, folder: str) -> None:
        self.root = Path(folder) / "tree"
        shutil.copytree(ROOT, self.root, ignore=_LEFT_OUT)
        self._objects = Path(folder) / "objects"
        self._objects.mkdir()
        self._commands: tuple[list[str], list[Path]] | None = None
        self._extension = next(self.root.glob("auditns_connector/_native*.so"), None)

    def _compiler(self) -> tuple[list[str], list[Path]]:
        """The command that compiles, and what: cffi's own C first."""
        if self._commands is not None:
            return self._commands
        sys.path.insert(0, str(self.root / "cdefs"))
        import build

        sys.path.pop(0)
        interface = self._objects / "_native.c"
        build.native.emit_c_code(str(interface))
        include = sysconfig.get_paths()["include"]
        flags = [
            *build.FLAGS,
            *build.NUMBERS,
            *build.GENERATED,
            "-w",
            "-fPIC",
            f"-I{include}",
            f"-I{self.root / 'cdefs'}",
        ]
        sources = [path for room in build.ROOMS for path in sorted((self.root / "cdefs" / room).glob("*.c"))]
        self._commands = [os.environ.get("CC", "cc"), *flags], [interface, *sources]
        return self._commands

    def compile(self, changed: Path | None) -> bool:
        """Build the extension; a ``changed`` C file alone is compiled anew, anything else (None, a header) all of it.
        False when it does not compile."""
        command, sources = self._compiler()
        running: list[subprocess.Popen[bytes]] = []
        good = True
        for source in sources:
            target = self._object(source)
            if source == changed or changed is None or changed.suffix == ".h" or not target.exists():
                running.append(subprocess.Popen([*command, "-c", str(source), "-o", str(target)]))
                if len(running) >= (os.cpu_count() or 1):
                    good &= running.pop(0).wait() == 0
        codes = [process.wait() for process in running]
        if any(codes) or not good:
            return False
        self._link()
        return True

    def _object(self, source: Path) -> Path:
        return self._objects / f"{source.parent.name}-{source.stem}.o"

    def _link(self) -> None:
        command, sources = self._compiler()
        assert self._extension is not None
        staged = self._extension.with_suffix(".new")
        objects = [str(self._object(source)) for source in sources]
        subprocess.run([command[0], "-shared", "-o", str(staged), *objects, "-lpthread"], check=True)
        staged.replace(self._extension)

    @contextlib.contextmanager
    def compiled_with(self, changed: Path) -> Iterator[bool]:
        """The extension with a ``changed`` C file or header during the block, which undoes the change; false where it
        does not compile."""
        kept = self._object(changed)
        former = kept.read_bytes() if changed.suffix == ".c" else None
        try:
            yield self.compile(changed)
        finally:
            if former is None:
                self.compile(changed)
            else:
                kept.write_bytes(former)
                self._link()

    def test(self, *tests: str, hangs: bool = True) -> tuple[bool, str]:
        """Whether all of ``tests`` pass, and the last lines that pytest wrote; ``hangs``: they may never end."""
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-x",
            "-p",
            "no:cacheprovider",
            "--no-header",
            "--hypothesis-seed=1",
            *tests,
        ]
        try:
            done = subprocess.run(
                command, cwd=self.root, capture_output=True, text=True, timeout=_TIMEOUT if hangs else None,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(self.root)},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return False, "FAILED by hanging"
        if done.returncode not in (0, 1) and done.returncode > 0:  # a crash of the C is noticed as well
            raise SystemExit(f"pytest {' '.join(tests)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.returncode == 0, done.stdout


def caught(copy: Copy, mutant: Mutant, *, find: bool) -> bool:
    """Put ``mutant`` in, run its test, take it out again."""
    path = copy.root / mutant.file
    text = path.read_text(encoding="utf-8")
    assert text.count(mutant.text) == 1, mutant
    path.write_text(text.replace(mutant.text, mutant.weakened), encoding="utf-8")
    with copy.compiled_with(path) if mutant.file.startswith("cdefs/") else contextlib.nullcontext(True) as compiles:
        try:
            if not compiles:
                print(f"NO C     {mutant.name}")
                return False
            passed, said = copy.test(mutant.test.partition("::")[0] if find else mutant.test)
        finally:
            path.write_text(text, encoding="utf-8")
    first = next((line for line in said.splitlines() if line.startswith("FAILED")), "")
    print(f"{'SURVIVES' if passed else 'caught  '} {mutant.name}{'  ' + first if find else ''}", flush=True)
    return not passed


def main() -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-k", default="", metavar="PART", help="only mutants whose name holds PART")
    parser.add_argument("--slice", default="1/1", metavar="I/N", help="the I-th of N parts of them")
    parser.add_argument("--find", action="store_true", help="say which test of the file notices first")
    args = parser.parse_args()
    part, parts = map(int, args.slice.split("/"))
    chosen = [mutant for mutant in MUTANTS if args.k in mutant.name][part - 1 :: parts]
    if not chosen:
        parser.error(f"no mutant's name holds {args.k!r}")
    with tempfile.TemporaryDirectory(prefix="auditns-mutate-") as folder:
        copy = Copy(folder)
        if any(mutant.file.startswith("cdefs/") for mutant in chosen) and not copy.compile(None):
            return 1
        if not args.find:
            passed, said = copy.test(*dict.fromkeys(mutant.test for mutant in chosen), hangs=False)
            if not passed:
                print(said, "a test fails already, without any mutant", sep="\n")
                return 1
        surviving = [mutant.name for mutant in chosen if not caught(copy, mutant, find=args.find)]
    print(f"{len(chosen) - len(surviving)} of {len(chosen)} caught")
    return 1 if surviving else 0


if __name__ == "__main__":
    sys.exit(main())
