"""``audisp-auditns``: the auditd plugin. Audit text on stdin; outputs by /etc/audit/auditns.toml."""

import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from auditns_connector.daemon.terminal import complain, show
from auditns_connector.errors import AuditnsError, ConfigError

if TYPE_CHECKING:
    import argparse

    from auditns_connector.archive.background import BackgroundSealer
    from auditns_connector.assembly import Program
    from auditns_connector.attribution.attributor import Correlator
    from auditns_connector.config.options import Config
    from auditns_connector.daemon.log import Log
    from auditns_connector.model.apply.dispatch import Model
    from auditns_connector.pipeline.filters import LiveFilter
    from auditns_connector.pipeline.rules import RuleSet
    from auditns_connector.pipeline.standalone_records import StandaloneRecords
    from auditns_connector.pipeline.text_stage import Enricher
    from auditns_connector.sinks.base import Sink
    from auditns_connector.sinks.spawner import Spawner


def build_parser() -> "argparse.ArgumentParser":
    """The plugin's command line."""
    from auditns_connector import __version__
    from auditns_connector.cli.main import Parser
    from auditns_connector.config.options import DEFAULT_PATH

    parser = Parser(
        prog="audisp-auditns",
        description="auditd plugin: adds to every audit event the container it came from.",
        epilog="audisp-auditns(8), auditns.toml(5)",
    )
    parser.add_argument("--version", action="version", version=f"audisp-auditns {__version__}")
    parser.add_argument("--config", default=DEFAULT_PATH, metavar="FILE", help="default: %(default)s")
    parser.add_argument("--check-config", action="store_true", help="say whether the configuration is right, and end")
    return parser


def run(argv: Sequence[str]) -> int:
    """Run one command line; returns the exit code."""
    from auditns_connector.daemon.process import calm_collector

    calm_collector()  # what is imported from here on stays
    from auditns_connector.config import options as conf
    from auditns_connector.daemon.process import prepare

    path, check = conf.DEFAULT_PATH, False
    if len(argv) == 2 and argv[0] == "--config":
        path = argv[1]  # nothing to be parsed: argparse takes milliseconds to import
    elif argv:
        args = build_parser().parse_args(argv)
        path, check = args.config, args.check_config
    if check:
        return _check(path)
    path = os.path.abspath(path)  # the working directory is left
    early: list[int] = []
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        # auditd hands a HUP on to a plugin that it has just started
        signal.signal(number, lambda number, frame: early.append(number))
    prepare()
    from auditns_connector.daemon.log import Log

    config = conf.load(path, missing_ok=path == conf.DEFAULT_PATH)
    try:
        return Plugin(path, config, Log(), early).run()
    finally:
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # Python would put the default back at its end, and die of one


def _rule_set(config: "Config", base: "LiveFilter") -> "RuleSet":
    # what rules match by takes 14 ms to import: not at the start of who has none
    from auditns_connector.pipeline.rules import RuleSet

    return RuleSet(config.rules, base)


def _check(path: str) -> int:
    """Say what is wrong with the configuration, or what it will run into: 1 then."""
    from auditns_connector.config import options as conf
    from auditns_connector.config.hurts import hurts
    from auditns_connector.pipeline.rules import RuleSet

    config = conf.load(path, missing_ok=path == conf.DEFAULT_PATH)
    try:
        RuleSet(config.rules)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    found = hurts(config)
    for line in found:
        complain(f"audisp-auditns: {path}: {line}")
    if not found:
        show(f"{path}: {'good' if os.path.exists(path) else 'not there, all options have their defaults'}")
    return int(bool(found))


class Plugin:
    """One run of the plugin; ``early`` are the signals that came before it serves."""

    def __init__(self, path: str, config: "Config", log: "Log", early: list[int]) -> None:
        self._early = early
        self._path = path
        self._config = config
        self._log = log
        self._program: Program | None = None
        self._standalone: StandaloneRecords | None = None
        self._rules: RuleSet | None = None
        self._spawner: Spawner | None = None
        self._sealer: BackgroundSealer | None = None
        from auditns_connector.emit.spelling import choose
        from auditns_connector.host.audit_tools import version

        self._spelling = choose(config.record_names, version())

    def run(self) -> int:
        """Until the end of stdin or a signal."""
        from auditns_connector.assembly import Parts, build
        from auditns_connector.auditrules.lease import take_back_leftovers
        from auditns_connector.daemon.privileges import keep_only
        from auditns_connector.daemon.process import boost_beside, boost_session
        from auditns_connector.host.bootstrap import boot_id
        from auditns_connector.host.open_sources import host_observer
        from auditns_connector.journal.files import JournalWriter
        from auditns_connector.pipeline.coalescing import Coalescer
        from auditns_connector.pipeline.open_standalone import open_standalone
        from auditns_connector.sinks.spawner import Spawner
        from auditns_connector.sources.intake import Limits
        from auditns_connector.sources.stdin import StdinSource
        from auditns_connector.state.namespace_serials import SerialStore

        config, log = self._config, self._log
        child = config.child
        self._spawner = Spawner(child.argv, child.capabilities) if child.enabled else None
        if not boost_session(with_parent=True):
            boost_beside(os.getppid())
        keep_only(_more_capabilities(config))
        audit = StdinSource(limits=Limits(*config.sources.input_queue))
        journal = None
        if config.journal.path:
            journal = JournalWriter(config.journal.path, config.journal.max_size, config.journal.keep, former="keep")
        observer, notices = host_observer(
            perf=config.sources.perf,
            connector=config.sources.connector,
            ns_source=config.sources.ns_source,
            perf_buffer=config.sources.perf_buffer,
            connector_buffer=config.sources.connector_buffer,
            journal=journal,
            all_serials=config.ns != "off" or config.lifecycle,
            options={"sandbox_types": sorted(config.sandbox), **self._spelling.recorded()},
        )
        observer.store = SerialStore(boot_id())
        observer.tell_lifecycle(config.lifecycle)
        try:
            for notice in [*audit.take_notices(), *notices, *observer.store.notices, *take_back_leftovers()]:
                log.warning(notice)
            observer.start()
            self._standalone = standalone = open_standalone(
                observer, (), track=True, each=config.lifecycle_rate, total=config.lifecycle_total
            )
            correlator, enricher, outputs = self._text_side(standalone, observer.model)
            self._program = build(
                Parts(
                    observer, correlator, enricher, outputs, log, config.control, audit,
                    standalone=standalone, coalescer=Coalescer(config.coalesce_ms), marks=config.marks,
                    expect=config.hook.expect, streams=config.streams, users=config.users,
                    lifecycle=config.lifecycle, on_hup=self._reload, early=self._early,
                    resumes=("plugin", self._whole_log()),
                )
            )  # fmt: skip
            pipeline = self._program.pipeline
            pipeline.each_tick.append(self._tick_sealer)
            self._choose_sealer()
            pipeline.more_status["archive"] = lambda: self._sealer.counters() if self._sealer is not None else {}
            pipeline.more_status["rules"] = lambda: self._rules.status() if self._rules is not None else {}
            pipeline.more_status["records"] = lambda: self._spelling.status(self._config.placement)
            pipeline.run()
        finally:
            observer.close()
            audit.close()
            if self._program is not None:
                self._program.close()
            if self._spawner is not None:
                self._spawner.close()
            if self._sealer is not None:
                self._sealer.close()
        lost = pipeline.lost()
        if lost:
            log.warning("stopped", reason=pipeline.stopping, lost=lost)
        return 0

    def _whole_log(self) -> str:
        """The file that all events are written to; empty where there is none."""
        from auditns_connector.pipeline.filters import configured

        config = self._config
        filtered = configured(config.include, config.exclude) or any(rule.action == "drop" for rule in config.rules)
        return config.file.path if config.file.enabled and not filtered else ""

    def _choose_sealer(self) -> None:
        """By the configuration as it is now."""
        config = self._config
        if self._sealer is not None:
            self._sealer.close()
            self._sealer = None
        if config.archive.path and config.file.enabled:
            from auditns_connector.archive.background import BackgroundSealer

            self._sealer = BackgroundSealer(config.archive.path, config.file.path, self._path, self._log.warning)

    def _tick_sealer(self) -> None:
        if self._sealer is not None:
            self._sealer.tick(time.monotonic())

    def _text_side(
        self, standalone: "StandaloneRecords", model: "Model"
    ) -> "tuple[Correlator, Enricher, dict[str, list[Sink]]]":
        """Correlator, enricher and outputs as the configuration wants them."""
        from auditns_connector.attribution.attributor import Correlator
        from auditns_connector.emit.spelling import APART, choose
        from auditns_connector.host.open_sources import own_nodes
        from auditns_connector.pipeline.filters import configured
        from auditns_connector.pipeline.text_stage import NUMERIC, RAW, Enricher
        from auditns_connector.sinks.build import open_rule_logs, open_sinks

        spelling = self._spelling = choose(self._config.record_names, self._spelling.tools)
        config = self._config._replace(record_names=spelling.names)
        former = () if self._program is None else self._program.pipeline.outputs.sinks
        lost = standalone.sink_lost
        symbolic, numeric = open_sinks(config, lost(RAW), lost(NUMERIC), former, self._spawner)
        outputs = {name: sinks for name, sinks in ((RAW, symbolic), (NUMERIC, numeric)) if sinks}
        correlator = Correlator(
            model,
            spellings=[name == NUMERIC for name in outputs],
            ns=config.ns,
            info=config.info,
            parents=config.parents,
            nodes=own_nodes(),
        )
        wanted: LiveFilter = configured(config.include, config.exclude)
        rules = self._rules = _rule_set(config, wanted) if config.rules else None
        wanted = wanted if rules is None else rules
        standalone.wanted = wanted if wanted else None
        standalone.formats = tuple(outputs)
        logs = open_rule_logs(config, lost(NUMERIC if NUMERIC in outputs else RAW), former)
        enricher = Enricher(
            correlator, list(outputs), wanted=wanted, apart=config.placement == APART, at_end=spelling.at_end,
            logs=None if rules is None else rules.logged,
        )  # fmt: skip
        return correlator, enricher, {**outputs, **logs}

    def _reload(self) -> None:
        """HUP: read the configuration again; a bad one keeps the old and says so."""
        from auditns_connector.config import options as conf
        from auditns_connector.registration.requests import feed_marks

        former = self._config
        self._config, complaint = conf.reload(self._path, former)
        if complaint:
            self._log.warning(complaint)
            return
        changed = conf.changed(former, self._config)
        if not changed:
            return
        from auditns_connector.pipeline.coalescing import Coalescer

        program, standalone = self._program, self._standalone
        if program is None or standalone is None:
            return  # it is being put together, from what was just read
        pipeline = program.pipeline
        try:
            pipeline.replace(*self._text_side(standalone, pipeline.observer.model))
            pipeline.text.coalescer = Coalescer(self._config.coalesce_ms)
            if former.marks != self._config.marks:
                feed_marks(pipeline.observer, self._config.marks)
            pipeline.observer.tell_lifecycle(self._config.lifecycle, self._config.ns != "off")
            standalone.limit(self._config.lifecycle_rate, self._config.lifecycle_total)
        except AuditnsError as error:
            self._config = former
            self._log.warning("the new configuration cannot be used; the old one stays", reason=str(error))
            return
        if (former.archive, former.file) != (self._config.archive, self._config.file):
            self._choose_sealer()
        program.configure_expected(self._config.hook.expect)
        program.configure_streams(self._config.streams, self._config.users)
        self._log.info("configuration read again", changed=" ".join(changed))
        child = self._config.child
        later = conf.at_next_start(changed)
        if child.enabled and (self._spawner is None or not self._spawner.starts(child.argv, child.capabilities)):
            later += [name for name in changed if name.startswith("output.child.") and name not in later]
        if later:
            self._log.warning("some changes take effect at the next start of the plugin", options=" ".join(later))


def _more_capabilities(config: "Config") -> frozenset[str]:
    """What this configuration takes beyond what is always needed."""
    from auditns_connector.daemon.privileges import GROUPS, OTHER_USERS

    if config.other_users or any(stream.uid or stream.gid for stream in config.streams):
        return OTHER_USERS
    return GROUPS if config.file.group or config.socket.group else frozenset()


def main() -> NoReturn:
    """Entry point of the plugin."""
    try:
        code = run(sys.argv[1:])
    except AuditnsError as error:
        complain(f"audisp-auditns: {error}")
        code = error.exit_code
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        complain(f"audisp-auditns: {where}{error.strerror or error}")
        code = 1
    sys.exit(code)


if __name__ == "__main__":
    main()
