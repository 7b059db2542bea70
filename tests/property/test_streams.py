"""Whatever a record holds, the container's view of it has none of the host's numbers."""

from hypothesis import given
from hypothesis import strategies as st

from auditns_connector.streams.messages import Sender, record
from auditns_connector.streams.tailor import Names, Tailor, Tally, outsider

NUMBERS = st.integers(10_000_000, 2**31 - 1)
PIDS = st.sampled_from(["pid", "ppid", "opid"])
IDS = st.sampled_from(
    ["uid", "gid", "euid", "fsgid", "ouid", "auid", "oauid", "ses", "oses", "old-auid", "cap_frootid"]
)
WORDS = st.sampled_from(['comm="x"', "key=(null)", "a0=5", "exit=0", "", "pid", "=", "subj=u:r:t:s0"])


@given(st.lists(st.one_of(st.tuples(PIDS, NUMBERS), st.tuples(IDS, NUMBERS), WORDS), max_size=20), st.booleans())
def test_no_number_of_the_hosts_is_left(parts: list[tuple[str, int] | str], known: bool) -> None:
    words = [part if isinstance(part, str) else f"{part[0]}={part[1]}" for part in parts]
    numbers = {part[1] for part in parts if not isinstance(part, str)}
    pids = dict.fromkeys(numbers, 7) if known else {}
    names = Names(pids, lambda uid: 3 if known else None, lambda gid: 4 if known else None)
    line = Tailor(names, Tally()).line(b"type=X msg=audit(1.000:2): " + " ".join(words).encode() + b"\n")
    assert not any(str(number).encode() in line for number in numbers)
    assert line.count(b"=") == 2 + " ".join(words).count("=")


NAMES = st.sampled_from(
    [
        "a0",
        "a1",
        "a2",
        "a3",
        "exit",
        "items",
        "ppid",
        "pid",
        "auid",
        "uid",
        "euid",
        "sgid",
        "tty",
        "ses",
        "comm",
        "exe",
        "subj",
        "per",
        "old-auid",
        "cwd",
        "name",
        "proctitle",
        "x",
    ]
)
SECRETS = st.text("HOST", min_size=5, max_size=12).map(lambda text: text + "9" * 8)


@given(st.lists(st.tuples(NAMES, SECRETS), max_size=25), st.sampled_from([62, 101, 234, 59]), st.booleans())
def test_nothing_is_left_of_who_did_it_from_outside(parts: list[tuple[str, str]], sysno: int, enriched: bool) -> None:
    fields = " ".join(f"{name}={value}" for name, value in parts)
    end = '\x1dUID="HOST"' if enriched else ""
    line = f"node=HOST type=SYSCALL msg=audit(1.000:2): arch=c000003e success=yes {fields} key=(null){end}\n".encode()
    shown = outsider(line, 0xC000003E, sysno)
    assert not set(b"HOST").intersection(shown.removeprefix(b"type=SYSCALL "))
    assert b"9" * 4 not in shown
    assert shown.startswith(b"type=SYSCALL msg=audit(1.000:2): arch=c000003e success=yes ")
    assert shown.endswith(b" key=(null)\n")


@given(st.binary(max_size=300))
def test_no_message_breaks_out_of_its_field(text: bytes) -> None:
    line = record("USER_CMD", text, Sender(1, 2, 3, 4, text or None), "web", 0, 1)
    head, _, message = line.partition(b" msg='")
    assert line.count(b"\n") == 1
    assert message.count(b"'") == 1
    assert [word.partition(b"=")[0] for word in message.split(b" ")] == [
        b"op", b"stream", b"data", b"exe", b"hostname", b"addr", b"terminal", b"res",
    ]  # fmt: skip
    assert head == b"type=USER_CMD msg=audit(0.000:1): pid=1 uid=2 auid=3 ses=4"
