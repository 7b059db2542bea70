"""The configuration file: what it may hold, and what is said about what it may not."""

import math
import os
import re
from pathlib import Path

import pytest

from auditns_connector import __version__
from auditns_connector.config import options as config
from auditns_connector.config import readers as confvalues
from auditns_connector.config.log_file import auditd_log, objection
from auditns_connector.config.options import Config, at_next_start, changed, load, parse, reload
from auditns_connector.config.text import MAX_FILE
from auditns_connector.errors import ConfigError

SHIPPED = Path(__file__).parents[2] / "audisp" / "auditns.toml"
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: ownership is checked for root only")


def complaint(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text, "/x.toml")
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_shipped_file_equals_the_defaults() -> None:
    assert changed(Config.default(), parse(SHIPPED.read_text())) == []
    assert parse(SHIPPED.read_text()) == Config.default()


def test_shipped_file_holds_every_key() -> None:
    """Whoever adds an option adds it to the file whose comments teach it."""
    text = SHIPPED.read_text()
    keys = set(re.findall(r"^([a-z_]+) =", text, re.M))
    schemas = (
        config._TOP,
        config._JOURNAL,
        config._SOURCES,
        config._FILE,
        config._SOCKET,
        config._CHILD,
        config._ARCHIVE,
        config._METRICS,
        config._HOOK,
        config._USERS,
    )
    assert keys == {key for schema in (*schemas, config._FILTER) for key in schema}
    for table in ("journal", "sources", "output.file", "output.child", "filter.include", "netfilter.marks"):
        assert f"\n[{table}]\n" in text


def test_empty_file_is_the_default() -> None:
    assert parse("") == Config.default() == Config()


def test_everything_can_be_set() -> None:
    got = parse(
        """
        record_names = "numeric"
        ns = "containers"
        info = true
        lifecycle = false
        sandbox = []
        coalesce_ms = 2.5
        control = "/run/x/control"
        journal = { path = "/var/j", max_size = 0, keep = 0 }
        [sources]
        perf = "on"
        connector = "off"
        ns_source = "audit"
        perf_buffer = "1M"
        connector_buffer = 65536
        input_queue = ["1M", "2G"]
        [output.file]
        enabled = false
        path = "/l/é"
        mode = "0600"
        group = "root"
        max_size = "100K"
        keep = 1
        queue = "64K"
        [output.socket]
        enabled = true
        path = "/run/s"
        mode = "600"
        group = "wheel"
        queue = "128K"
        readers = 2
        [output.child]
        enabled = true
        argv = ["/sbin/x", "", "a b"]
        record_names = "symbolic"
        queue = "1M"
        [filter.include]
        contid = [4, "0x10", "17", "unset", "unknown"]
        runtime = ["docker"]
        name = ["web-*"]
        record = ["SYSCALL", "UNKNOWN[1340]"]
        [netfilter.marks]
        0x64 = "0x5f3c21e0a9b84d17"
        7 = 18446744073709551614
        """
    )
    assert got.include == config.EventFilter(
        (4, 16, 17, "unset", "unknown"), ("docker",), ("web-*",), ("SYSCALL", "UNKNOWN[1340]")
    )
    assert got.marks == ((7, 2**64 - 2), (0x64, 0x5F3C21E0A9B84D17))
    assert got.journal == config.Journal("/var/j", 0, 0)
    assert got.sources == config.Sources("on", "off", "audit", 1 << 20, 1 << 16, (1 << 20, 2 << 30))
    assert got.file == config.FileOutput(False, "/l/é", 0o600, "root", 100 << 10, 1, 64 << 10)
    assert got.socket == config.SocketOutput(True, "/run/s", 0o600, "wheel", 128 << 10, 2)
    assert got.child == config.ChildOutput(True, ("/sbin/x", "", "a b"), "symbolic", 1 << 20)
    assert (got.coalesce_ms, got.sandbox, got.lifecycle, got.info) == (2.5, (), False, True)
    hash(got)


FILE_OF_0_1_0 = Path(__file__).parents[1] / "reference/auditns-0.1.0.toml"


def test_file_of_0_1_0_is_read_with_what_it_says() -> None:
    """It was installed with every option set, and stays over an upgrade."""
    got = parse(FILE_OF_0_1_0.read_text())
    assert got == parse("")._replace(record_names="symbolic", sandbox=("pid", "user"))


@pytest.mark.parametrize(
    ("size", "taken"),
    [
        ('"1M"', (64, 1024)),
        ('"64M"', (64, 1024)),
        ('"200M"', (200, 1024)),
        ("209715200", (200, 1024)),
        ('"16G"', (1024, 1024)),
    ],
)
def test_input_queue_of_one_size_as_0_1_0_had_it(size: str, taken: tuple[int, int]) -> None:
    got = parse(f"[sources]\ninput_queue = {size}").sources.input_queue
    assert got == (taken[0] << 20, taken[1] << 20)


@pytest.mark.parametrize("value", ["0", "true", '"1K"', '"17G"', "1.5", '""', "[]", '["1M"]', '[["1M"], 0]'])
def test_input_queue_that_is_no_size(value: str) -> None:
    with pytest.raises(ConfigError, match=r"sources\.input_queue: .* is not allowed; allowed: "):
        parse(f"[sources]\ninput_queue = {value}")


def test_journal_can_be_one_line() -> None:
    assert parse('journal = "/var/j"').journal == config.Journal(path="/var/j")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('record_names = "x"', '/x.toml: record_names: "x" is not allowed; allowed: "auto", "symbolic", "numeric"'),
        ("info = 1", "/x.toml: info: 1 is not allowed; allowed: true, false"),
        ("ns = true", '/x.toml: ns: true is not allowed; allowed: "off", "containers", "all"'),
        (
            "coalesce_ms = nan",
            '/x.toml: coalesce_ms: nan is not allowed; allowed: "adaptive", or milliseconds from 0 to 1000',
        ),
        ("coalesce_ms = true", "coalesce_ms: true is not allowed"),
        ('recordnames = "numeric"', '/x.toml: unknown key "recordnames"; did you mean "record_names"?'),
        ("[output.file]\nmaxsize = 1", 'unknown key "output.file.maxsize"; did you mean "output.file.max_size"?'),
        ("[ouput.file]\nkeep = 1", 'unknown key "ouput"; did you mean "output"?'),
        ("[output.fiel]", 'unknown key "output.fiel"; did you mean "output.file"?'),
        (
            "zzz = 1",
            f'/x.toml: unknown key "zzz"; this is auditns {__version__}, which knows: record_names, placement, ns,',
        ),
        ("output = 1", "/x.toml: output: is not a table; allowed: [output.file], [output.socket], [output.child]"),
        ("journal = 1", "/x.toml: journal: is not a table; allowed: [journal] with path, max_size, keep"),
        ('journal = "x"', 'journal.path: "x" is not allowed; allowed: an absolute path'),
        ('[output.file]\nmode = "0666"', 'output.file.mode: "0666" is not allowed; allowed: a string, "0600"'),
        ("[output.file]\nmode = 640", "output.file.mode: 640 is not allowed; allowed: a string"),
        ('[output.file]\npath = "/a/../b"', "output.file.path"),
        ('[output.file]\nmax_size = "1T"', "allowed: bytes, or a string like"),
        ("[output.file]\nmax_size = -1", "or 0 for no limit"),
        ("[output.file]\nqueue = 0", "from 64K to 1G"),
        ('[output.socket]\npath = "/' + "a" * 107 + '"', "of at most 107 bytes"),
        ("[output.child]\nenabled = true", "/x.toml: output.child.argv: empty; allowed while enabled"),
        ('[output.child]\nargv = ["x"]', "the first an absolute path"),
        ('[sources]\nperf_buffer = "3M"', "a power of two"),
        ('[sources]\nperf = "off"\nns_source = "perf"', "sources.ns_source"),
        ('[sources]\nconnector = "off"\nns_source = "nm"', "sources.ns_source"),
        ('sandbox = ["pids"]', "a list of namespace types (net, uts,"),
        ("[filter.include]\ncontid = [-1]", "a list of container identifiers"),
        ('[filter.include]\ncontid = ["1_0"]', "a list of container identifiers"),
        ("[filter.include]\ncontid = [18446744073709551615]", "a list of container identifiers"),
        ('[filter.exclude]\nrecord = ["syscall"]', "filter.exclude.record"),
        ("[netfilter]\nmark = {}", 'did you mean "netfilter.marks"?'),
        ("[netfilter.marks]\nx = 1", "netfilter.marks.x: 1 is not allowed; allowed: a number from 0 to 2^32-1"),
        ("[netfilter.marks]\n1 = 1\n0x1 = 2", "netfilter.marks.0x1: mark 1 is given twice"),
        (
            'journal = "/a/b"\n[output.file]\npath = "/a//b"',
            "output.file.path: /a//b is not allowed, journal.path uses it",
        ),
        (
            'journal = "/a/b.1"\n[output.file]\npath = "/a/b"',
            "path: /a/b is not allowed, journal.path uses it",
        ),
        ('journal = "/a/b"\n[output.file]\npath = "/a/./b.02"', "b.02 is not allowed, journal.path uses it"),
        ("x = = 1", "/x.toml: not TOML: "),
        ("x = " + "9" * 5000, "/x.toml: not TOML: a number has too many digits"),
        (".".join("a" * 100) + " = 1", "nested too deeply"),
        ("[" + " . ".join(['"a b"'] * 100) + "]", "nested too deeply"),
        ("x = {" + ".".join("a" * 100) + " = 1}", "nested too deeply"),
        ("x = " + "[" * 100_000, "nested too deeply"),
        ('ns = "\\u001b[31m' + "x" * 200 + '"', "ns: "),
    ],
)
def test_what_is_refused_is_said(text: str, said: str) -> None:
    message = complaint(text)
    assert said in message
    assert message.startswith("/x.toml: ")
    assert len(message) < 400
    assert "\x1b" not in message


def test_what_is_no_rotated_file_of_another_output_is_allowed() -> None:
    for log in ("/a/b.x", "/a/b.1.x", "/a/b1", "/run/auditns/control.1"):
        assert parse(f'journal = "/a/b"\n[output.file]\npath = "{log}"').file.path == log


@pytest.mark.parametrize("value", ["", "0x", "-1", "+1", " 1", "0x-1", "1_0", "٣", "1" * 40, True, 1.0, None, 1 << 64])
def test_numbers_are_plain(value: object) -> None:
    with pytest.raises(ValueError, match=r"2\^64-1"):
        confvalues.number(value, 64)


def test_numbers() -> None:
    assert [confvalues.number(n, 64) for n in ("0", "0xFf", "0X10", 5, "18446744073709551615")] == [
        0,
        255,
        16,
        5,
        2**64 - 1,
    ]


def test_infinity_is_no_delay() -> None:
    with pytest.raises(ValueError, match="milliseconds"):
        confvalues.coalesce(math.inf)


def test_missing_file(tmp_path: Path) -> None:
    path = str(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match=r"none\.toml: there is no such file"):
        load(path)
    assert load(path, missing_ok=True) == Config.default()


def test_unreadable_things(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a regular file"):
        load(str(tmp_path))
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigError, match="not a regular file"):
        load(str(tmp_path / "fifo"))
    big = tmp_path / "big"
    big.write_bytes(b"#" * (MAX_FILE + 1))
    big.chmod(0o600)
    with pytest.raises(ConfigError, match="larger than"):
        load(str(big))
    big.write_bytes(b'ns = "\xff"')
    with pytest.raises(ConfigError, match="not UTF-8 at byte 6"):
        load(str(big))


@root_only
def test_root_reads_only_what_root_alone_can_write(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("info = true")
    path.chmod(0o640)
    assert load(str(path)).info
    path.chmod(0o642)
    with pytest.raises(ConfigError, match=r"mode 0642 lets others write it; allowed: 0640"):
        load(str(path))
    path.chmod(0o660)
    assert load(str(path)).info
    os.chown(path, 0, 4)
    with pytest.raises(ConfigError, match="mode 0660 lets others write it"):
        load(str(path))
    path.chmod(0o640)
    os.chown(path, 65534, 0)
    with pytest.raises(ConfigError, match="belongs to uid 65534; allowed: root"):
        load(str(path))


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes an ordinary user")
def test_who_may_not_read_it_is_told_who_may(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("info = true")
    path.chmod(0o640)
    os.seteuid(65534)
    try:
        with pytest.raises(ConfigError, match=r"a\.toml: cannot be read: Permission denied: this needs root$"):
            load(str(path))
    finally:
        os.seteuid(0)


def test_reload_keeps_the_old_on_error(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("info = true\n[output.file]\nkeep = 9")
    path.chmod(0o600)
    new, said = reload(str(path), Config.default())
    assert (new.info, said) == (True, "")
    assert changed(Config.default(), new) == ["info", "output.file.keep"]
    path.write_text("info = maybe")
    kept, said = reload(str(path), new)
    assert kept is new
    assert said.startswith(f"{path}: not TOML")
    assert said.endswith("the former configuration stays in use")


def test_a_configuration_of_the_future_is_not_half_understood(tmp_path: Path) -> None:
    """What a later version may say is refused by its name and by the version that does not know it, in the main table
    and below; a program that runs goes on with what it has."""
    path = tmp_path / "a.toml"
    for text, key in (
        ("[fleet]\nurl = 'x'", '"fleet"'), ("[output.bus]\nenabled = true", '"output.bus"'),
        ("[output.file]\nzone = 1", '"output.file.zone"'), ("info = true\nfuture = 3", '"future"'),
    ):  # fmt: skip
        path.write_text(text)
        path.chmod(0o600)
        with pytest.raises(ConfigError, match=f"unknown key {key}") as refused:
            load(str(path))
        assert f"this is auditns {__version__}" in str(refused.value) or "did you mean" in str(refused.value)
        kept, said = reload(str(path), Config.default())
        assert kept == Config.default()
        assert said.endswith("the former configuration stays in use")


def test_changed_names_what_tables_hold() -> None:
    new = parse("coalesce_ms = 1\n[netfilter.marks]\n1 = 2\n[filter.exclude]\nruntime = ['lxc']")
    assert changed(Config.default(), new) == ["coalesce_ms", "filter.exclude.runtime", "netfilter.marks"]


def test_what_waits_for_the_next_start() -> None:
    new = parse(
        'control = "/run/c"\nsandbox = ["pid", "user"]\ninfo = true\njournal = "/var/j"\n[sources]\nperf = "off"\n'
    )
    names = changed(Config.default(), new)
    assert at_next_start(names) == ["sandbox", "control", "journal.path", "sources.perf"]
    assert set(names) - set(at_next_start(names)) == {"info"}


def test_a_log_that_is_something_else_is_refused(tmp_path: Path) -> None:
    conf, auditd, log = tmp_path / "auditns.toml", tmp_path / "auditd.conf", tmp_path / "audit.log"
    auditd.write_text(f"log_file = {tmp_path}/auditd.log\n")
    (tmp_path / "auditd.log").write_text("type=SYSCALL msg=audit(1.000:1): x=1\n")
    (tmp_path / "link").symlink_to(tmp_path / "auditd.log")
    passwd = tmp_path / "passwd"
    passwd.write_text("root:x:0:0::/root:/bin/sh\n")
    for path, why in (
        (tmp_path / "auditd.log", "auditd's own log"),
        (tmp_path / "auditd.log.1", "auditd's own log"),
        (tmp_path / "link", "auditd's own log"),
        (tmp_path, "a directory"),
        (passwd, "something else"),
        (Path("/dev/null"), "not a regular file"),
        (Path("/proc/self/mem"), "cannot be read"),
    ):
        assert why in objection(str(path), str(auditd))
    assert objection(str(log), str(auditd)) == ""
    log.write_text("type=SYSCALL msg=audit(1.000:1): x=1\n")
    assert objection(str(log), str(auditd)) == ""

    conf.write_text(f'[output.file]\npath = "{passwd}"\n')
    conf.chmod(0o640)
    with pytest.raises(ConfigError, match=r"output\.file\.path: .*passwd is not allowed: it holds something else"):
        load(str(conf))
    kept, complaint = reload(str(conf), Config.default())
    assert (kept, "stays in use" in complaint) == (Config.default(), True)
    conf.write_text(f'[output.file]\nenabled = false\npath = "{passwd}"\n')
    assert load(str(conf)).file.enabled is False


def test_auditds_log_is_what_its_configuration_says(tmp_path: Path) -> None:
    conf = tmp_path / "auditd.conf"
    assert auditd_log(str(conf)) == "/var/log/audit/audit.log"
    conf.write_text("# log_file = /no\nLOG_FILE=/a/b\n")
    assert auditd_log(str(conf)) == "/a/b"
