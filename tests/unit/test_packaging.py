"""What is built and shipped: one abi3 wheel with both extensions, and a source distribution it can be built from."""

import configparser
import email
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXTENSIONS = ("auditns_connector/_native.abi3.so",)
USE = (
    "from auditns_connector import _native\n"
    "from auditns_connector.vocabulary import frames\n"
    "from auditns_connector.sources.cpus import online_cpus\n"
    "import auditns_connector, sys\n"
    "block = bytearray(frames.pack(1, 1, 2) + frames.pack(1, 1, 1))\n"
    "assert _native.lib.frames_sort(_native.ffi.from_buffer(block), len(block)) == 0\n"
    "assert [frame.time for frame in frames.iter_frames(block)] == [1, 2]\n"
    "assert _native.lib is not None and online_cpus()\n"
    "assert auditns_connector.__file__.startswith(sys.prefix), auditns_connector.__file__\n"
    "print(auditns_connector.__version__)\n"
)


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def sources() -> list[Path]:
    """The files a build depends on, as git or a source distribution has them."""
    places = [ROOT / name for name in ("setup.py", "setup.cfg", "pyproject.toml", "MANIFEST.in", "LICENSE")]
    for folder, pattern in (("cdefs", "*"), ("auditns_connector", "**/*.py"), ("audisp", "*"), ("man", "*")):
        places += sorted(path for path in (ROOT / folder).glob(pattern) if path.is_file())
    return places


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with sdist and wheel; kept under .pytest_cache until a source file changes."""
    digest = hashlib.blake2b(sys.version.encode(), digest_size=12)
    for path in sources():
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    place = ROOT / ".pytest_cache" / "packaging" / digest.hexdigest()
    if not place.exists():
        work = tmp_path_factory.mktemp("build")
        code = "import setuptools.build_meta as b; b.build_sdist(OUT)".replace("OUT", repr(str(work)))
        # in this interpreter's environment, so that nothing is downloaded: the test extra has setuptools
        run(sys.executable, "-c", code, cwd=ROOT)
        (sdist,) = work.glob("*.tar.gz")
        shutil.unpack_archive(sdist, work / "tree")
        (tree,) = (work / "tree").iterdir()
        run(sys.executable, "-c", code.replace("sdist", "wheel"), cwd=tree)
        place.parent.mkdir(parents=True, exist_ok=True)
        staged = work / "done"
        staged.mkdir()
        for path in work.glob("*.*"):
            path.rename(staged / path.name)
        run("cp", "-r", staged, place, cwd=work)
    return place


def wheel_of(built: Path) -> Path:
    (wheel,) = built.glob("*.whl")
    return wheel


def test_there_is_one_wheel_for_every_python_from_3_11(built: Path) -> None:
    name = wheel_of(built).name
    assert "-cp311-abi3-" in name, name
    with zipfile.ZipFile(wheel_of(built)) as archive:
        wheel = next(item for item in archive.namelist() if item.endswith(".dist-info/WHEEL"))
        assert email.message_from_bytes(archive.read(wheel))["Root-Is-Purelib"] == "false"


def test_the_wheel_holds_extensions_data_and_entry_points(built: Path) -> None:
    with zipfile.ZipFile(wheel_of(built)) as archive:
        names = set(archive.namelist())
        entry_points = next(item for item in names if item.endswith("entry_points.txt"))
        scripts = configparser.ConfigParser()
        scripts.read_string(archive.read(entry_points).decode())
        metadata = email.message_from_bytes(
            archive.read(next(item for item in names if item.endswith(".dist-info/METADATA")))
        )
    assert names >= {*EXTENSIONS, "auditns_connector/py.typed"}
    shipped = {name.split("/data/share/", 1)[1] for name in names if "/data/share/" in name}
    for folder, where in (("audisp", "auditns/audisp"), ("audisp/metrics", "auditns/metrics"), ("man", "man")):
        for path in filter(Path.is_file, (ROOT / folder).glob("*")):
            section = f"man{path.suffix[1:]}/" if folder == "man" else ""
            assert (f"{where}/{section}{path.name}") in shipped
    assert set(scripts["console_scripts"]) == {"auditns", "audisp-auditns"}
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert not [name for name in names if name.endswith((".c", ".h")) or name.startswith("tests/")]


def test_the_sdist_holds_all_that_a_build_needs(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    wanted = {str(path.relative_to(ROOT)) for path in sources()}
    assert wanted <= names
    assert {"tests/unit/test_packaging.py", ".ci/run", "Makefile", "CHANGELOG.md"} <= names
    assert not [name for name in names if name.endswith(".so")]


def test_the_wheel_installs_and_runs(built: Path, tmp_path: Path) -> None:
    home = tmp_path / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    (site,) = (home / "lib").glob("python3*/site-packages")
    # pip of this environment installs into the other one; what we depend on is lent, so that nothing is downloaded
    run(
        sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--prefix", str(home),
        "--ignore-installed", str(wheel_of(built)), cwd=tmp_path,
    )  # fmt: skip
    lent = {
        str(Path(module.__file__ or "").resolve().parent.parent) for module in map(__import__, ("cffi", "structlog"))
    }
    (site / "lent.pth").write_text("".join(f"{path}\n" for path in sorted(lent)))
    version = run(home / "bin" / "python", "-I", "-c", USE, cwd=tmp_path).strip()
    assert version in wheel_of(built).name
    for script in ("auditns", "audisp-auditns"):
        assert os.access(home / "bin" / script, os.X_OK)
        assert "usage" in run(home / "bin" / script, "--help", cwd=tmp_path)
    # the hook that is printed is this installation's own, and a program
    printed = run(
        home / "bin" / "python", "-I", "-m", "auditns_connector.cli.main", "install-hook", "--help", cwd=tmp_path
    )
    hooks = {path for path in re.findall(r'"path": "([^"]*)"', printed) if path.endswith("-hook")}
    assert hooks == {f"{site.resolve()}/auditns_connector/libexec/auditns-oci-hook"}
    assert run(*hooks, "--control", tmp_path / "none", cwd=tmp_path) == ""
