"""Every Python block of README, docs and notebooks runs."""

import pytest

from tests import document_blocks

# tests/test_extension.py runs it, and looks at what comes out.
ELSEWHERE = ("extending.md",)
PAGES = [
    page
    for page in document_blocks.PAGES
    if document_blocks.blocks(page) and page.name not in ELSEWHERE
]


@pytest.mark.tensorflow_only
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks_of_pages_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    document_blocks.run(document_blocks.blocks(page), page.stem)


@pytest.mark.tensorflow_only
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("notebook", document_blocks.NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(notebook, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    document_blocks.run(document_blocks.cells(notebook), notebook.stem)


def test_each_block_is_found():
    for page in document_blocks.PAGES:
        assert len(document_blocks.blocks(page)) == page.read_text("utf-8").count("```python")
