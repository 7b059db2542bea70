"""``--html``: one file that asks for nothing, readable without scripts, and nothing that a name can run or break."""

import html.parser
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from auditns_connector.query.html import render
from auditns_connector.query.page import Band, Bar, Mark, Page, Table
from tests.chromium import PROGRAM, Browser
from tests.unit.queries import BASE, WEB, Ask, asked, entry, event, executed, info, opened

__all__ = ["asked"]
HOSTILE = (
    "</script><script>document.title='run'</script>", '"><img src=x onerror="document.title=1">', "' onfocus='x",
    "<svg/onload=document.title=2>", "{{7*7}}{% raw %}", "javascript:document.title=3", "</title></style><b>x",
    "\u202egnp.exe\u0000\x1b]0;x\x07", "]]><!--", "&lt;&#x3c;",
)  # fmt: skip


class Elements(html.parser.HTMLParser):
    """Tags and attributes of a document."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def page_of(name: str) -> Page:
    """A page that says ``name`` wherever a name may stand."""
    table = Table("processes", name, (name, "n"), [(name, "1"), ("plain", "2")], 1, frozenset(("n",)))
    marks = [Mark(BASE * 1000 + 5, kind, name) for kind in ("exec", "fail", "net")]
    bars = [Bar(name, BASE * 1000, BASE * 1000 + 9000, 0, 0, marks)]
    return Page(
        name, ((name, name),), (table,), bars, [Band(BASE * 1000, BASE * 1000 + 1, "loss", name)], "processes", (name,)
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_nothing_but_text(name: str) -> None:
    plain, evil = Elements(render(page_of("plain"))), Elements(render(page_of(name)))
    assert [tag for tag, _ in evil.tags] == [tag for tag, _ in plain.tags]
    assert [sorted(attrs) for _, attrs in evil.tags] == [sorted(attrs) for _, attrs in plain.tags]
    assert {attrs.get("href", "#") for _, attrs in evil.tags if (attrs.get("href") or "#")[:1] != "#"} == set()
    assert "\u202e" not in render(page_of(name))
    assert "\x1b" not in render(page_of(name))
    assert "49" not in render(page_of("{{7*7}}")).split("<script>")[0].split("<h1>")[1].split("</h1>")[0]


def test_the_file_names_nothing_outside_and_allows_nothing() -> None:
    text = render(page_of("x"))
    assert re.findall(r"(?:https?:|//[a-z])", re.sub(r"<script>.*</script>", "", text, flags=re.DOTALL)) == []
    (policy,) = [attrs["content"] for tag, attrs in Elements(text).tags if attrs.get("http-equiv")]
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert not [
        attrs for _, attrs in Elements(text).tags if any(name.startswith("on") or name == "style" for name in attrs)
    ]


def test_more_than_is_drawn_is_told() -> None:
    bars = [Bar(f"p{i}", BASE * 1000, BASE * 1000 + i, 0, i, ()) for i in range(500)]
    rows = [(f"p{i}",) for i in range(6000)]
    text = render(Page("x", (), (Table("processes", "P", ("p",), rows),), bars, (), "processes"))
    assert "100 more are not drawn" in text
    assert "1000 more rows are not here" in text


# -- in a browser


def busy() -> str:
    """A day in the life of a container, names that would run included."""
    evil = "</script><script>document.title='run'</script>"
    evil_hex = evil.encode().hex().upper()
    lines = [info(9001, 0, WEB, "web", "nginx:1.25")]
    for i in range(14):
        pid, at = 100 + i, 3 * i
        program = ("/usr/sbin/nginx", "/bin/sh", "/usr/bin/curl", "/bin/cat")[i % 4]
        lines.append(executed(10 * i + 1, at, pid, 100 + (i - 1) // 2 if i else 1, program, f"--worker={i}", ours=WEB))
        for k in range(3):
            path = ("/etc/passwd", "/var/cache/x", "/proc/self/maps")[k]
            failed = {"success": "no", "exit": -13} if k == 2 else {}
            flags = "241" if k == 1 else "0"
            ppid = 100 + (i - 1) // 2 if i else 1
            lines.append(opened(10 * i + 2 + k, at + 2 * k, pid, path, ours=WEB, flags=flags, ppid=ppid, **failed))
        name = f"PATH item=0 name={evil_hex} nametype=NORMAL"
        how = "arch=c000003e syscall=257 success=yes exit=0"
        call = f'SYSCALL {how} ppid=102 pid={pid} auid=1000 uid=0 comm={evil_hex} exe="/x"'
        if i == 5:
            lines.append(event(10 * i + 6, at + 7, call, name, ours=WEB))
    came = f"CONTAINER_INFO contid={WEB} entry={'8d0e' * 8}:70:5"
    lines.append(entry(9004, 20, WEB, "web", "nginx:1.25", 70))
    for i, argv in enumerate(("bash", "cat /etc/shadow")):
        how = "arch=c000003e syscall=59 success=yes exit=0"
        sys = f'SYSCALL {how} ppid=2 pid=70 auid=1000 uid=0 comm="bash" exe="/bin/bash"'
        words = " ".join(f'a{n}="{word}"' for n, word in enumerate(argv.split()))
        lines.append(event(500 + i, 21 + 6 * i, sys, f"EXECVE {words}", came, ours=WEB))
    stamp = f"msg=audit({BASE + 33}.000:9900):"
    lines.append(f"type=CONTAINER_LOST {stamp} source=perf cpu=1 count=7 from={BASE + 31}.000 to={BASE + 33}.000\n")
    return "".join(lines)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if PROGRAM is None:
        if os.environ.get("AUDITNS_KERNEL_TESTS") == "1":
            pytest.fail("no chromium: apt-get install chromium")
        pytest.skip("no chromium: apt-get install chromium")
    with Browser() as one:
        yield one


@pytest.fixture
def written(asked: Ask) -> Path:
    asked.path.write_text(busy())
    place = asked.folder / "web.html"
    asked("show", "web", "--html", str(place))
    assert asked.code == 0
    return place


def test_it_is_shown_filtered_and_zoomed(browser: Browser, written: Path) -> None:
    browser.asked.clear()
    browser.said.clear()
    browser.open(written)
    assert browser.js("document.title") == "container web (1001)"
    assert browser.js("document.querySelectorAll('.bar').length") == 15
    assert browser.js("document.querySelectorAll('.band.k-loss').length") == 1
    assert browser.js("document.querySelectorAll('.band.k-entry').length") == 1
    assert browser.js("document.querySelector('#zoom-in').offsetHeight") > 0

    def bar() -> Any:
        return browser.js("Number(document.querySelector('.bar rect').getAttribute('width'))")

    before = bar()
    browser.click("#zoom-in")
    assert browser.js("document.querySelector('#range').textContent").count(" to ") == 1
    assert browser.js("document.querySelector('.mark[visibility=hidden]') !== null")
    browser.click("#all")
    assert bar() == pytest.approx(before, abs=0.01)
    browser.js("document.querySelector('#frame').focus()")
    browser.key("+", "+")
    browser.key("ArrowRight")
    assert browser.js("document.querySelector('#range').textContent") != browser.js(
        "document.querySelector('#plot').dataset.first"
    )
    browser.key("0", "0")
    assert bar() == pytest.approx(before, abs=0.01)
    browser.click("#filter")
    browser.write("shadow")
    assert browser.js("[...document.querySelectorAll('tbody tr')].filter((row) => !row.hidden).length") == 2
    assert browser.js("document.querySelector('#found').textContent") == "2 rows"
    browser.click("input.kind[value=read]")
    assert browser.js("document.querySelector('.mark.k-read[data-kind]').getAttribute('display')") == "none"
    assert [one for one in browser.asked if not one.startswith("file://")] == []
    assert len(browser.asked) == 1
    assert browser.said == []


def test_a_bar_leads_to_its_row_by_the_keyboard(browser: Browser, written: Path) -> None:
    browser.open(written)
    browser.js("document.querySelectorAll('.bar')[2].focus()")
    browser.key("Enter", "\r")
    assert browser.js("location.hash") == "#processes-2"
    assert browser.js("document.querySelector('tr:target').cells[1].textContent") == browser.js(
        "document.querySelectorAll('.bar')[2].querySelector('text').textContent.split(' ').pop()"
    )


def test_it_is_read_without_scripts(browser: Browser, written: Path) -> None:
    browser.open(written, scripts=False)
    text = browser.call("DOM.getOuterHTML", nodeId=browser.call("DOM.getDocument")["root"]["nodeId"])["outerHTML"]
    assert "cat /etc/shadow" in text
    assert len(browser.picture()) > 10_000
    browser.open(written)  # hidden is what needs a script
    assert browser.js("[...document.querySelectorAll('.scripted')].every((one) => !one.hidden)")


def test_what_a_screen_reader_is_told(browser: Browser, written: Path) -> None:
    browser.open(written)
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    told = [(node.get("role", {}).get("value"), node.get("name", {}).get("value", "")) for node in nodes]
    links = [name for role, name in told if role == "link"]
    assert any("100:" in name and " to " in name for name in links)
    assert [name for role, name in told if role == "button"] == ["Zoom in", "Zoom out", "Earlier", "Later", "All"]
    assert any(role == "image" and "records lost" in name for role, name in told)
    assert any(role == "searchbox" and name == "Show rows with" for role, name in told)
    assert any(role == "table" and name.startswith("Processes") for role, name in told)
    assert [name for role, name in told if role in ("button", "link", "checkbox", "searchbox") and not name] == []


@pytest.mark.parametrize("dark", [False, True])
def test_words_can_be_read_on_their_ground(browser: Browser, written: Path, dark: bool) -> None:
    """WCAG: 4.5 for text."""
    browser.open(written, dark=dark)
    worst = browser.js("""(() => {
      const light = (c) => { const [r, g, b] = c.match(/[0-9.]+/g).map(Number).map((v) => v / 255)
        .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126*r + 0.7152*g + 0.0722*b; };
      const ground = light(getComputedStyle(document.body).backgroundColor);
      return Math.min(...['h1', 'dt', 'dd', 'th', 'td', 'a', 'caption', 'footer'].map((name) => {
        const ink = light(getComputedStyle(document.querySelector(name)).color);
        return (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05); })); })()""")
    assert worst >= 4.5
    (written.parent / f"dark-{dark}.png").write_bytes(browser.picture())


def test_report_as_a_page(browser: Browser, asked: Ask) -> None:
    place = asked.folder / "report.html"
    asked("report", "--html", str(place))
    browser.open(place)
    assert browser.js("document.querySelectorAll('.bar').length") == 4
    assert browser.js("document.querySelector('#crossing tbody tr').textContent").startswith("killwebdb")
