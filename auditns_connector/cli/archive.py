"""``auditns archive``: seal rotated text, write it out again, check it, prune it."""

import argparse
import json
import os
import sys
import time
from typing import TYPE_CHECKING

from auditns_connector.cli.arguments import as_configured
from auditns_connector.cli.subparsers import Subparsers
from auditns_connector.daemon.terminal import complain, for_people, show
from auditns_connector.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from auditns_connector.archive.seal import Sealed
    from auditns_connector.archive.text_files import TextFile
    from auditns_connector.config.archive import ArchiveOptions


def add_parser(subparsers: Subparsers, name: str, text: str) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        name, help=text,
        description="Keep audit text in an archive: compressed, grouped by container, with an index.",
        epilog="auditns-archive(8). Example: auditns archive seal --archive /var/lib/auditns/archive audit.log.* "
        "(the files are removed then, unless --keep is given)",
    )  # fmt: skip
    below = parser.add_subparsers(dest="action", metavar="COMMAND", required=True, parser_class=type(parser))
    seal = below.add_parser(
        "seal", help="put text into the archive, and remove its files",
        description="Put audit text into the archive. Each FILE is removed once all of it is there and was read back, "
        "unless --keep is given.",
    )  # fmt: skip
    add_archive(seal)
    seal.add_argument("files", nargs="*", metavar="FILE", help="audit text, also gzip or zstd, oldest records first")
    seal.add_argument("--rotated", metavar="LOG", help="LOG.2, LOG.3 … as well, all but the newest")
    seal.add_argument("--config", metavar="FILE", help="how much is to stay; default: /etc/audit/auditns.toml")
    seal.add_argument("--keep", action="store_true", help="leave the files: without it they are removed")
    seal.add_argument("--no-wait", action="store_true", help="fail where somebody else is writing to the archive")
    seal.add_argument("--nice", action="store_true", help="give way to everything else")
    cat = below.add_parser("cat", help="write the text as it was")
    add_archive(cat)
    check = below.add_parser("check", help="is every segment there, unchanged, and in its place?")
    add_archive(check)
    check.add_argument("--head", default="", metavar="DIGEST", help="must be that of a segment, as seal has said it")
    prune = below.add_parser("prune", help="remove the oldest segments")
    add_archive(prune)
    prune.add_argument("--max-size", type=_size, metavar="SIZE", help="what segments may take, as 100G")
    prune.add_argument("--max-age", type=_age, metavar="AGE", help="how old the last event of one may be, as 90d")
    prune.add_argument("--min-free", type=_size, metavar="SIZE", help="what is to be free on the file system")
    info = below.add_parser("info", help="what is in the archive")
    add_archive(info)
    info.add_argument("--json", action="store_true", help="one JSON object")


def add_archive(parser: argparse.ArgumentParser) -> None:
    """--archive."""
    parser.add_argument("--archive", metavar="DIR", help="default: what the configuration says")


def _size(text: str) -> int:
    from auditns_connector.config.readers import GIB, MIB, size

    return int(as_configured(text, size(MIB, 1024 * 1024 * GIB, zero=True), 0 if text == "0" else text))


def _age(text: str) -> int:
    from auditns_connector.config.readers import age

    return int(as_configured(text, age, 0 if text == "0" else text))


def archive_options(given: str | None, path: str | None = None) -> "ArchiveOptions":
    """The archive that is meant: ``given``, else the one of the configuration, which is in ``path`` or where it is
    otherwise. Raises ConfigError where there is none."""
    from auditns_connector.config.archive import ArchiveOptions
    from auditns_connector.config.options import DEFAULT_PATH, load

    if given is not None and os.geteuid() and path is None:
        return ArchiveOptions(given, min_free=0)
    config = load(path or DEFAULT_PATH, missing_ok=path is None)
    if given is not None:
        same = os.path.realpath(given) == os.path.realpath(config.archive.path) if config.archive.path else False
        return config.archive if same else ArchiveOptions(given, min_free=0)
    if not config.archive.path:
        raise ConfigError(f"which archive? Give --archive DIR, or [archive] with a path in {DEFAULT_PATH}")
    return config.archive


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    actions = {"seal": _seal, "cat": _cat, "check": _check, "prune": _prune, "info": _info}
    return actions[args.action](args)


def _say(text: str) -> None:
    complain(f"auditns: {text}")


def _seal(args: argparse.Namespace) -> int:
    from auditns_connector.archive.text_files import open_all, open_rotated
    from auditns_connector.daemon.process import give_way

    if args.nice:
        give_way()
    options = archive_options(args.archive, args.config)
    if not args.files and not args.rotated:
        raise ConfigError("nothing to seal: give FILEs, or --rotated LOG")
    problems: list[str] = []

    def say(text: str) -> None:
        problems.append(text)
        _say(text)

    texts = open_rotated(args.rotated, say) if args.rotated else []
    ahead = texts.pop() if texts else None
    for text in open_all(args.files, say):
        if text.is_foreign:
            say(f"{text.path}: it begins with nothing that is audit text: it is not sealed, and stays")
            text.close()
        else:
            texts.append(text)
    try:
        sealed = _seal_texts(options, texts, ahead, say, args)
    finally:
        for text in [*texts, *([ahead] if ahead else [])]:
            text.close()
    if sealed is not None:
        show(
            f"{sealed.records} records of {sealed.length} bytes in {sealed.segments} segments of {sealed.bytes} bytes; "
            f"{sealed.removed} files removed, {sealed.repeated} were there already"
        )
        show(f"head {sealed.head}")
    return 1 if problems else 0


def _seal_texts(
    options: "ArchiveOptions",
    texts: "Sequence[TextFile]",
    ahead: "TextFile | None",
    say: "Callable[[str], None]",
    args: argparse.Namespace,
) -> "Sealed | None":
    from auditns_connector.archive.files import ArchiveFiles
    from auditns_connector.archive.retention import Limits, prune
    from auditns_connector.archive.seal import Sealer, open_catalogue

    if not texts:
        return None
    limits = Limits(options.max_size, options.max_age, options.min_free)
    with ArchiveFiles(options.path, create=True) as files, files.locked(wait=not args.no_wait):
        files.clean()
        catalogue = open_catalogue(files, say)
        try:
            if limits:
                prune(files, catalogue, limits, time.time_ns() // 1_000_000, say)
            sealed = Sealer(files, catalogue, say, keep=args.keep).seal(texts, ahead)
            if limits:
                prune(files, catalogue, limits, time.time_ns() // 1_000_000, say)
        finally:
            catalogue.close()
    return sealed


def _cat(args: argparse.Namespace) -> int:
    from auditns_connector.archive.reader import Archive

    with Archive(archive_options(args.archive).path) as archive:
        shape = for_people("raw", sys.stdout.isatty())
        for text in archive.texts():
            sys.stdout.buffer.write(text if shape is None else shape(bytes(text)))
        sys.stdout.buffer.flush()
        for notice in archive.notices:
            _say(notice)
        return 1 if archive.notices else 0


def _check(args: argparse.Namespace) -> int:
    from auditns_connector.archive.check import check
    from auditns_connector.archive.files import ArchiveFiles

    with ArchiveFiles(archive_options(args.archive).path) as files:
        found = check(files, args.head)
    for problem in found.problems:
        show(str(problem))
    show([f"{found.segments} segments", f"head {found.head}"] if found.head else "no segment")
    return 1 if found.problems else 0


def _prune(args: argparse.Namespace) -> int:
    from auditns_connector.archive.files import ArchiveFiles
    from auditns_connector.archive.retention import Limits, prune
    from auditns_connector.archive.seal import open_catalogue

    options = archive_options(args.archive)
    given = (args.max_size, args.max_age, args.min_free)
    own = (options.max_size, options.max_age, options.min_free)
    limits = Limits(*own) if given == (None, None, None) else Limits(*(one or 0 for one in given))
    if not limits:
        raise ConfigError("how much is to stay? Give --max-size, --max-age or --min-free")
    with ArchiveFiles(options.path) as files, files.locked():
        files.clean()
        catalogue = open_catalogue(files, _say)
        try:
            gone = prune(files, catalogue, limits, time.time_ns() // 1_000_000, _say)
        finally:
            catalogue.close()
    for row, reason in gone:
        show(f"segment {row.seq}: {row.records} records, {row.bytes} bytes: {reason}")
    return 0


def _info(args: argparse.Namespace) -> int:
    from auditns_connector.archive.reader import Archive

    with Archive(archive_options(args.archive).path) as archive:
        rows, kinds = archive.segments(), [row.kind for row in archive.containers()]
        about = {
            "v": 1,
            "path": os.path.abspath(archive.path),
            "segments": len(rows),
            "pruned": len(archive.pruned()),
            "bytes": sum(row.bytes for row in rows),
            "text_bytes": sum(row.length for row in rows),
            "events": sum(row.events for row in rows),
            "records": sum(row.records for row in rows),
            "containers": kinds.count("container"),
            "first_ms": min((row.first_ms for row in rows), default=None),
            "last_ms": max((row.last_ms for row in rows), default=None),
            "head": rows[-1].digest if rows else None,
            "serials": [
                {"segment": segment, "node": run.node.decode("latin-1"), "first": run.low, "last": run.high,
                 "events": run.events, "first_ms": run.first_ms, "last_ms": run.last_ms}
                for segment, run in archive.serials()
            ],
            "sealed_by": [
                {"segment": row.seq, "host": row.host, "boot": row.boot, "ms": row.sealed_ms, "digest": row.digest}
                for row in rows
            ],
        }  # fmt: skip
        for notice in archive.notices:
            _say(notice)
    if args.json:
        print(json.dumps(about))
        return 0
    for name, value in about.items():
        if not isinstance(value, list) and name != "v":
            show(f"{name}: {'-' if value is None else value}")
    return 0
