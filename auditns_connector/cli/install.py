"""``auditns install-plugin``: put the auditd plugin where auditd finds it, or take it away."""

import argparse

from auditns_connector.cli.subparsers import Subparsers
from auditns_connector.daemon.terminal import complain


def add_parser(subparsers: Subparsers, name: str, text: str) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        name, help=text,
        description="Put audisp-auditns, its configuration and a copy of this program where auditd finds them: "
        "/etc/audit/plugins.d/auditns.conf, /etc/audit/auditns.toml, /usr/sbin/audisp-auditns and "
        "/usr/lib/auditns-connector. An edited configuration is never overwritten.",
        epilog="Example: auditns install-plugin --dry-run",
    )  # fmt: skip
    parser.add_argument("--uninstall", action="store_true", help="remove what was installed and not changed since")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    parser.add_argument(
        "--prefix", default="/", metavar="DIR", help="install below DIR, for a trial with auditd -c DIR/etc/audit"
    )
    parser.add_argument("--force", action="store_true", help="replace files that are not ours; never auditns.toml")


def run(args: argparse.Namespace) -> int:
    """Run the command: actions on stdout, advice on stderr."""
    from auditns_connector.deploy.install import install, uninstall

    if args.uninstall:
        hints = uninstall(args.prefix, dry_run=args.dry_run)
    else:
        hints = install(args.prefix, dry_run=args.dry_run, force=args.force)
    for hint in hints:
        complain(f"auditns: {hint}")
    return 0
