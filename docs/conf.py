"""The documentation as a site: `python -m sphinx -W docs output/docs`."""

import os
import re

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import resrep_keras

project = "resrep_keras"
author = "The resrep_keras authors"
copyright = author
release = version = resrep_keras.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = [("Call arguments", "params_style")]
autodoc_member_order = "bysource"
default_role = "code"  # docstrings write names in single backquotes, as Markdown does
exclude_patterns = ["_build"]


def link_to_files(app, document, source):
    """Links to tables outside of docs/ lead to copies of these files; MyST takes them for pages."""
    del app, document
    source[0] = re.sub(r"\]\((\.\./[\w/]+\.md)\)", r"](<path:\1>)", source[0])


def as_markdown(app, what, name, obj, options, lines):
    """Docstrings have blocks between fences, and plurals of names in backquotes."""
    del app, what, name, obj, options
    fences = [number for number, line in enumerate(lines) if line.strip() == "```"]
    for start, end in zip(fences[::2], fences[1::2], strict=True):
        lines[start] = lines[start].replace("```", "::")
        lines[start + 1 : end] = [f"    {line}" for line in lines[start + 1 : end]]
        lines[end] = ""
    for start in reversed(fences[::2]):
        lines.insert(start + 1, "")
    lines[:] = [re.sub(r"(`[^`]+`)(?=s\b)", r"\1\\ ", line) for line in lines]


def setup(app):
    app.connect("source-read", link_to_files)
    app.connect("autodoc-process-docstring", as_markdown, priority=100)  # before napoleon


html_theme = "furo"
html_title = f"resrep_keras {release}"
