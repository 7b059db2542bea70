"""The scorer of execs that say whose they are notices what is wrong, missing and too much."""

from tests.kernel.spoken import Truth

ONE, OTHER = "00000000000004d2" + "0" * 48, "00000000000010e1" + "0" * 48


def event(serial: int, word: str, contid: str = "", program: str = "/bin/true") -> bytes:
    stamp = f"msg=audit(1.000:{serial}):"
    lines = [f"type=SYSCALL {stamp} pid=1", f'type=EXECVE {stamp} argc=2 a0="{program}" a1="{word}"']
    return "\n".join(
        [*lines, *([f"type=CONTAINER_ID {stamp} record=1 contid={contid}"] if contid else []), ""]
    ).encode()


def truth() -> Truth:
    made = Truth("t")
    made.of("a", ONE, 2)
    made.of("host", "", 1)
    made.which("any", lambda found: found in ("7", "8"), 0)
    return made


RIGHT = event(1, "t-a-0", "1234") + event(2, "t-a-1", "1234") + event(3, "t-host-0") + event(4, "t-any-x", "8")


def test_what_is_right() -> None:
    made = truth()
    assert made.complete(RIGHT)
    # whoever starts such a program has the word among its own arguments
    assert made.errors(RIGHT + event(9, "t-a-0", program="/usr/bin/docker") + event(9, "u-a-0", "5")) == {}


def test_what_is_not() -> None:
    wrong = {
        "a": [
            RIGHT + event(5, "t-a-2", "1234"),
            RIGHT.replace(b"a-1", b"b-1"),
            RIGHT.replace(b"contid=1234", b"contid=4321", 1),
            RIGHT.replace(b"contid=1234", b"contid=?", 1),
            RIGHT.replace(b"contid=1234", b"contid=4,^1234", 1),
        ],
        "host": [RIGHT + event(3, "t-host-0", "1234")],
        "any": [RIGHT.replace(b"contid=8", b"contid=9"), RIGHT.replace(b"any-x", b"many-x")],
    }
    for label, texts in wrong.items():
        for text in texts:
            assert list(truth().errors(text)) == [label], text
    assert not truth().complete(event(1, "t-a-0", "1234"))
    assert list(truth().errors(b"")) == ["a", "host", "any"]
