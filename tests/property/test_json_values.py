"""Arguments over several records, and what ENRICHED format adds: the same in C and in Python, and nothing is lost."""

import json

from hypothesis import example, given
from hypothesis import strategies as st

from auditns_connector.emit.fields import added
from tests.examples import examples
from tests.golden.test_objects import render

HEAD = b"msg=audit(1.500:7): "
NUMBERS = st.sampled_from(["0", "1", "2", "3", "7", "00", "11", "4095", "4096", "4500", "9999", "1234567", "12345678"])
WORDS = st.one_of(
    st.builds("a{}={}".format, NUMBERS, st.sampled_from(['"x"', "4142", "", '"', "(null)", '"a b"', "ab", "41", "\\"])),
    st.builds("a{}[{}]={}".format, NUMBERS, NUMBERS, st.sampled_from(['"piece"', "4142", "x"])),
    st.builds("a{}_len={}".format, NUMBERS, st.sampled_from(["5", "10", "4", "999", "x", "", "1234567890"])),
    st.sampled_from(["argc=3", "a=1", "a_len=1", "argv=1", "a2_len=x", "text", "type=5", "a1[", "\x1dAUID=x"]),
)
#: what values of ENRICHED format are made of
ADDED = st.lists(
    st.sampled_from(
        [
            "A=",
            "UID=",
            "SADDR=",
            "path=",
            "text=",
            '"',
            '"al ice"',
            "{",
            "}",
            " { ",
            " }",
            "x",
            "x=y",
            " ",
            "  ",
            "=",
            "saddr_fam=local",
            "path=/run/my s",
            "o'neil",
            "é",
            "\\",
            "(null)",
            '" B="',
            "unknown(1)",
        ]
    ),
    max_size=14,
)


@examples(400)
@given(st.lists(st.lists(WORDS, max_size=8), min_size=1, max_size=5), st.booleans())
def test_arguments_are_the_same_in_c_and_in_python(records: list[list[str]], number: bool) -> None:
    kind = b"UNKNOWN[1309]" if number else b"EXECVE"
    text = b"".join(b"type=%b %b%b\n" % (kind, HEAD, " ".join(words).encode()) for words in records)
    render(b"type=SYSCALL " + HEAD + b"pid=2\n" + text, "json")


@examples(600)
@given(ADDED)
@example(['SADDR={ saddr_fam=local path=/run/a } UID="x" }'])
def test_what_enriched_adds_is_the_same_in_c_and_in_python(parts: list[str]) -> None:
    render(b"type=SOCKADDR %bsaddr=01\x1d%b\n" % (HEAD, "".join(parts).encode()), "json")


@examples(200)
@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters='"\n\x1d\r'), min_size=1), min_size=1, max_size=4)
)
def test_a_quoted_value_without_quotes_in_it_is_whole(values: list[str]) -> None:
    raw = " ".join(f'F{i}="{value}"' for i, value in enumerate(values))
    assert added(raw.encode()) == {f"F{i}": value for i, value in enumerate(values)}


@examples(100)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=1, max_size=60), st.data())
def test_any_arguments_split_as_the_kernel_does_come_back_whole(argv: list[str], data: st.DataObject) -> None:
    """As audit_log_execve_info() writes them: in hex, long ones in pieces, a new record wherever one is full."""
    records = [f"argc={len(argv)}"]
    for i, argument in enumerate(argv):
        value = argument.encode().hex().upper()
        if data.draw(st.booleans()) and len(value) > 2:
            size = 2 * data.draw(st.integers(1, len(value) // 2))
            pieces = [value[at : at + size] for at in range(0, len(value), size)]
            words = [f"a{i}_len={len(value)}", *(f"a{i}[{n}]={piece}" for n, piece in enumerate(pieces))]
        else:
            words = [f"a{i}={value}"]
        for word in words:
            if data.draw(st.integers(0, 3)) == 0:
                records.append("")
            records[-1] += f" {word}"
    text = b"".join(b"type=EXECVE %b%b\n" % (HEAD, record.encode()) for record in records)
    [event] = map(json.loads, render(text, "json").splitlines())
    [record] = event["records"]
    assert record["argv"] == argv
