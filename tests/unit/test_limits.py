"""Modules and functions that fit in the head: 400 lines, a complexity of 12. What does not yet is listed."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.complexity import functions

ROOT = Path(__file__).resolve().parents[2]
MOST_LINES = 400
#: above it today; one that has shrunk is to be taken out, none is to be added
LONG: set[str] = set()
MOST_COMPLEX: Final = 12
#: functions of C above it, and why; one that has shrunk is to be taken out, none is to grow
COMPLEX_C: Final = {
    "one pass over text that anybody may have written: each byte decides what may come next": {
        "archive/index_terms.c sockaddr_term": 14,
        "archive/paths.c append": 19,
        "audittext/head.c digits": 13,
        "audittext/head.c parse_head": 24,
        "audittext/head.c parse_stamp": 18,
        "audittext/head.c take_event": 14,
        "audittext/lead.c skip_5424": 19,
        "audittext/lead.c skip_json": 15,
        "audittext/lead.c skip_lead": 18,
        "audittext/lead.c skip_tags": 20,
        "audittext/lead.c skip_time": 18,
        "audittext/types.c type_number": 16,
        "hook/auditns_oci_hook.c document": 14,
        "intake/events.c cut_events": 14,
        "intake/events.c stamp_of": 14,
        "json/argv.c read_name": 15,
        "json/fast.c put_braced": 15,
        "json/fast.c put_words": 13,
        "json/out.c sequence": 15,
        "kernel/procscan.c number": 15,
        "kernel/procscan.c take_comm": 13,
        "kernel/tracefs.c child": 13,
        "query/infos.c auditns_infos": 14,
    },
    "a switch over letters, types or kinds, a line or two for each": {
        "archive/index_terms.c kernel_word": 14,
        "audittext/fields.c subject_fields": 29,
        "audittext/place.c follow": 18,
        "json/record.c put_any": 16,
        "kernel/cnproc.c data_needed": 13,
        "kernel/cnproc.c event": 17,
        "kernel/perf.c perf_record": 16,
        "kernel/perf.c sample": 20,
        "table/apply.c apply": 18,
    },
    "all that must hold for C to answer or to apply alone, side by side; where one does not, Python does it": {
        "attribution/clone_result.c returned": 16,
        "attribution/row_lookup.c answer_of": 13,
        "attribution/row_lookup.c only_exec": 23,
        "loop/coalescer.c coalescer_pause": 13,
        "loop/loop.c loop_round": 17,
        "table/apply.c execed": 15,
        "table/apply.c exited": 17,
        "table/apply.c exiting": 16,
        "table/apply.c forked": 13,
        "table/lives.c life_can_begin": 16,
        "table/lives.c life_named": 14,
    },
    "the steps of one line, event or block, in the order that matters": {
        "archive/collect.c count_event": 13,
        "archive/collect.c take_event": 18,
        "archive/holder.c archive_holder": 15,
        "archive/tallies.c archive_note_info": 13,
        "archive/tallies.c archive_note_serial": 13,
        "attribution/group.c auditns_group": 13,
        "audittext/scan.c auditns_scan": 17,
        "audittext/scan.c defer_points": 14,
        "audittext/scan.c hand_out": 13,
        "audittext/scan.c one_line": 16,
        "audittext/scan.c record": 15,
        "audittext/serials.c serial_came": 14,
        "audittext/whole.c whole_line": 15,
        "audittext/whole_asked.c auditns_kept": 13,
        "frames/frames.c entries_order": 15,
        "intake/queue.c queue_add": 13,
        "json/json.c auditns_json": 15,
        "json/json.c put_event": 16,
        "json/names.c name_add": 13,
        "query/who.c auditns_who": 15,
        "query/who.c one_record": 13,
    },
    "system calls, each with what its failure means": {
        "hook/auditns_oci_hook.c main": 13,
        "intake/intake.c read_self": 13,
        "intake/thread.c take_once": 20,
        "kernel/cnproc.c cn_drain": 14,
        "kernel/procscan.c take": 15,
        "process/spawner.c become": 13,
        "process/spawner.c serve": 13,
        "process/spawner.c start": 14,
    },
}


def test_no_module_is_longer_than_400_lines() -> None:
    paths = [path for folder in ("auditns_connector", "cdefs") for path in (ROOT / folder).rglob("*.[pch]*")]
    found = {
        str(path.relative_to(ROOT))
        for path in paths
        if path.suffix in (".py", ".c", ".h") and len(path.read_text(encoding="utf-8").splitlines()) > MOST_LINES
    }
    assert found == LONG, sorted(found ^ LONG)


def test_no_function_is_more_complex_than_12() -> None:
    ruff = shutil.which("ruff", path=f"{Path(sys.executable).parent}") or shutil.which("ruff")
    if ruff is None:
        pytest.skip("no ruff")
    command = [ruff, "check", "--isolated", "--select", "C901", "--config", "lint.mccabe.max-complexity=12"]
    done = subprocess.run(
        [*command, "--output-format", "json", "auditns_connector"], cwd=ROOT, capture_output=True, text=True
    )
    found = {
        (str(Path(one["filename"]).relative_to(ROOT)), one["message"].split("`")[1]) for one in json.loads(done.stdout)
    }
    assert sorted(found) == []


def test_no_function_of_c_is_more_complex_than_12_without_a_reason() -> None:
    found = {
        f"{path.relative_to(ROOT / 'cdefs')} {name}": complexity
        for path in sorted((ROOT / "cdefs").rglob("*.[ch]"))
        for name, complexity in functions(path.read_text(encoding="utf-8"))
        if complexity > MOST_COMPLEX
    }
    assert found == {name: complexity for group in COMPLEX_C.values() for name, complexity in group.items()}


def test_each_function_of_c_is_counted_once() -> None:
    text = """
    #define TWICE(x) if (x && x) y()
    static struct s one(int a, const struct t (*b)(int)) /* if (a) */
    {
        for (int i = 0; a && i < 3; i++)
            puts(i ? "if (a || b)" : "}");
        switch (a) {
        case 1:
            return '}';
        }
    }
    struct t { int (*f)(int); };
    int two(void) { return 0; }
    """
    assert list(functions(text)) == [("one", 5), ("two", 1)]


def test_hardly_anything_is_any() -> None:
    """What has no better type says what it is: vocabulary/values.py."""
    found = sum(len(re.findall(r"\bAny\b", path.read_text())) for path in (ROOT / "auditns_connector").rglob("*.py"))
    assert found < 60
