"""``auditns oci-hook`` and ``auditns install-hook``: registration by container runtimes."""

import argparse
import os
import sys
from textwrap import indent

from auditns_connector.cli.arguments import whole
from auditns_connector.cli.options import runtimes
from auditns_connector.cli.subparsers import Subparsers
from auditns_connector.registration.hook_program import HOOK_PROGRAM, TIMEOUT, become
from auditns_connector.state.paths import CONTROL

#: what docker calls in place of runc
WRAPPER = """\
#!PYTHON
import json, os, sys
HOOK = {"path": "PROGRAM", "args": ["auditns-oci-hook"]}
if "--bundle" in sys.argv:
    with open(sys.argv[sys.argv.index("--bundle") + 1] + "/config.json", "r+") as file:
        config = json.load(file)
        for stage in ("createRuntime", "poststop"):
            config.setdefault("hooks", {}).setdefault(stage, []).append(HOOK)
        file.seek(0)
        json.dump(config, file)
        file.truncate()
os.execvp("runc", ["runc", *sys.argv[1:]])
"""
SNIPPETS = """\
Podman, CRI-O: auditns install-hook
runc, crun: in the bundle's config.json, or in the base specification of what makes it:
  "hooks": {"createRuntime": [{"path": "PROGRAM", "args": ["auditns-oci-hook"]}],
            "poststop": [{"path": "PROGRAM", "args": ["auditns-oci-hook"]}]}
containerd: ctr oci spec > /etc/containerd/auditns.json, add the hooks above to it, and in config.toml
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    base_runtime_spec = "/etc/containerd/auditns.json"
  or use the NRI plugin hook-injector, which reads the same hooks.d folders as Podman
Docker: it takes no hooks of its own, but a runtime that adds them; in /etc/docker/daemon.json
  {"runtimes": {"auditns": {"path": "/usr/local/sbin/auditns-runc"}}, "default-runtime": "auditns"}
  and as /usr/local/sbin/auditns-runc, executable:
WRAPPER\
[hook] expect of auditns.toml takes the names of runtimes that have got it: missing registrations are then told.
Without a hook all of these are known by their cgroup paths, but for containers of plain runc and crun.
"""


def snippets(program: str = HOOK_PROGRAM) -> str:
    """What to write for runtimes that read no hooks.d, with ``program`` as the hook."""
    python = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable
    shown = WRAPPER.replace("PYTHON", python)
    return SNIPPETS.replace("WRAPPER", indent(shown, "    ")).replace("PROGRAM", program)


def add_parser(subparsers: Subparsers, name: str, text: str) -> None:
    """Add one of the two commands."""
    if name == "install-hook":
        from auditns_connector.config.options import DEFAULT_PATH

        parser = subparsers.add_parser(
            name, help=text, formatter_class=argparse.RawDescriptionHelpFormatter,
            description="Write the hooks.d file that makes Podman and CRI-O call auditns oci-hook, and have the plugin "
            "expect it of them.",
            epilog=snippets().replace("%", "%%"),
        )  # fmt: skip
        parser.add_argument("--dir", metavar="DIR", default="/usr/share/containers/oci/hooks.d",
                            help="the hooks folder (default: %(default)s, which both read)")  # fmt: skip
        parser.add_argument("--program", metavar="FILE", help="the hook program (default: this installation's)")
        parser.add_argument("--strict", action="store_true", help="containers that cannot be registered do not start")
        parser.add_argument("--control", metavar="PATH", help="control socket, where it is not the default")
        parser.add_argument(
            "--expect", type=runtimes, metavar="RUNTIME[,RUNTIME…]", default=("podman", "crio"),
            help="have the plugin tell of containers of these runtimes that are not registered: they are put into "
            "[hook] expect of its configuration (default: podman,crio; none: it stays as it is)",
        )  # fmt: skip
        parser.add_argument("--config", metavar="FILE", default=DEFAULT_PATH, help="that file (default: %(default)s)")
        parser.add_argument("--uninstall", action="store_true", help="take all of it away again")
        return
    parser = subparsers.add_parser(
        name, help=text,
        description="Called by a container runtime as createRuntime (or prestart) and poststop hook, with the "
        "container's state on stdin. Registers the container with the first 16 hex digits of its id. Whatever goes "
        "wrong is a warning on stderr and exit code 0: a container's start is never broken.",
        epilog="auditns install-hook installs it for Podman and CRI-O.",
    )  # fmt: skip
    parser.add_argument("--strict", action="store_true", help="exit 1 instead, so that the runtime refuses the start")
    parser.add_argument(
        "--timeout", type=whole(1, 600_000, "number of milliseconds"), default=TIMEOUT, metavar="MS",
        help="give up MS ms after its own start (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--control", default=CONTROL, metavar="PATH", help="control socket (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    if args.command == "oci-hook":
        strict = ["--strict"] if args.strict else []
        become([*strict, f"--timeout={args.timeout}", f"--control={args.control}"])
    from auditns_connector.daemon.terminal import show
    from auditns_connector.registration.hooks_d import install, uninstall

    if args.uninstall:
        uninstall(args.dir)
    else:
        show(str(install(args.dir, program=args.program, strict=args.strict, control=args.control)))
    _expect(args)
    return 0


def _expect(args: argparse.Namespace) -> None:
    """Have the configuration say what is expected, where a plugin reads one."""
    from auditns_connector.daemon.terminal import complain
    from auditns_connector.registration.expect_file import expect

    if not args.expect:
        return
    if not os.path.isdir(os.path.dirname(os.path.abspath(args.config))):
        words = ",".join(args.expect)
        complain(f"auditns: no auditd is configured here; a listener is told by auditns listen --expect {words}")
    elif expect(args.config, args.expect, more=not args.uninstall):
        complain(f"auditns: {args.config}: [hook] expect is changed; a running plugin reads it on SIGHUP")
