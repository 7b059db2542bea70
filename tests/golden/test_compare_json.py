"""What another reader makes of a log: nothing of that is missing in our JSON."""

from pathlib import Path

import pytest

from tests.compare_json import available, compare, laurel, ours

from .enriching import DATA

HERE = Path(__file__).parent


@pytest.mark.parametrize(
    "log", [*(DATA / f"{name}.log" for name in ("raw", "enriched", "stream")), HERE / "demo" / "audit.log"],
    ids=lambda log: log.stem,
)  # fmt: skip
def test_laurel_has_no_field_that_we_lack(log: Path) -> None:
    if "laurel" not in available():
        pytest.skip("no laurel")
    counts, told = compare(laurel([log]), ours([log]))
    assert counts["events"] > 5
    assert counts["missing"] == 0, told


def test_a_split_argument_is_what_laurel_makes_of_it(tmp_path: Path) -> None:
    if "laurel" not in available():
        pytest.skip("no laurel")
    head = "msg=audit(1700000000.100:5):"
    pieces = [f"a1[{i}]=" + ("41" * 3000) for i in range(3)]
    log = tmp_path / "log"
    log.write_text(
        f'type=SYSCALL {head} arch=c000003e syscall=59 success=yes exit=0 items=0 ppid=1 pid=9 uid=0 comm="sh"\n'
        f'type=EXECVE {head} argc=3 a0="sh" a1_len=9000 {pieces[0]}\ntype=EXECVE {head} {pieces[1]}\n'
        f'type=EXECVE {head} {pieces[2]} a2="end"\ntype=EOE {head} \n'
    )
    [(key, theirs)] = laurel([log])
    assert ours([log])[key]["EXECVE"][0]["argv"] == theirs["EXECVE"][0]["argv"] == ["sh", "A" * 9000, "end"]
