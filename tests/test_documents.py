"""What documents point to exists."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[1]


def test_each_row_of_the_conditions_names_tests_that_exist():
    text = (ROOT / "docs" / "conditions.md").read_text()
    pairs = re.findall(r"`(\w)` (?:stands )?for\s+`([\w/]+\.py)`", text)
    files = dict(pairs)
    assert len(files) == len(pairs) >= 15
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


def _exists(name):
    """Whether a dotted name, such as `resrep_keras.graph.flow.flow`, stands in its file."""
    folder, parts = ROOT / "resrep_keras", name.split(".")[1:]
    while parts and (folder / parts[0]).is_dir():
        folder /= parts.pop(0)
    if not parts:
        return True
    file = folder / f"{parts.pop(0)}.py"
    if not file.exists():  # a public name
        return re.search(rf"\b{file.stem}\b", (folder / "__init__.py").read_text())
    return not parts or re.search(rf"\b{parts[0]}\b", file.read_text())


def test_names_and_paths_in_documents_and_docstrings_exist():
    documents = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    for document in [*documents, *(ROOT / "resrep_keras").rglob("*.py")]:
        text = document.read_text(encoding="utf-8")
        names = re.findall(r"\bresrep_keras(?:\.[A-Za-z_]\w*)+", text)
        lost = {name for name in names if not _exists(name)}
        paths = re.findall(
            r"\b(?:resrep_keras|tests|docs|benchmarks|examples)/[\w/]+\.(?:py|md)\b", text
        )
        lost |= {path for path in paths if not (ROOT / path).exists()}
        assert not lost, f"{document.name} names {sorted(lost)}"
