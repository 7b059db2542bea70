"""The launcher of the deb and rpm packages: started by any Python, from a private folder."""

import subprocess
import sys
from pathlib import Path

import pytest

from auditns_connector import __version__
from auditns_connector.deploy import bundle, install
from auditns_connector.errors import NotSupportedError

TOP = Path(__file__).parents[2]
START = TOP / "packaging/start.py"


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """start.py in this interpreter as the launcher calls it, with ``code`` run before."""
    program = f"import sys\nsys.argv = [{str(START)!r}, *{list(arguments)!r}]\n{code}\n"
    program += f"exec(compile(open({str(START)!r}).read(), {str(START)!r}, 'exec'), {{'__file__': {str(START)!r}}})\n"
    return subprocess.run([sys.executable, "-ISB", "-c", program], capture_output=True, text=True)


def test_too_old_a_python_says_so_in_one_line() -> None:
    done = run(
        "sys.version_info = (3, 9, 2)\nimport os\nos.listdir = lambda folder: ['python3', 'python3.9', 'python3-x']"
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("auditns: Python 3.11 or later is needed; ")
    assert done.stderr.endswith(" is 3.9\n")


def test_too_old_a_python_hands_over_to_the_newest() -> None:
    code = "sys.version_info = (3, 9, 2)\nimport os\n"
    code += "os.listdir = lambda folder: ['python3.11', 'python3.12', 'python3.12-config', 'python3.9']\n"
    code += "os.execv = lambda path, argv: sys.exit(repr((path, argv[2:])))"
    done = run(code, "auditns", "--version")
    assert done.stderr.strip() == repr(("/usr/local/bin/python3.12", ["auditns", "--version"])).replace(
        "[", f"[{str(START)!r}, "
    )


def test_a_missing_module_is_named(tmp_path: Path) -> None:
    done = run(
        "sys.path[:] = [p for p in sys.path if 'site-packages' not in p]\nimport os\nos.path.isdir = lambda p: False",
        "auditns",
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "has no module" in done.stderr
    assert "pyroute2" in done.stderr


@pytest.mark.parametrize("program", ["auditns", "audisp-auditns"])
def test_the_program_runs(program: str) -> None:
    import structlog

    folder = str(Path(structlog.__file__).parents[1])
    done = run(f"sys.path.extend([{str(TOP)!r}, {folder!r}])", program, "--version")
    # beside start.py there is no package in a source tree: the path that was added has it
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{program} {__version__}\n", "")


def test_every_module_it_asks_for_is_what_the_bundle_knows() -> None:
    names = {}
    exec(START.read_text().split("\n\n\ndef later")[0], {"__file__": str(START)}, names)
    assert set(names["NEEDED"]) == {bundle.BACKEND, *bundle.THIRD_PARTY}
    assert names["MINIMUM"] == bundle.MINIMUM


def test_a_package_is_not_installed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "package").write_text("deb\n")
    monkeypatch.setattr(bundle, "PACKAGED", tmp_path / "package")
    with pytest.raises(NotSupportedError, match=r"deb package auditns-connector: it is switched on"):
        install.install(str(tmp_path))
    with pytest.raises(NotSupportedError, match="remove it with that package"):
        install.uninstall(str(tmp_path))


def test_versions_agree() -> None:
    assert f"({__version__})" in (TOP / "packaging/debian/changelog").read_text().splitlines()[0]
    assert f"\nVersion:        {__version__}\n" in (TOP / "packaging/auditns-connector.spec").read_text()
