"""install-plugin below a prefix: what is put down works on its own, and nothing of others is touched."""

import ast
import contextlib
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from auditns_connector.cli import main as cli
from auditns_connector.cli.query_options import SERVICE_LOG
from auditns_connector.deploy import bundle, install
from auditns_connector.errors import AuditnsError, NotPermittedError, NotSupportedError

ROOT = Path(__file__).parents[2]


class Tree:
    """An installation below a temporary prefix, and what was said about it."""

    def __init__(self, prefix: Path) -> None:
        self.prefix = prefix
        self.said: list[str] = []
        self.launcher = prefix / "usr/sbin/audisp-auditns"
        self.toml = prefix / "etc/audit/auditns.toml"
        self.conf = prefix / "etc/audit/plugins.d/auditns.conf"
        self.home = prefix / "usr/lib/auditns-connector"
        self.errors = self.home / "lib/auditns_connector/errors.py"

    def install(self, *, dry_run: bool = False, force: bool = False) -> list[str]:
        self.said.clear()
        return install.install(str(self.prefix), dry_run=dry_run, force=force, say=self.said.append)

    def uninstall(self, *, dry_run: bool = False) -> list[str]:
        self.said.clear()
        return install.uninstall(str(self.prefix), dry_run=dry_run, say=self.said.append)

    def snapshot(self) -> dict[str, tuple[int, int, bytes]]:
        """Every path below the prefix with inode, mode and content."""
        found = {}
        for path in sorted(self.prefix.rglob("*")):
            info = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(info.st_mode) else b""
            found[str(path.relative_to(self.prefix))] = (info.st_ino, info.st_mode, content)
        return found


@pytest.fixture(scope="session")
def copy() -> Iterator[bundle.Bundle]:
    """A copy of the package made once, because that takes seconds."""
    with bundle.staged(f"{install.LIB}/lib") as made:
        yield made


@pytest.fixture
def tree(tmp_path: Path, copy: bundle.Bundle, monkeypatch: pytest.MonkeyPatch) -> Tree:
    """What is put down is the one copy."""
    monkeypatch.setattr(bundle, "staged", lambda final: contextlib.nullcontext(copy))
    return Tree(tmp_path / "prefix")


@pytest.fixture
def fresh(tmp_path: Path) -> Tree:
    """Every installation makes its own copy."""
    return Tree(tmp_path / "prefix")


def test_what_is_put_down(tree: Tree) -> None:
    hints = tree.install()
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (tree.launcher, tree.toml, tree.conf, tree.errors)}
    assert modes == {tree.launcher: 0o750, tree.toml: 0o640, tree.conf: 0o640, tree.errors: 0o644}
    assert not tree.launcher.is_symlink()
    assert tree.toml.read_bytes() == (ROOT / "audisp/auditns.toml").read_bytes()
    conf = dict(re.findall(r"^(\w+) = (.*)$", tree.conf.read_text(), re.M))
    assert conf == {
        "active": "yes",
        "direction": "out",
        "path": str(tree.launcher),
        "args": f"--config {tree.toml}",
        "type": "always",
        "format": "string",
    }
    assert [hint for hint in hints if "--check-config" in hint]
    assert tree.said[0].startswith("use /")
    manifest = json.loads((tree.home / "manifest.json").read_text())
    files = {str(path) for path in tree.prefix.rglob("*") if path.is_file()}
    assert set(manifest["files"]) == files - {str(tree.home / "manifest.json")}


def test_the_executable_needs_nothing_else(fresh: Tree) -> None:
    """Empty environment, another directory, no site-packages: --check-config and an import of everything."""
    tree = fresh
    tree.install()
    before = tree.snapshot()
    if os.geteuid() == 0:
        done = subprocess.run([tree.launcher, "--check-config", "--config", tree.toml], env={}, cwd="/", text=True,
                              capture_output=True)  # fmt: skip
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{tree.toml}: good\n", "")
    interpreter = tree.launcher.read_text().split()[0][2:]
    modules = [*bundle.package_modules(), *bundle.THIRD_PARTY]
    assert bundle.check(interpreter, tree.home / "lib", modules) == ""
    assert "auditns_connector.cli.plugin" in modules
    assert not interpreter.startswith(bundle.PRIVATE)
    assert tree.snapshot() == before


def test_again_changes_nothing(tree: Tree) -> None:
    tree.install()
    before = tree.snapshot()
    tree.install()
    assert tree.said[1:] == ["everything is in place already"]
    assert tree.snapshot() == before


def test_dry_run_changes_nothing_and_tells_everything(tree: Tree) -> None:
    tree.install(dry_run=True)
    told = list(tree.said)
    assert not tree.prefix.exists()
    tree.install()
    assert told == tree.said
    assert len(told) < 25  # for people to read: the copy of the package is a line, not a thousand
    files = sum(path.is_file() for path in (tree.home / "lib").rglob("*"))
    assert f"write {files} files below {tree.home}/lib (0644)" in told
    before = tree.snapshot()
    tree.uninstall(dry_run=True)
    removed = [line for line in tree.said if line.startswith("remove ") and "if empty" not in line]
    assert tree.snapshot() == before
    tree.uninstall()
    assert set(removed) <= set(tree.said)


def test_uninstall_leaves_nothing(tree: Tree) -> None:
    tree.install()
    tree.uninstall()
    assert not tree.prefix.exists()
    assert tree.uninstall() == [f"nothing is installed below {tree.prefix}"]


def test_uninstall_leaves_what_others_have_put_there_or_edited(tree: Tree) -> None:
    tree.install()
    (tree.prefix / "etc/audit/plugins.d/other.conf").write_text("active = no\n")
    (tree.home / "notes").write_text("mine")
    tree.toml.write_text("info = true\n")
    hints = tree.uninstall()
    left = {str(path.relative_to(tree.prefix)) for path in tree.prefix.rglob("*") if path.is_file()}
    assert left == {"etc/audit/plugins.d/other.conf", "etc/audit/auditns.toml", "usr/lib/auditns-connector/notes"}
    assert f"{tree.toml} was changed and stays" in hints


def test_edited_configuration_is_never_overwritten(tree: Tree) -> None:
    tree.install()
    tree.toml.write_text("info = true\n")
    tree.conf.write_text(tree.conf.read_text().replace("active = yes", "active = no"))
    hints = tree.install()
    assert tree.toml.read_text() == "info = true\n"
    assert "active = no" in tree.conf.read_text()
    assert hints[:2] == [f"{tree.toml} was edited and stays as it is", f"{tree.conf} was edited and stays as it is"]
    tree.install(force=True)
    assert tree.toml.read_text() == "info = true\n"
    assert "active = yes" in tree.conf.read_text()


def test_configuration_that_was_there_before_us_stays(tree: Tree) -> None:
    tree.toml.parent.mkdir(parents=True)
    tree.toml.write_text("ns = 'all'\n")
    hints = tree.install()
    assert tree.toml.read_text() == "ns = 'all'\n"
    assert hints[0] == f"{tree.toml} was edited and stays as it is"
    tree.uninstall()
    assert tree.toml.read_text() == "ns = 'all'\n"


@pytest.mark.parametrize("what", ["file", "symlink", "directory"])
def test_an_executable_of_others_is_not_replaced(tree: Tree, tmp_path: Path, what: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    tree.launcher.parent.mkdir(parents=True)
    if what == "file":
        tree.launcher.write_text("another's")
    elif what == "symlink":
        tree.launcher.symlink_to(victim)
    else:
        tree.launcher.mkdir()
    before = tree.snapshot()
    with pytest.raises(AuditnsError, match="--force replaces it"):
        tree.install()
    assert tree.snapshot() == before
    if what == "directory":
        return
    tree.install(force=True)
    assert tree.launcher.read_text().startswith("#!/")
    assert not tree.launcher.is_symlink()
    assert victim.read_text() == "precious"


def test_update_replaces_ours_removes_obsolete_and_makes_auditd_restart_it(tree: Tree) -> None:
    tree.install()
    manifest_path = tree.home / "manifest.json"
    manifest = json.loads(manifest_path.read_text())
    inode = tree.launcher.stat().st_ino
    tree.errors.write_text("# of the former version\n")
    gone, edited = tree.home / "lib/gone.py", tree.home / "lib/edited.py"
    gone.write_text("old")
    edited.write_text("edited")
    manifest["files"] |= {
        str(tree.errors): install.digest(b"# of the former version\n"),
        str(gone): install.digest(b"old"),
        str(edited): install.digest(b"not so"),
    }
    manifest_path.write_text(json.dumps(manifest))
    hints = tree.install()
    assert tree.errors.read_bytes() == Path(bundle.PACKAGE / "errors.py").read_bytes()
    assert tree.launcher.stat().st_ino != inode, "auditd restarts a plugin only when its file is another one"
    assert not gone.exists()
    assert edited.read_text() == "edited"
    assert hints
    tree.install()
    assert tree.said[1:] == ["everything is in place already"]


def test_wrong_mode_is_mended(tree: Tree) -> None:
    tree.install()
    tree.launcher.chmod(0o700)
    tree.install()
    assert stat.S_IMODE(tree.launcher.stat().st_mode) == 0o750


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 2, "files": {}, "directories": []}', "\xff"])
def test_a_manifest_that_is_none(tree: Tree, text: str) -> None:
    tree.home.mkdir(parents=True)
    (tree.home / "manifest.json").write_text(text)
    with pytest.raises(AuditnsError, match="not a manifest of this program"):
        tree.install()
    with pytest.raises(AuditnsError, match="not a manifest of this program"):
        tree.uninstall()


def test_plugin_directory_is_the_one_of_auditd_conf(tree: Tree) -> None:
    elsewhere = tree.prefix / "elsewhere"
    elsewhere.mkdir(parents=True)
    tree.conf.parent.mkdir(parents=True)
    (tree.prefix / "etc/audit/auditd.conf").write_text(f"log_format = RAW\nplugin_dir = {elsewhere}\n")
    tree.install()
    assert (elsewhere / "auditns.conf").exists()
    assert not tree.conf.exists()


def test_failures_name_the_file(tree: Tree) -> None:
    tree.prefix.mkdir()
    (tree.prefix / "usr").write_text("in the way")
    with pytest.raises(AuditnsError, match=f"{tree.prefix}/usr"):
        tree.install()


def test_the_system_itself_needs_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(NotPermittedError, match="needs root"):
        install.install("/")


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes an ordinary user")
def test_a_dry_run_that_may_not_look_says_that_it_needs_root(tmp_path: Path) -> None:
    (tmp_path / "etc/audit").mkdir(parents=True, mode=0o750)
    (tmp_path / "etc/audit/auditns.toml").touch(0o640)
    tmp_path.chmod(0o700)
    item = install.Item(f"{tmp_path}/etc/audit/auditns.toml", b"", 0o640)
    os.seteuid(65534)
    try:
        with pytest.raises(NotPermittedError, match=r"Permission denied: this needs root$"):
            install.Place(str(tmp_path), True, print).put([item], install.Manifest({}, []), False)
    finally:
        os.seteuid(0)


def test_no_usable_interpreter_is_told_with_the_remedy(fresh: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "candidates", list)
    with pytest.raises(NotSupportedError, match=r"none was found.*(apt-get|dnf) install python3") as caught:
        fresh.install()
    assert caught.value.exit_code == 3
    assert not fresh.prefix.exists()


def test_an_interpreter_that_does_not_fit_is_passed_over(
    fresh: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "python3"
    broken.write_text("#!/bin/sh\necho 'ImportError: wrong ABI' >&2\nexit 1\n")
    broken.chmod(0o755)
    good = bundle.candidates()
    monkeypatch.setattr(bundle, "candidates", lambda: [str(broken), *good])
    fresh.install()
    assert not fresh.launcher.read_text().startswith(f"#!{broken}")
    monkeypatch.setattr(bundle, "candidates", lambda: [str(broken)])
    with pytest.raises(NotSupportedError, match=f"{broken}: ImportError: wrong ABI"):
        fresh.install()


def test_what_an_import_takes_from_a_home_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/plain.py").write_text(f"import sys\nsys.path.append({str(tmp_path / 'home')!r})\nimport private\n")
    (tmp_path / "home").mkdir()
    (tmp_path / "home/private.py").write_text("")
    monkeypatch.setattr(bundle, "PRIVATE", (f"{tmp_path}/",))
    interpreter = bundle.candidates()[0]
    assert bundle.check(interpreter, tmp_path / "lib", ["plain"]) == f"it needs {tmp_path}/home/private.py"
    assert bundle.check(interpreter, tmp_path / "lib", ["absent"]).startswith("absent: ModuleNotFoundError")


def test_candidates_are_system_interpreters_each_once() -> None:
    found = bundle.candidates()
    assert found
    assert len(set(found)) == len(found)
    assert all(os.path.realpath(path) == path and not path.startswith(bundle.PRIVATE) for path in found)


def test_everything_imported_is_bundled() -> None:
    """Whoever imports another package in this one adds it to bundle.THIRD_PARTY, or the plugin would lack it."""
    names = set()
    for path in bundle.PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names.add(node.module.partition(".")[0])
    others = names - sys.stdlib_module_names - {bundle.PACKAGE.name}
    assert others == {*bundle.THIRD_PARTY, *bundle.OPTIONAL, *bundle.COMMANDS_ONLY}


def test_shipped_files_are_found_in_an_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "PACKAGE", tmp_path / "site-packages/auditns_connector")
    (tmp_path / "share/auditns/audisp").mkdir(parents=True)
    (tmp_path / "share/auditns/audisp/auditns.toml").write_text("here")
    monkeypatch.setattr(bundle.sysconfig, "get_path", lambda name: str(tmp_path))
    assert bundle.shipped("auditns.toml") == b"here"
    with pytest.raises(AuditnsError, match="nothing is missing from this installation"):
        bundle.shipped("nothing")


def test_missing_extension_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "PACKAGE", tmp_path)
    with pytest.raises(AuditnsError, match="is not built"):
        install.install(str(tmp_path / "prefix"), say=lambda text: None)


def test_command_line(tree: Tree, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prefix = str(tmp_path / "prefix")
    assert cli.run(["install-plugin", "--prefix", prefix, "--dry-run"]) == 0
    printed = capsys.readouterr()
    assert f"write {prefix}/usr/sbin/audisp-auditns (0750)\n" in printed.out
    assert not (tmp_path / "prefix").exists()
    assert cli.run(["install-plugin", "--prefix", prefix]) == 0
    capsys.readouterr()
    assert cli.run(["install-plugin", "--prefix", prefix, "--uninstall"]) == 0
    printed = capsys.readouterr()
    assert f"remove {prefix}/usr/sbin/audisp-auditns\n" in printed.out
    assert printed.err.startswith("auditns: let auditd stop it")


def test_conf_is_what_auditd_accepts() -> None:
    """The limits of auditd 3.0.9: at most two args, known keys and values, one dot in the name."""
    conf = dict(re.findall(r"^(\w+) = (.*)$", (ROOT / "audisp/auditns.conf").read_text(), re.M))
    assert conf == {
        "active": "yes",
        "direction": "out",
        "path": install.LAUNCHER,
        "type": "always",
        "format": "string",
    }


def test_unit_file(tmp_path: Path) -> None:
    import shutil

    text = (ROOT / "audisp/auditns.service").read_text()
    assert "Type=notify" in text
    command = re.search(r"^ExecStart=sh -c 'exec auditns (.*)'$", text, re.M)
    assert command is not None
    args = cli.build_parser("listen").parse_args(command[1].split())
    assert (args.command, args.rules, args.format) == ("listen", True, "raw")
    assert args.output == SERVICE_LOG, "what the log is asked for looks for it there"
    rotated = (ROOT / "audisp/auditns-logrotate.conf").read_text()
    assert f"\n{args.output} {{" in rotated
    assert "copytruncate" not in rotated
    if not shutil.which("systemd-analyze"):
        pytest.skip("needs systemd-analyze")
    unit = tmp_path / "auditns.service"
    unit.write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=30", "--no-pager", unit],
        capture_output=True, text=True,
    )  # fmt: skip
    assert rated.returncode == 0, rated.stdout.splitlines()[-1]


def test_a_plugin_dir_of_the_host_is_taken_as_below_the_prefix(tree: Tree) -> None:
    (tree.prefix / "etc/audit").mkdir(parents=True)
    for named in ("/etc/audit/plug", f"{tree.prefix}/etc/audit/plug", "/etc/audit/sub/../plug/"):
        (tree.prefix / "etc/audit/auditd.conf").write_text(f"plugin_dir = {named}\n")
        tree.install()
        assert (tree.prefix / "etc/audit/plug/auditns.conf").exists()


@pytest.mark.parametrize("link", ["etc/audit", "usr", "usr/lib/auditns-connector"])
def test_no_link_leads_out_of_the_prefix(tree: Tree, tmp_path: Path, link: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tree.prefix / link).parent.mkdir(parents=True, exist_ok=True)
    (tree.prefix / link).symlink_to(outside)
    for action in (tree.install, tree.uninstall):
        with contextlib.suppress(AuditnsError):
            action()
        assert list(outside.iterdir()) == []


def test_a_manifest_removes_nothing_outside_of_the_prefix(tree: Tree, tmp_path: Path) -> None:
    tree.install()
    victim = tmp_path / "victim"
    victim.write_text("x")
    manifest = tree.home / "manifest.json"
    said = json.loads(manifest.read_text())
    said["files"][str(victim)] = install.digest(b"x")
    manifest.write_text(json.dumps(said))
    for action in (tree.install, tree.uninstall):
        with pytest.raises(AuditnsError, match="outside"):
            action()
    assert victim.exists()
