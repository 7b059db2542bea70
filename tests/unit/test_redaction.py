"""What is found on command lines is not shown."""

import json

import pytest

from auditns_connector.attribution.attributor import Correlator
from auditns_connector.audittext.scanner import TextStream
from auditns_connector.emit.fields import Fields
from auditns_connector.emit.redaction import LONGEST, MARK, Redaction
from auditns_connector.errors import ConfigError
from auditns_connector.model.apply.dispatch import Model
from auditns_connector.pipeline.text_stage import JSON, PRETTY, RAW, Enricher
from tests.unit.steps import steps

HEAD = "msg=audit(1700000000.000:1):"
TEXT = (
    f'type=SYSCALL {HEAD} arch=c000003e syscall=59 success=yes exit=0 pid=100 uid=0 comm="curl" exe="/usr/bin/curl"\n'
    f'type=EXECVE {HEAD} argc=4 a0="curl" a1="--password" a2="hunter2" a3="token=abc"\n'
    f"type=PROCTITLE {HEAD} proctitle={'curl --password hunter2'.replace(' ', chr(0)).encode().hex().upper()}\n"
    f"type=EOE {HEAD} \n"
)


@pytest.mark.parametrize(
    ("patterns", "argv", "left"),
    [
        ([r"hunter\d"], ["a", "hunter2"], ["a", MARK]),
        ([r"(?<=--password )\S+"], ["a", "--password", "x y", "z"], ["a", "--password", f"{MARK} y", "z"]),
        ([r"--password \S+"], ["--password", "x"], [MARK, MARK]),
        ([r"token=\S+", r"abc"], ["token=abc abc"], [f"{MARK} {MARK}"]),
        ([r"token=\S+", r"n=a"], ["token=abc"], [MARK]),
        ([r"x"], ["y", None, "x"], ["y", None, MARK]),
        ([r"x*"], ["y"], ["y"]),
        ([], ["y"], ["y"]),
        ([r"x"], ["a" * LONGEST, None], [MARK, None]),
        ([r"$"], [], []),
    ],
)
def test_arguments(patterns: list[str], argv: list[str | None], left: list[str | None]) -> None:
    assert Redaction(patterns).arguments(argv) == left


def test_many_arguments_with_much_to_be_found_cost_no_more_each() -> None:
    redaction = Redaction([r"[0-9]", r"[0-9] [0-9]"])
    assert steps(lambda: redaction.arguments(["1"] * 2000)) < 6 * steps(lambda: redaction.arguments(["1"] * 500))


def test_what_is_no_pattern_is_refused() -> None:
    with pytest.raises(ConfigError, match="not a regular expression"):
        Redaction(["("])


def shown(name: str, patterns: list[str]) -> str:
    enricher = Enricher(Correlator(Model()), [name], redact=Redaction(patterns))
    stream = TextStream(whole=enricher.whole)
    out = ""
    for step in (lambda: stream.push(TEXT.encode()), lambda: stream.flush(eof=True)):
        blocks = enricher.take(step(), lambda points: enricher._correlator.answer(points, 1 << 60))
        out += bytes(blocks.get(name, b"")).decode()
    return out


def test_json_and_lines_for_people_have_the_mark_and_raw_text_has_all() -> None:
    patterns = [r"(?<=--password )\S+", r"token=\S+"]
    (event,) = map(json.loads, shown(JSON, patterns).splitlines())
    records = {record["type"]: record for record in event["records"]}
    assert records["EXECVE"]["argv"] == ["curl", "--password", MARK, MARK]
    assert records["PROCTITLE"]["proctitle"] == f"curl --password {MARK}"
    assert f"execve curl --password {MARK} {MARK} " in shown(PRETTY, patterns)
    assert "hunter2" in shown(RAW, patterns)


def test_without_patterns_all_is_as_before() -> None:
    assert "hunter2" in shown(JSON, [])
    assert "hunter2" in shown(PRETTY, [])


def test_an_argument_that_is_not_whole_is_left_out_whole() -> None:
    """Half of what is to be found may be in a piece that is missing."""
    fields: Fields = {"argv": ["a", ["tok", None, "en=x"], "token=y"]}
    Redaction([r"token=\S+"]).records([("EXECVE", fields)])
    assert fields["argv"] == ["a", [MARK, None, MARK], MARK]
