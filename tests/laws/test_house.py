"""The figures of the house: printed at the end of a run that has this file, and by

python -m tests.laws.house
"""

import ast
import re

import pytest

from tests.laws.exceptions import IMPORTS, WITHOUT_TEST
from tests.laws.house import LEVELS, ROOT, figures, modules


@pytest.mark.parametrize("figure", figures(len(IMPORTS)), ids=lambda figure: figure.words)
def test_figures_are_within_their_bounds(figure):
    assert figure.value <= figure.at_most, str(figure)


def _test_of(name):
    folder, _, file = name.rpartition("/")
    return ROOT / "tests" / folder / f"test_{file}.py"


def test_each_file_has_a_test_of_its_name():
    names = {name for name in modules() if not name.endswith("__init__")}
    without = {name for name in names if not _test_of(name).exists()}
    assert not without - set(WITHOUT_TEST)
    assert not set(WITHOUT_TEST) - without, "exceptions that nobody needs"


# --- docs/architecture.md -------------------------------------------------------------------------

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_the_page_has_the_folders_in_their_order():
    rows = re.findall(r"^\| `([\w/]+)` \| (.*) \|$", PAGE, re.MULTILINE)
    rows = {folder: text for folder, text in rows if folder in LEVELS}
    assert list(rows) == list(LEVELS)
    for folder, text in rows.items():
        files = {name.split("/")[-1] for name, m in modules().items() if m.folder == folder}
        files -= {"__init__", folder.split("/")[-1]}
        named = set(re.findall(r"`(\w+)`", text))
        assert files <= named, f"{folder}: the page does not name {sorted(files - named)}"
    picture = PAGE[PAGE.index("```\n  __main__") :].split("```")[1]
    drawn = re.findall(r"^ +([\w/]+)  ", picture, re.MULTILINE)
    assert set(drawn) == set(rows)
    levels = [LEVELS[folder] for folder in drawn if folder.count("/") == 0]
    assert levels == sorted(levels, reverse=True)


def test_the_page_lists_the_open_questions():
    rows = re.findall(r"^\| `(\w+)` \| `([\w/]+)` \| .*\? \|$", PAGE, re.MULTILINE)
    found = {
        (node.name, name)
        for name, module in modules().items()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef)
        and any(ast.unparse(d) == "functools.singledispatch" for d in node.decorator_list)
    }
    assert set(rows) == found
