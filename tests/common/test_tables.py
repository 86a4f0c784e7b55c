"""Tables as text and as Markdown."""

from resrep_keras.common.tables import markdown_table, text_table

HEADER = ("layer", "channels")


def test_names_begin_at_their_left_and_numbers_end_at_their_right():
    assert text_table(HEADER, [("conv", 64), ("dense", 1000)]) == [
        "layer  channels",
        "conv         64",
        "dense      1000",
    ]


def test_whatever_stands_in_a_cell_is_shown_on_one_line():
    """Brackets and colons are no markup of rich, long lines are not cut."""
    long = "x" * 500
    lines = text_table(HEADER, [("f1[0] [red]a[/red]", ":smile:"), ("two\nlines", long)])
    assert lines[1].startswith("f1[0] [red]a[/red]") and lines[1].endswith(":smile:")
    assert lines[2].startswith("two lines") and lines[2].endswith(long)


def test_a_table_in_markdown():
    assert markdown_table(HEADER, [("a|b", 7)]) == [
        "| layer | channels |",
        "|-------|---------:|",
        "| a\\|b  |        7 |",
    ]


def test_a_table_without_rows_is_its_header():
    assert text_table(HEADER, []) == ["layer  channels"]
    assert len(markdown_table(HEADER, [])) == 2


def test_tables_are_text_in_notebooks_too(monkeypatch):
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert text_table(["layer", "channels"], [["conv", 64]]) == [
        "layer  channels",
        "conv         64",
    ]
