"""The vocabulary of errors and the table that documents it."""

import re

from serving.errors import Problem
from tests.conftest import ROOT


def test_the_reference_lists_every_error() -> None:
    section = (ROOT / "docs/reference.md").read_text().partition("## Errors")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| (\d+) \| `(.+)` \| (.+) \|$", section, re.MULTILINE)
    shown = [(str(one.status.value), re.sub(r"{\w+}", "…", one.text), one.cause) for one in Problem]
    assert listed == shown
