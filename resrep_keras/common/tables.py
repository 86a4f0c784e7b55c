"""Tables as lines of text and as Markdown, set by rich, which Keras brings along."""

import io

WIDEST = 100_000  # columns of a page on which nothing is cut


def text_table(header, rows, left=(0,)):
    """A table of aligned columns.

    Args:
        header: The words above the columns.
        rows: Lists of what stands in them; whatever it is, its `str` is shown, on one line.
        left: The columns that begin at their left; numbers end at their right. Defaults to the
            first.

    Returns:
        Lines of text, without blanks at their ends.

    Example:

    >>> text_table(["layer", "channels"], [["conv", 64], ["dense", 1000]])
    ['layer  channels', 'conv         64', 'dense      1000']
    """
    return _set(header, rows, left, box=None, pad_edge=False, padding=(0, 2, 0, 0))


def markdown_table(header, rows, left=(0,)):
    """The same table in Markdown: lines of text. Bars in cells are escaped."""
    from rich import box

    escaped = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    head, rule, *body = _set(header, escaped, left, box=box.MARKDOWN)
    columns = rule.strip("|").split("|")
    marked = [c if n in left else f"{c[:-1]}:" for n, c in enumerate(columns)]
    return [head, f"|{'|'.join(marked)}|", *body]


def _set(header, rows, left, **look):
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=True, **look)
    for number, words in enumerate(header):
        side = "left" if number in left else "right"
        table.add_column(Text(words), justify=side, no_wrap=True)
    for row in rows:
        # Texts, since brackets in names are no markup.
        table.add_row(*(Text(" ".join(str(cell).split())) for cell in row))
    page = io.StringIO()
    # In a notebook it would show the table there, and write nothing.
    plain = {"color_system": None, "emoji": False, "force_jupyter": False, "force_terminal": False}
    Console(file=page, width=WIDEST, **plain).print(table)
    lines = [line.rstrip() for line in page.getvalue().splitlines()]
    return [line for line in lines if line]
