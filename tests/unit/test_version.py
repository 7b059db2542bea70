"""The version stands in ``auditns_connector/__init__.py``; whatever names a release names the same one, of one day."""

import datetime
import email.utils
import re
from pathlib import Path

from auditns_connector import __version__

TOP = Path(__file__).parents[2]
#: without what says that it is not released yet
BASE = __version__.partition(".dev")[0]
DAY = re.compile(r"\d{4}-\d\d-\d\d")


def first(path: str, pattern: str) -> re.Match[str]:
    found = re.search(pattern, (TOP / path).read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None, (path, pattern)
    return found


def test_the_newest_heading_is_of_this_version() -> None:
    version, state = first("CHANGELOG.md", r"^## (\S+) (?:- )?(.+)$").groups()
    assert version == BASE
    assert state == "(unreleased)" or DAY.fullmatch(state)
    assert __version__ == BASE or state == "(unreleased)", "a released version needs its heading, and the next one too"


def test_a_release_has_one_version_and_one_day_everywhere() -> None:
    version, day = first("CHANGELOG.md", r"^## (\S+) - (\d{4}-\d\d-\d\d)$").groups()
    date = datetime.date.fromisoformat(day)
    assert first("packaging/debian/changelog", r"^auditns-connector \((.*)\)")[1] == version
    written = email.utils.parsedate_to_datetime(first("packaging/debian/changelog", r"^ -- .*>  (.*)$")[1])
    assert written.date() == date
    assert first("packaging/auditns-connector.spec", r"^Version: *(.*)$")[1] == version
    assert first("packaging/auditns-connector.spec", r"^%changelog\n\* (.*)$")[1].startswith(f"{date:%a %b %d %Y} ")
    assert first("packaging/auditns-connector.spec", r"^%changelog\n.* - (.*)-\d+$")[1] == version
    assert first("packaging/selinux/auditns.te", r"^policy_module\(auditns, (.*)\)$")[1] == version
    for page in sorted((TOP / "man").iterdir()):
        assert first(f"man/{page.name}", r"^\.TH .*$")[0].split('"')[1:4:2] == [day, f"auditns {version}"], page
