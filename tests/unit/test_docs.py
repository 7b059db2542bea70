"""Manual pages, README and --help say what the parsers, the configuration and the records are."""

import argparse
import inspect
import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from auditns_connector.audittext import own_records as text
from auditns_connector.cli import main as cli
from auditns_connector.cli import plugin
from auditns_connector.config import options as config
from auditns_connector.config.streams import SCHEMA, Definition, read
from auditns_connector.emit import events
from auditns_connector.emit import json_objects as jsonout
from auditns_connector.vocabulary import record_types as rectypes
from tests.kernel.support import need_tool
from tests.reference import lifecycle_records

TOP = Path(__file__).parents[2]
PAGES = sorted((TOP / "man").glob("*.[1-9]"))
PARSER = cli.build_parser()
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def page(name: str) -> str:
    """A page as words: without font changes, escapes and macros' names."""
    raw = (TOP / "man" / name).read_text(encoding="ascii")
    raw = re.sub(r'^\.\\".*\n', "", raw, flags=re.MULTILINE)
    raw = re.sub(r"^(\.[BI][RBI]) (.*)$", lambda m: f"{m[1]} {joined(m[2])}", raw, flags=re.MULTILINE)
    return re.sub(r"\\f.", "", raw).replace(r"\-", "-").replace(r"\(dq", '"').replace(r"\(aq", "'")


def joined(arguments: str) -> str:
    """The arguments of a macro that sets them without spaces between."""
    return "".join(quoted or word for quoted, word in re.findall(r'"([^"]*)"|(\S+)', arguments))


def sections(name: str) -> dict[str, str]:
    """Heading -> text of the sections and subsections of a page."""
    parts = re.split(r"^\.S[HS] (.*)$", page(name), flags=re.MULTILINE)
    return {title.strip('"'): body for title, body in zip(parts[1::2], parts[2::2], strict=True)}


def commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def options(parser: argparse.ArgumentParser) -> set[str]:
    """The long options of a parser and of the commands below it, less --help."""
    found = {option for action in parser._actions for option in action.option_strings if option.startswith("--")}
    for below in commands(parser).values():
        found |= options(below)
    return found - {"--help"}


#: commands with a page of their own
PAGE_OF = {"stream": "auditns-stream.8", "metrics": "auditns-metrics.8", "archive": "auditns-archive.8"}
#: and those that ask the log, with one together; some take conditions
ASKING_ANY = {"search", "containers", "report"}
ASKING = {"search", "containers", "show", "diff", "report"}
FILTERS = {"--contid", "--runtime", "--name", "--type", "--key", "--pid", "--match", "--count"}


def described(command: str, parser: argparse.ArgumentParser) -> tuple[str, set[str]]:
    """(what the manual says of a command, the options it names there)."""
    if command in PAGE_OF:
        said = page(PAGE_OF[command])
    elif command in ASKING:
        told = sections("auditns-search.8")
        said = told[command] + (told["CONDITIONS"] if command in ASKING_ANY else "")
    else:
        said = sections("auditns.8")[command]
        if "\n.BR FILTERS ." in said or "BR FILTERS." in said:
            said += sections("auditns.8")["FILTERS"]
    own = {option for line in said.splitlines() if not line.startswith(".EX") for option in OPTION.findall(line)}
    return said, own


@pytest.mark.parametrize("command", sorted(commands(PARSER)))
def test_every_option_is_in_the_manual(command: str) -> None:
    _, named = described(command, commands(PARSER)[command])
    assert options(commands(PARSER)[command]) - named == set()


@pytest.mark.parametrize("command", sorted(commands(PARSER)))
def test_the_manual_heads_only_options_that_exist(command: str) -> None:
    said, _ = described(command, commands(PARSER)[command])
    heads = {option for head in re.findall(r"^\.TP\n(.*)$", said, re.MULTILINE) for option in OPTION.findall(head)}
    assert heads - options(commands(PARSER)[command]) - {"--help"} == set()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_no_page_names_an_option_nobody_has(path: Path) -> None:
    foreign = {"--raw", "--uid", "--reset-lost", "--hooks-dir", "--image-path"}  # of ausearch, auditctl, podman, runc
    known = options(PARSER) | options(plugin.build_parser()) | {"--help", "--format"} | foreign
    assert set(OPTION.findall(page(path.name))) - known == set()


def test_every_command_has_a_place() -> None:
    told = set(sections("auditns.8"))
    assert {command for command in commands(PARSER) if command not in PAGE_OF} - told == set()


def test_plugin_options() -> None:
    assert options(plugin.build_parser()) - set(OPTION.findall(page("audisp-auditns.8"))) == set()


def helps() -> Iterator[tuple[str, str]]:
    yield "auditns", PARSER.format_help()
    yield "audisp-auditns", plugin.build_parser().format_help()


@pytest.mark.parametrize(("name", "said"), list(helps()), ids=lambda value: value if " " not in value else "")
def test_help_names_manual_pages_that_exist(name: str, said: str) -> None:
    pages = re.findall(r"\b([a-z.-]+)\(([58])\)", said)
    assert (name, "8") in pages
    assert {f"{name}.{number}" for name, number in pages} <= {path.name for path in PAGES}


def test_every_command_says_what_it_does() -> None:
    for command, parser in commands(PARSER).items():
        for below in (parser, *commands(parser).values()):
            for action in below._actions:
                known = action.help or isinstance(action, argparse._SubParsersAction) or action.metavar == "PID"
                assert known, (command, action.dest)


# --- configuration


def keys(data: dict[str, Any], table: str = "") -> Iterator[tuple[str, str, str]]:
    """(table, key, value as TOML) of the default configuration."""
    for key, value in data.items():
        if isinstance(value, dict) and (table, key) != ("users", "quota"):
            yield from keys(value, f"{table}.{key}".strip("."))
        else:
            yield table, key, json.dumps(value)


DEFAULTS = list(keys(tomllib.loads((TOP / "audisp/auditns.toml").read_text())))


@pytest.mark.parametrize(("table", "key", "value"), DEFAULTS, ids=lambda value: value)
def test_every_key_is_in_the_manual_with_its_default(table: str, key: str, value: str) -> None:
    heading = f"[{table}]" if table else "At the top"
    said = next(body for title, body in sections("auditns.toml.5").items() if heading in title)
    assert re.search(rf"^\.TP\n\.B {re.escape(f'{key} = {value}')}$", said, re.MULTILINE)


def test_the_manual_shows_no_key_that_is_refused() -> None:
    for heading, body in sections("auditns.toml.5").items():
        lines = re.findall(r"^\.TP\n\.B ([a-z_]+ = .*)$", body, re.MULTILINE)
        if heading == "[stream.NAME]":
            options = tomllib.loads("\n".join(lines))
            assert options.keys() == SCHEMA.keys()
            assert read("x", {**options, "pod": ["p"]}) == Definition("x", pod=("p",))
            continue
        if heading == "[[rule]]":
            example = body[body.index("[[rule]]\nname") : body.index(".fi")]
            assert [rule.action for rule in config.parse(example).rules] == ["drop"]
            continue
        for table in re.findall(r"\[([a-z.]+)\]", heading) or [""]:
            config.parse("\n".join([f"[{table}]" if table else "", *lines]))


def test_default_file_and_manual_have_every_option() -> None:
    shown = {(table, key) for table, key, _ in DEFAULTS}
    for field in config.Config._fields:
        value = getattr(config.Config.default(), field)
        name = config._DOTTED.get(field, field)
        for part in getattr(value, "_fields", ()):
            assert (name, part) in shown
        if not hasattr(value, "_fields") and name not in ("netfilter.marks", "stream", "rule"):
            assert ("", name) in shown
    assert {"[netfilter.marks]", "[stream.NAME]", "[[rule]]"} <= sections("auditns.toml.5").keys()


# --- records


def filled(name: str, annotation: str) -> Any:
    """A value for a parameter of such a function, by its type, save where it must be a certain one."""
    place, actor = lifecycle_records.NsPlace(1, 4, 3), lifecycle_records.Actor(1, 2, 3, 4, b"x", "5")
    certain = {"numeric": False, "serials": [1] * 8, "inodes": [1] * 8, "nstype": "net"}
    certain |= {"names": [(field, "x") for field in ("ctr-name", "labels", "unit")], "first": (1, 2), "more": ""}
    certain |= {"pairs": {"k": "v"}, "caller": "pid=1 uid=0 auid=0 tty=x ses=1 subj=x"}
    kinds = {"NsPlace": place, "Actor": actor, "int": 1, "bytes": b"x", "bool": True, "str": "x"}
    return certain[name] if name in certain else next(v for kind, v in kinds.items() if kind in annotation)


def samples() -> Iterator[tuple[str, str]]:
    """(record type, line) out of every function that makes a record, with every field."""
    functions = (
        *inspect.getmembers(text, inspect.isfunction),
        *inspect.getmembers(lifecycle_records, inspect.isfunction),
    )
    for name, function in functions:
        parameters = inspect.signature(function).parameters
        if "numeric" in parameters and not name.startswith("_"):
            line = function(**{p: filled(p, str(spec.annotation)) for p, spec in parameters.items()}).decode()
            yield line.split("type=")[1].split(" ")[0], line


def test_every_record_is_in_the_manual_with_its_number_and_fields() -> None:
    told = sections("auditns-records.5")
    seen = set()
    for kind, line in samples():
        seen.add(kind)
        said = told[f"{kind} (UNKNOWN[{rectypes.NUMBERS[kind]}])"]
        heads = " ".join(re.findall(r"^\.TP\n(.*)$", said, re.MULTILINE))
        fields = re.findall(r" ([a-z_-]+)=", line.partition("\0")[2])
        assert [field for field in fields if not re.search(rf"(?<![\w-]){field}(?![\w-])", heads)] == [], kind
    assert seen == set(rectypes.OWN.values())


def names(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from names(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from names(inner)


def test_every_json_field_of_ours_is_in_the_manual() -> None:
    who = jsonout.Who("1", {}, {})
    lines = [jsonout.event(0, 1, b"host", who, [(1, 2, who)], []), jsonout.foreign(b"x")]
    lines += (TOP / "tests/golden/demo/enriched.json").read_bytes().splitlines()
    said = sections("auditns-records.5")["JSON"]
    for line in lines:
        event = json.loads(line)
        event["records"] = [{"type": record["type"]} for record in event.get("records", ())]
        assert [name for name in names(event) if not re.search(rf"(?<![\w-]){name}(?![\w-])", said)] == []


def test_every_field_of_process_events_is_in_the_manual() -> None:
    said = sections("auditns-records.5")["Process events"]
    source = inspect.getsource(events)
    fields = set(re.findall(r'event(?:\.update\(|\[")([a-z_]+)["=]', source)) | set(events._KINDS.values())
    assert [field for field in sorted(fields) if not re.search(rf"\b{field}\b", said)] == []


# --- the pages themselves


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_groff_has_nothing_to_say(path: Path) -> None:
    need_tool("groff")
    done = subprocess.run(["groff", "-man", "-ww", "-z", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert path.read_bytes().isascii()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_references_between_the_pages_lead_somewhere(path: Path) -> None:
    ours = {other.name for other in PAGES}
    for name, number in re.findall(r"\b(audi[a-z.-]*auditns[a-z.-]*|auditns[a-z.-]*) ?\(([58])\)", page(path.name)):
        assert f"{name}.{number}" in ours
