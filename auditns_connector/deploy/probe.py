"""Find out what this host allows: the probing behind ``auditns doctor``. Nothing is changed; the probes are the
real sources, opened small and closed at once."""

import os
import shlex
import stat

from auditns_connector.auditrules.hints import boot_tool
from auditns_connector.auditrules.netlink import AuditControl
from auditns_connector.deploy.bundle import packaged
from auditns_connector.deploy.doctor import PLUGIN_CONF, Host, Plugin
from auditns_connector.errors import AuditnsError, ConfigError
from auditns_connector.sources.initns import in_initial

#: auditd 3.0.9 wants at least these bits, auditd 4 no write permission beyond the owner's
_EXECUTABLE_BITS = 0o750
#: seconds that a plugin may take to read its configuration
_PATIENCE = 20.0


def gather(*, proc: str = "/proc", plugin_conf: str = PLUGIN_CONF) -> Host:
    """Look at this host."""
    host = Host(
        euid=os.geteuid(),
        capabilities=_capabilities(proc),
        kernel=os.uname().release,
        cmdline=_text(f"{proc}/cmdline"),
        boot_tool=boot_tool(),
        initial={name: in_initial(name, proc) for name in ("user", "pid", "net")},
        proc_readable=_readable(f"{proc}/1/ns/net"),
        selinux={"1": "enforcing", "0": "permissive"}.get(_text("/sys/fs/selinux/enforce").strip(), ""),
        plugin=look_at_plugin(plugin_conf),
    )
    _probe_connector(host)
    _probe_perf(host)
    _probe_ids(host)
    _probe_audit(host)
    host.peer_pidfd = _peer_pidfd()
    return host


def _peer_pidfd() -> bool:
    """Whether a socket tells the very process behind it."""
    import socket

    from auditns_connector.control.peer import SO_PEERPIDFD

    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        try:
            os.close(one.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD))
        except OSError:
            return False
    return True


def _capabilities(proc: str) -> int:
    for line in _text(f"{proc}/self/status").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""  # what is not there has nothing to say


def _readable(path: str) -> bool:
    try:
        os.stat(path)
    except OSError:
        return False
    return True


def _probe_connector(host: Host) -> None:
    from auditns_connector.sources.connector import probe_nm

    try:
        host.nm = probe_nm()
    except (AuditnsError, OSError) as error:
        host.connector_error = str(error)


def _probe_perf(host: Host) -> None:
    from auditns_connector.sources.perf import PerfSource

    try:
        with PerfSource(pages=16) as source:
            host.perf_features, host.perf_notices = source.features, list(source.notices)
    except (AuditnsError, OSError) as error:
        host.perf_error = str(error)


def _probe_ids(host: Host) -> None:
    from auditns_connector.sources.nsid import NsIds

    found = NsIds().ns_id(os.getpid(), "net")
    host.ns_id = found is not None and found.id != 0


def _probe_audit(host: Host) -> None:
    from auditns_connector.sources.readlog import ReadlogSource

    try:
        with AuditControl() as control:
            host.audit = control.status()
            host.rules = control.list_rules()
    except AuditnsError as error:
        host.audit_error = str(error)
    try:
        with ReadlogSource() as source:
            host.readlog_error = source.notices[-1] if source.silent else ""
    except AuditnsError as error:
        host.readlog_error = str(error)


def look_at_plugin(conf: str) -> Plugin:
    """The installation as auditd will see it: ``conf`` is the plugin's file in plugins.d."""
    plugin = Plugin(conf=conf, package=packaged())
    try:
        about = os.lstat(conf)
    except OSError:
        return plugin
    plugin.installed = True
    settings = {}
    for line in _text(conf).splitlines():
        name, equals, value = line.partition("=")
        if equals and not name.lstrip().startswith("#"):
            settings[name.strip().lower()] = value.strip()
    plugin.active = settings.get("active", "").lower() == "yes"
    plugin.executable = settings.get("path", "")
    if not stat.S_ISREG(about.st_mode) or about.st_uid != 0 or about.st_mode & stat.S_IWOTH:
        plugin.trouble = f"{conf} must be a regular file of root's that others cannot write"
    else:
        plugin.trouble = _executable_trouble(plugin.executable)
        if not plugin.trouble:
            plugin.trouble, plugin.remedy = _start_trouble(plugin.executable, settings)
    return plugin


def _start_trouble(path: str, settings: dict[str, str]) -> tuple[str, str]:
    """Why the plugin would not start, and what mends it where installing it again would not: it is run as auditd runs
    it, with its arguments, to check its configuration."""
    import subprocess

    command = [path, *settings.get("args", "").split(), "--check-config"]
    try:
        done = subprocess.run(
            command, env={}, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"{path} cannot be run: {getattr(error, 'strerror', '') or error}", ""
    if done.returncode == 0:
        return "", ""
    lines = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
    said = lines[-1] if lines else f"it ended with {done.returncode}"
    # a configuration stays as it is when its program is installed again; an interpreter, too, ends with 2
    its = done.returncode == ConfigError.exit_code and said.startswith(f"{os.path.basename(path)}: ")
    return f"{path} does not start: {said}", f"correct that, then: {shlex.join(command)}" if its else ""


def _executable_trouble(path: str) -> str:
    try:
        about = os.lstat(path)
    except OSError as error:
        return f"its path {path!r}: {error.strerror}"
    if not stat.S_ISREG(about.st_mode):
        return f"{path} is not a regular file (auditd follows no link)"
    if about.st_uid != 0:
        return f"{path} does not belong to root"
    if about.st_mode & _EXECUTABLE_BITS != _EXECUTABLE_BITS:
        return f"{path} needs at least mode 0750"
    if about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"{path} can be written by others (auditd 4 refuses that)"
    return ""
