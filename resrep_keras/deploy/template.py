"""The HTML of a report, for jinja2. All styles are those of one class: a notebook keeps its own."""

STYLE = """
.resrep-report { --ink: #1c1e21; --paper: #ffffff; --soft: #5b616b; --line: #d9dce1;
  --grid: #dddddd; --head: #f4f5f7; --blue: #2f6fb5;
  color: var(--ink); background: var(--paper); line-height: 1.5;
  font-family: system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; font-size: 15px;
  max-width: 1080px; margin: 0 auto; padding: 1rem 1.25rem 2rem; overflow-wrap: anywhere; }
@media (prefers-color-scheme: dark) {
  .resrep-report { --ink: #e6e8eb; --paper: #16181c; --soft: #a3a9b3; --line: #3a3f47;
    --grid: #3a3f47; --head: #22262c; --blue: #79aee8; } }
.resrep-report h1 { font-size: 1.5rem; margin: .5rem 0 1rem; }
.resrep-report h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; padding-top: .75rem;
  border-top: 1px solid var(--line); }
.resrep-report p { margin: .35rem 0; max-width: 75ch; }
.resrep-report .wide { overflow-x: auto; margin: .75rem 0; }
.resrep-report .tall { max-height: 75vh; overflow: auto; }
.resrep-report table { border-collapse: collapse; font-variant-numeric: tabular-nums;
  font-size: .9rem; background: transparent; color: inherit; }
.resrep-report th, .resrep-report td { padding: .25rem .75rem; text-align: right;
  white-space: nowrap; border: 0; border-bottom: 1px solid var(--line); background: transparent; }
.resrep-report th { position: sticky; top: 0; background: var(--head); font-weight: 600; }
.resrep-report th:first-child, .resrep-report td:first-child { text-align: left; }
.resrep-report summary { cursor: pointer; color: var(--blue); margin: .5rem 0; }
.resrep-report .figure svg { max-width: 100%; height: auto; fill: currentColor; }
.resrep-report .picture { background: #ffffff; border: 1px solid var(--line); }
.resrep-report .picture svg { display: block; max-width: none; }
@media (max-width: 600px) {
  .resrep-report { padding: .5rem .75rem 1.5rem; }
  .resrep-report .figure svg { min-width: 520px; }
  .resrep-report table { font-size: .8rem; }
  .resrep-report th, .resrep-report td { padding: .25rem .35rem; } }
@media print { .resrep-report .tall { max-height: none; } }
"""

PART = """<style>{{ style|safe }}</style>
<div class="resrep-report">
<h1>{{ title }}: dense and slim model</h1>
{% for part in parts %}
<section>
{% if not loop.first %}<h2>{{ part.title }}</h2>{% endif %}
{% for words in part.words %}<p>{{ words }}</p>
{% endfor %}
{% if part.figure %}<div class="figure wide">{{ part.figure|safe }}</div>{% endif %}
{% if part.rows %}
{% if part.folded %}<details><summary>Table of {{ part.rows|length }} rows</summary>{% endif %}
<div class="wide{{ ' tall' if part.folded }}"><table>
<thead><tr>{% for cell in part.header %}<th scope="col">{{ cell }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in part.rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% if part.folded %}</details>{% endif %}
{% endif %}
{% if part.picture %}<details><summary>Show the picture</summary>
<div class="picture wide tall">{{ part.picture|safe }}</div></details>{% endif %}
</section>
{% endfor %}
</div>
"""

PAGE = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{{{ title }}}}: dense and slim model</title>
<style>html {{ background: #ffffff; }} body {{ margin: 0; }}
@media (prefers-color-scheme: dark) {{ html {{ background: #16181c; }} }}</style>
</head>
<body>
{PART}</body>
</html>
"""
