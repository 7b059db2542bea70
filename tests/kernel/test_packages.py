"""The deb in fresh roots of Debian: installed, started, upgraded, removed and purged; and what the rpm holds.

The packages are built here once. One root is made in CI, of the release with another Python than the one that the
extension was built with; the others are made nightly. Needs mmdebstrap and a mirror.
"""

import contextlib
import http
import http.client
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.support import need, need_root, need_tool

TOP = Path(__file__).parents[2]
DEMO = TOP / "tests/golden/demo"
FILE_OF_0_1_0 = TOP / "tests/reference/auditns-0.1.0.toml"
RELEASES = [
    pytest.param("bookworm", marks=pytest.mark.nightly),
    "trixie",
    pytest.param("noble", marks=pytest.mark.nightly),
]
#: Debian has not the key of Ubuntu's archive
UBUNTU = {"noble": "deb [trusted=yes] http://archive.ubuntu.com/ubuntu noble main universe"}
pytestmark = [pytest.mark.kernel, pytest.mark.slow]


def run_checked(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def built(kind: str) -> Path:
    """The package; made by ``make deb`` and ``make rpm`` where nobody has."""
    folder = Path(os.environ.get("AUDITNS_PACKAGES") or TOP / "dist")
    found = [path for path in sorted(folder.glob(f"auditns-connector[-_]0*.{kind}")) if "dbgsym" not in path.name]
    if not found:
        need_tool("dpkg-buildpackage" if kind == "deb" else "rpmbuild")
        run_checked("make", "--no-print-directory", "-C", str(TOP), kind)
        found = [path for path in sorted(folder.glob(f"auditns-connector[-_]0*.{kind}")) if "dbgsym" not in path.name]
    return found[-1]


class Root:
    """A root file system, entered by chroot; /proc and /sys are the host's."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
        return subprocess.run(
            ["chroot", str(self.path), *command],
            env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def must(self, *command: str) -> str:
        done = self.run(*command)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def at(self, path: str) -> Path:
        return self.path / path.lstrip("/")


@contextlib.contextmanager
def fresh(release: str, folder: Path, packages: tuple[str, ...] = ("python3", "apt")) -> Iterator[Root]:
    need_root()
    need_tool("mmdebstrap")
    root = Root(folder / release)
    source = [UBUNTU[release]] if release in UBUNTU else []
    if source:
        with contextlib.closing(http.client.HTTPConnection("archive.ubuntu.com", timeout=30)) as mirror:
            try:
                mirror.request("HEAD", f"/ubuntu/dists/{release}/Release")
                there = mirror.getresponse().status == http.HTTPStatus.OK
            except OSError:
                there = False
        need(there, f"a mirror of {release}")
    run_checked(
        "mmdebstrap",
        "--quiet",
        "--variant=minbase",
        f"--include={','.join(packages)}",
        "--mode=root",
        release,
        str(root.path),
        *source,
    )
    mounts = []
    try:
        for kind, where in (("proc", "/proc"), ("sysfs", "/sys")):
            run_checked("mount", "-t", kind, kind, str(root.at(where)))
            mounts.append(where)
        for path in ("/etc/resolv.conf", *map(str, Path("/etc/apt/apt.conf.d").glob("*"))):
            if os.path.isfile(path):
                shutil.copy(path, root.at(path))
        yield root
    finally:
        for where in reversed(mounts):
            run_checked("umount", "-l", str(root.at(where)))
        shutil.rmtree(root.path)


@contextlib.contextmanager
def read_only(root: Root, path: str) -> Iterator[None]:
    """Nobody can write below ``path`` during the block."""
    place = str(root.at(path))
    run_checked("mount", "--bind", place, place)
    try:
        run_checked("mount", "-o", "remount,ro,bind", place)
        yield
    finally:
        run_checked("umount", "-l", place)  # what dpkg started and did not wait for may still be ending


def install(root: Root, deb: Path) -> None:
    shutil.copy(deb, root.at("/tmp/package.deb"))
    root.must("apt-get", "update", "-qq")
    root.must("apt-get", "install", "-y", "-qq", "--no-install-recommends", "/tmp/package.deb")


def earlier(deb: Path, folder: Path) -> Path:
    """The package as one of an earlier version, whose configuration files were others."""
    tree, made = folder / "earlier", folder / "earlier.deb"
    run_checked("dpkg-deb", "--raw-extract", str(deb), str(tree))
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"(?m)^Version: .*", "Version: 0.1.9", control.read_text()))
    for name in (tree / "DEBIAN/conffiles").read_text().split():
        with open(tree / name.lstrip("/"), "a") as file:
            file.write("# of 0.1.9\n")
    run_checked("dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(made))
    return made


def enriched(root: Root) -> str:
    """The demo recording, answered by the program of the package."""
    for name in ("audit.log", "run.journal"):
        shutil.copy(DEMO / name, root.at(f"/tmp/{name}"))
    return root.must("auditns", "enrich", "--journal", "/tmp/run.journal", "/tmp/audit.log")


@pytest.mark.parametrize("release", RELEASES)
def test_deb_from_installing_to_purging(release: str, tmp_path: Path) -> None:
    deb = built("deb")
    with fresh(release, tmp_path) as root:
        install(root, deb)
        conf, toml = root.at("/etc/audit/plugins.d/auditns.conf"), root.at("/etc/audit/auditns.toml")
        assert "active = no" in conf.read_text()
        assert root.must("audisp-auditns", "--check-config") == "/etc/audit/auditns.toml: good\n"
        assert "plugin            the plugin is installed and switched off" in root.run("auditns", "doctor").stdout
        answered = enriched(root)
        assert " contid=6670987685971877633\n" in answered
        assert (root.at("/usr/share/man/man8/auditns.8.gz")).is_file()
        assert list(root.at("/usr/lib/auditns/auditns_connector/__pycache__").glob("*.pyc"))

        (hook,) = set(re.findall(r'"path": "([^"]*-hook)"', root.must("auditns", "install-hook", "--help")))
        assert hook.startswith("/usr/lib/auditns/")
        assert "nobody serves it" in root.run(hook).stderr
        root.must("auditns", "install-hook")
        written = json.loads(root.at("/usr/share/containers/oci/hooks.d/auditns.json").read_text())
        assert written["hook"]["path"] == hook
        assert '\nexpect = ["crio", "podman"]\n' in toml.read_text()
        root.must("auditns", "install-hook", "--uninstall")

        toml.write_text(toml.read_text() + "\n# mine\n")
        conf.write_text(conf.read_text().replace("active = no", "active = yes"))
        done = root.run("dpkg", "--install", "/tmp/package.deb")  # as an upgrade: edited files stay, nobody is asked
        assert done.returncode == 0, done.stdout + done.stderr
        assert "# mine" in toml.read_text()
        assert "active = yes" in conf.read_text()
        assert (
            "plugin            the plugin is installed: /usr/sbin/audisp-auditns"
            in root.run("auditns", "doctor").stdout
        )

        # neither systemd nor auditd is there; unpacked and not configured yet it runs, and dpkg goes on where it was
        assert not root.at("/usr/bin/systemctl").exists()
        assert not root.at("/usr/sbin/auditd").exists()
        root.must("dpkg", "--unpack", "/tmp/package.deb")
        state = root.must("dpkg-query", "-W", "-f", "${db:Status-Status}", "auditns-connector")
        assert state == "unpacked"
        assert root.must("audisp-auditns", "--check-config") == "/etc/audit/auditns.toml: good\n"
        root.must("dpkg", "--configure", "--pending")
        # a /usr that nobody may write to is none that the programs write to
        with read_only(root, "/usr"):
            assert root.must("audisp-auditns", "--check-config") == "/etc/audit/auditns.toml: good\n"
            assert enriched(root) == answered
            done = root.run("auditns", "install-plugin")
            assert (done.returncode, done.stderr.count("\n")) == (3, 1), done.stderr
            assert "the plugin belongs to the deb package auditns-connector" in done.stderr
            assert root.run("dpkg", "--install", "/tmp/package.deb").returncode != 0
        root.must("dpkg", "--install", "/tmp/package.deb")
        assert enriched(root) == answered
        assert "# mine" in toml.read_text()

        # an interpreter that went away is one line, not a traceback
        root.at("/usr/lib/python3/dist-packages/structlog").rename(root.at("/tmp/structlog"))
        done = root.run("audisp-auditns", "--check-config")
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert "has no module structlog" in done.stderr
        root.at("/tmp/structlog").rename(root.at("/usr/lib/python3/dist-packages/structlog"))

        root.at("/var/lib/auditns").mkdir(exist_ok=True)
        root.must("dpkg", "--remove", "auditns-connector")
        assert not root.at("/usr/sbin/audisp-auditns").exists()
        assert not root.at("/usr/lib/auditns").exists()
        assert conf.exists()
        assert toml.exists()
        root.must("dpkg", "--purge", "auditns-connector")
        assert not conf.exists()
        assert not toml.exists()
        assert not root.at("/var/lib/auditns").exists()

        # what is edited stays over an upgrade that has it otherwise, the rest is the new one
        install(root, earlier(deb, tmp_path))
        assert toml.read_text().endswith("# of 0.1.9\n")
        conf.write_text(conf.read_text().replace("active = no", "active = yes"))
        shutil.copy(deb, root.at("/tmp/package.deb"))
        done = root.run("dpkg", "--install", "/tmp/package.deb")  # nobody is there to ask
        assert (done.returncode, "conffile prompt" in done.stderr) == (1, True), done.stderr
        root.must("dpkg", "--force-confold", "--configure", "--pending")
        assert "active = yes" in conf.read_text()
        assert conf.read_text().endswith("# of 0.1.9\n")
        assert "# of 0.1.9" not in toml.read_text()
        assert root.must("audisp-auditns", "--check-config") == "/etc/audit/auditns.toml: good\n"
        assert enriched(root) == answered
        root.must("dpkg", "--purge", "auditns-connector")
        assert not list(root.at("/etc/audit").rglob("auditns*"))

        # there is no root of Fedora here: the rpm's files run where its dependencies are, in the same places
        unpack(built("rpm"), root.path)
        assert root.at("/usr/lib/auditns/package").read_text() == "rpm\n"
        assert enriched(root) == answered
        assert root.must("audisp-auditns", "--check-config") == "/etc/audit/auditns.toml: good\n"


@pytest.mark.nightly
@pytest.mark.parametrize("release", ["bookworm", "trixie", "noble"])
def test_deb_over_what_install_plugin_put_there(release: str, tmp_path: Path) -> None:
    """Configuration, state and journal stay; the copy of the program that nothing uses any more goes."""
    deb = built("deb")
    with fresh(release, tmp_path) as root:
        root.must("apt-get", "update", "-qq")
        root.must("apt-get", "install", "-y", "-qq", "--no-install-recommends",
                  "python3-cffi-backend", "python3-structlog", "python3-pyroute2")  # fmt: skip
        source = root.at("/opt/source")
        shutil.copytree(
            TOP / "auditns_connector", source / "auditns_connector", ignore=shutil.ignore_patterns("__pycache__")
        )
        shutil.copytree(TOP / "audisp", source / "audisp")
        code = "import sys; sys.path.insert(0, '/opt/source'); sys.argv = ['auditns', 'install-plugin']; "
        code += "from auditns_connector.cli.main import main; sys.exit(main())"
        done = root.run("python3", "-c", code)
        assert (done.returncode, done.stderr.count("\n")) == (3, 1), done.stderr
        assert "auditd is not installed here: apt-get install auditd" in done.stderr
        root.at("/etc/audit/plugins.d").mkdir(parents=True)
        root.must("python3", "-c", code)
        shutil.rmtree(source)
        conf, toml = root.at("/etc/audit/plugins.d/auditns.conf"), root.at("/etc/audit/auditns.toml")
        toml.write_text(FILE_OF_0_1_0.read_text() + "\n# mine\n")
        kept = root.at("/var/log/audit/run.journal"), root.at("/run/auditns/state"), root.at("/var/lib/auditns/x")
        for path in kept:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("mine")
        install(root, deb)
        assert "active = yes" in conf.read_text()
        assert "# mine" in toml.read_text()
        assert [path.read_text() for path in kept] == ["mine"] * 3
        assert not root.at("/usr/lib/auditns-connector").exists()
        assert "exec" in root.at("/usr/sbin/audisp-auditns").read_text()
        assert root.must("audisp-auditns", "--check-config") == "/etc/audit/auditns.toml: good\n"
        assert not list(root.at("/etc/audit").rglob("*.auditns-before"))


@pytest.mark.nightly
@pytest.mark.parametrize("release", ["bookworm", "trixie", "noble"])
def test_first_command_of_the_readme(release: str, tmp_path: Path) -> None:
    """What is missing is named by packages that are there; installed by that line, the rest sets itself up."""
    with fresh(release, tmp_path, packages=("apt", "make", "ca-certificates")) as root:
        root.must("apt-get", "update", "-qq")
        tree = root.at("/root/auditns")
        listed = run_checked("git", "-C", str(TOP), "ls-files", "--cached", "--others", "--exclude-standard").split(
            "\n"
        )
        for name in filter(None, listed):
            if (TOP / name).is_file():
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(TOP / name, tree / name)
        done = root.run("make", "-C", "/root/auditns", "run")
        assert done.returncode == 2
        line = re.search(r"Install it with: sudo (apt-get install -y .*)", done.stderr)
        assert line, done.stderr
        assert line[1].split()[-5:] == ["python3", "python3-venv", "python3-dev", "gcc", "make"]
        root.must(*line[1].replace("install", "install -qq --no-install-recommends").split())
        index = [f"{name}={value}" for name, value in os.environ.items() if name.startswith("PIP_")]
        for path in ("/etc/pip.conf", "/root/.config/pip/pip.conf", "/root/.pip/pip.conf"):
            if os.path.isfile(path):
                root.at(path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, root.at(path))
        bundle = "/etc/ssl/certs/ca-certificates.crt"  # with what this host trusts besides
        if os.path.isfile(bundle):
            shutil.copy(bundle, root.at(bundle))
        # as nobody: the recording; as root it would go on listening
        done = root.run("env", *index, "make", "-C", "/root/auditns", "venv")
        assert done.returncode == 0, done.stdout + done.stderr
        root.must("chmod", "-R", "a+rX", "/root")
        done = root.run("setpriv", "--reuid", "65534", "--clear-groups", "make", "-C", "/root/auditns", "run")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Listening to this host needs root" in done.stderr
        assert " execve cat /etc/shadow " in done.stdout


def test_extension_needs_no_later_libc_than_debian_12_has() -> None:
    library = next((TOP / "auditns_connector").glob("_native*.so"))
    symbols = run_checked("objdump", "-T", str(library))
    wanted = [tuple(map(int, found.split("."))) for found in re.findall(r"GLIBC_([0-9.]+)", symbols)]
    assert wanted
    assert max(wanted) <= (2, 36)


def unpack(rpm: Path, folder: Path) -> None:
    need_tool("rpm2cpio", "cpio")
    with open(rpm, "rb") as file:
        archive = subprocess.run(["rpm2cpio"], stdin=file, capture_output=True, check=True).stdout
    subprocess.run(["cpio", "-idu", "--quiet"], input=archive, cwd=folder, check=True)


def test_rpm_says_what_it_needs() -> None:
    rpm = built("rpm")
    said = run_checked("rpm", "-qp", "--requires", str(rpm))
    assert "python3 >= 3.11" in said
    assert run_checked("rpm", "-qp", "--configfiles", str(rpm)).split() == [
        "/etc/audit/auditns.toml", "/etc/audit/plugins.d/auditns.conf", "/etc/logrotate.d/auditns-connector",
    ]  # fmt: skip


def test_policies_compile(tmp_path: Path) -> None:
    profile = TOP / "packaging/apparmor/usr.sbin.audisp-auditns"
    need_tool("apparmor_parser")
    run_checked("apparmor_parser", "--skip-kernel-load", "--skip-cache", "--quiet", str(profile))
    makefile = Path("/usr/share/selinux/devel/Makefile")
    if not makefile.exists():
        pytest.skip("no development files of SELinux' policy here (selinux-policy-dev)")
    for path in (TOP / "packaging/selinux").iterdir():
        shutil.copy(path, tmp_path)
    run_checked("make", "-C", str(tmp_path), "-f", str(makefile), "auditns.pp")
    assert (tmp_path / "auditns.pp").stat().st_size > 1000
