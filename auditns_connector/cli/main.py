"""``auditns``: parse → options → run → one place that prints errors."""

import argparse
import contextlib
import os
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
from typing import Any, Final, NoReturn

from auditns_connector import __version__
from auditns_connector.daemon.terminal import complain
from auditns_connector.errors import AuditnsError, suggestion

#: command -> (module, one line of help); a module is imported only when its command is wanted
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "listen": ("listen", "show this host's audit events with their containers; needs no auditd"),
    "enrich": ("enrich", "read audit text, add the containers, write audit text"),
    "search": ("search", "events of the log by container, time and what was done"),
    "containers": ("containers", "all containers of the log: what they are called, when they were seen, what they did"),
    "show": ("show", "the life of one container: processes, entries, programs, files, network, failures"),
    "diff": ("diff", "what one container did that another one, or those of its image, did not"),
    "report": ("report", "the whole log in a few tables"),
    "status": ("status", "counters of the running listener or plugin"),
    "metrics": ("metrics", "the counters as OpenMetrics text, once or for whoever asks"),
    "contid": ("contid", "set, get, list and delegate container identifiers"),
    "oci-hook": ("ocihook", "register a container; called by container runtimes"),
    "install-hook": ("ocihook", "make Podman and CRI-O call oci-hook"),
    "stream": ("stream", "a stream of audit events for each container"),
    "archive": ("archive", "seal rotated text into an archive, write it out, check it, prune it"),
    "ns": ("ns", "namespaces by serial: who is in them, who made them, and when"),
    "tree": ("tree", "containers, their namespaces and their processes, once or as they change"),
    "doctor": ("doctor", "what this host allows, what is missing, and the command that mends it"),
    "install-plugin": ("install", "put the auditd plugin where auditd finds it, or take it away"),
}


class Parser(argparse.ArgumentParser):
    """An argument parser whose usage errors are one line and exit 2, and say what may have been meant. A word such as
    -2h is a value: no option of ours begins with a digit."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._negative_number_matcher = re.compile(r"-\d")  # where argparse has what it takes for negative numbers

    def _check_value(self, action: argparse.Action, value: object) -> None:
        # argparse has no other place for what is said of a word that is none of the choices
        if action.choices is not None and value not in action.choices:
            words = [str(choice) for choice in action.choices]
            said = f"{value!r} is none of {', '.join(words)}{suggestion(str(value), words)}"
            raise argparse.ArgumentError(action, said)

    def error(self, message: str) -> NoReturn:
        """Print ``message`` and end with exit code 2."""
        complain(f"{self.prog}: {message} (see {self.prog} --help)")
        self.exit(2)


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """The parser of all commands; with ``only`` the others are named but not filled, which is quicker."""
    parser = Parser(
        prog="auditns",
        description="Which container did it? Linux audit events with container identifiers.",
        epilog="auditns(8), auditns.toml(5), auditns-records(5)",
    )
    parser.add_argument("-v", "--version", action="version", version=f"auditns {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for name, (module, text) in COMMANDS.items():
        if only is None or only == name:
            import_module(f"auditns_connector.cli.{module}").add_parser(subparsers, name, text)
        else:
            subparsers.add_parser(name, help=text)
    return parser


def run(argv: Sequence[str]) -> int:
    """Run one command line; returns the exit code (0 done, 1 failed, 2 usage, 3 not permitted or supported)."""
    if list(argv[:1]) == ["help"]:
        argv = [*argv[1:2], "--help"]
    named = next((word for word in argv if not word.startswith("-")), "")
    if named and argv[0] == named and named not in COMMANDS:
        build_parser("").error(f"there is no command {named!r}{suggestion(named, COMMANDS)}")
    parser = build_parser(named)
    args, spare = parser.parse_known_args(argv)
    if spare and (not hasattr(args, "files") or any(word.startswith("-") and word != "-" for word in spare)):
        parser.error(f"unrecognized arguments: {' '.join(spare)}")
    if spare:  # files may stand behind options as well
        args.files += spare
    if not args.command:
        build_parser("").print_help(sys.stderr)
        return 2
    module = import_module(f"auditns_connector.cli.{COMMANDS[args.command][0]}")
    result: int = module.run(args)
    return result


def main() -> NoReturn:
    """Entry point of the ``auditns`` command."""
    if sys.argv[1:2] == ["oci-hook"] and not {"-h", "--help"} & set(sys.argv):
        from auditns_connector.registration.hook_program import become

        become(sys.argv[2:])  # a container waits for it: no parser, and its own way with errors
    from auditns_connector.daemon.process import calm_collector

    calm_collector()  # what a command imports stays: there is nothing to be looked for in it
    _settle_streams()
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except AuditnsError as error:
        complain(f"auditns: {error}")
        code = error.exit_code
    except KeyboardInterrupt:
        code = 130
    except OSError as error:
        # nothing more can be said on stdout; where its reader has gone nothing is wrong
        with contextlib.suppress(OSError):  # no descriptor left: then it is not stdout that is broken
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0 if isinstance(error, BrokenPipeError) else 1
        if code:
            where = f"{error.filename}: " if error.filename else ""
            complain(f"auditns: {where}{error.strerror or error}")
    sys.exit(code)


def _settle_streams() -> None:
    """Have all three, and letters that stdout's encoding lacks escaped."""
    if sys.stdin is None or sys.stdout is None or sys.stderr is None:
        from auditns_connector.daemon.process import open_standard_streams

        open_standard_streams()
    if isinstance(sys.stdout, TextIOWrapper):  # not what a test has put there
        sys.stdout.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    main()
