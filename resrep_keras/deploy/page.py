"""A report as text, Markdown, and one HTML page that holds its figures."""

import importlib
import io

from resrep_keras.common.tables import markdown_table, text_table
from resrep_keras.deploy.sections import LARGEST_PICTURE, sections_of
from resrep_keras.deploy.template import PAGE, PART, STYLE

PACKAGES = ("jinja2", "matplotlib", "scipy.optimize")
MISSING = (
    "A report in HTML needs packages that are not installed ({error}): pip install "
    '"resrep-keras[reports]". Text, JSON and Markdown need none.'
)


def text_page(report):
    """What `print` shows: the summary, the layers and the certificate."""
    summary, certificate, layers, *_, conditions = sections_of(report)
    parts = [text_table(summary.header, summary.rows)] if summary.rows else []
    if layers.rows:
        parts.append(text_table(layers.header, layers.rows))
    notes = [f"{row.name} are unknown: {row.note}" for row in report.rows if row.note]
    told = certificate.words if report.certificate is not None else ()
    parts.append([*notes, *told, *conditions.words])
    return "\n\n".join("\n".join(lines) for lines in parts)


def markdown_page(report):
    """The report as Markdown, without figures."""
    parts = [f"# {report.name}: dense and slim model"]
    for section in sections_of(report):
        if section.picture is not None:
            continue
        parts += [f"## {section.title}", *section.words]
        if section.rows:
            parts.append("\n".join(markdown_table(section.header, section.rows)))
    return "\n\n".join(parts) + "\n"


def html_page(report):
    """The report as one page, which asks no network for anything.

    Raises:
        ImportError: Without the packages of the extra `reports`.
    """
    return _rendered(PAGE, report)


def html_fragment(report):
    """The same as a part of another page, such as a notebook."""
    return _rendered(PART, report)


def check_packages():
    """Raise where a page in HTML cannot be made.

    Raises:
        ImportError: Names the extra.
    """
    try:
        for name in PACKAGES:
            importlib.import_module(name)
    except ImportError as error:
        raise ImportError(MISSING.format(error=error)) from error


def _rendered(template, report):
    check_packages()
    import jinja2

    parts = [_part(section) for section in sections_of(report)]
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    made = environment.from_string(template)
    return made.render(title=report.name, parts=parts, style=STYLE)


def _part(section):
    """What the template reads of a section: figures are drawn."""
    picture, words = None, list(section.words)
    if section.picture is not None:
        picture = section.picture()
        if len(picture) > LARGEST_PICTURE:
            words.append(
                f"The picture is too large for this page ({len(picture):,} characters); "
                'explain(model).to_svg("model.svg") writes it.'
            )
            picture = None
    figure = None if section.figure is None else _svg(section.figure(), section.title)
    return {
        "title": section.title,
        "words": words,
        "header": section.header,
        "rows": section.rows,
        "figure": figure,
        "picture": picture,
        "folded": len(section.rows) > 12,
    }


def _svg(figure, name):
    """A figure as the text of an SVG element, in the colours of the page around it."""
    import matplotlib

    page = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        figure.savefig(page, format="svg", transparent=True, metadata={"Date": None})
    text = page.getvalue()
    text = text[text.index("<svg") :]
    for drawn, shown in (("#000000", "currentColor"), ("#dddddd", "var(--grid)")):
        text = text.replace(drawn, shown)
    return text
