"""What documents point to exists."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[1]


def test_each_row_of_the_conditions_names_tests_that_exist():
    text = (ROOT / "docs" / "conditions.md").read_text()
    files = dict(re.findall(r"`(\w)` (?:stands )?for\s+`([\w/]+\.py)`", text))
    assert len(files) == 13
    names = re.findall(r"`(\w)::(test_\w+)`", text)
    assert len(names) > 50
    for letter, name in names:
        path = ROOT / "tests" / files[letter].removeprefix("tests/")
        path = path if path.exists() else path.parent / "conditions" / path.name
        assert f"def {name}(" in path.read_text(), f"{path.name} has no {name}"


def test_links_lead_somewhere():
    for document in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
