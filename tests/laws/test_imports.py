"""Law 7: a file imports only from folders below its own, and BUILD says the same."""

import ast

import pytest

from tests.laws import build_file
from tests.laws.exceptions import HEAVY, IMPORTS
from tests.laws.house import LEVELS, ROOT, imported, modules, upward


def test_every_file_stands_in_a_folder_of_the_list():
    lost = {name for name, module in modules().items() if module.folder is None}
    assert lost == {"__init__"}


def test_every_folder_of_the_list_has_files():
    folders = {module.folder for module in modules().values()}
    assert set(LEVELS) <= folders


def test_files_import_from_below():
    found = set(upward())
    assert not found - set(IMPORTS), "imports of a folder that does not stand below"
    assert not set(IMPORTS) - found, "exceptions that nobody needs"


@pytest.mark.parametrize("library", HEAVY)
def test_heavy_libraries_are_imported_late_and_in_few_places(library):
    for name, module in modules().items():
        used = any(n.split(".")[0] == library for n in imported(module.tree))
        assert not used or name in HEAVY[library], f"{name} uses {library}"
        early = imported(module.tree, top_level_only=True)
        assert not any(n.split(".")[0] == library for n in early)


def test_build_is_what_the_tree_says():
    """Where this fails: python -m tests.laws.build_file --write"""
    assert (ROOT / "BUILD").read_text(encoding="utf-8") == build_file.text()


def test_no_test_imports_another():
    for path in (ROOT / "tests").rglob("*.py"):
        names = imported(ast.parse(path.read_text(encoding="utf-8")))
        assert not [n for n in names if n.startswith("tests.") and ".test_" in n], path
