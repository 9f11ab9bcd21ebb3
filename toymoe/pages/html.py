"""Self-contained HTML pages: tables, and figures with what they show and their control."""

import base64
from html import escape

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; background: #fff; overflow-wrap: anywhere }
h1, h2 { line-height: 1.2 } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc }
p, dl, .findings { max-width: 60rem }
.wide { overflow-x: auto; margin: 1rem 0; overflow-wrap: normal }
img { max-width: 100%; display: block; margin: 0 auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid #ddd;
         vertical-align: top }
.finding { font-weight: bold; font-size: 1.125rem }
.findings li { margin: .4rem 0; font-size: 1.125rem }
dt { font-weight: bold; float: left; clear: left; margin-right: .5rem } dd { margin: 0 }
.control { border-left: 4px solid #0072B2; padding-left: .8rem; color: #444 }
pre { white-space: pre-wrap; background: #f6f6f6; padding: .6rem; font-size: 13px }
td pre { margin: 0; padding: .2rem; background: none }
@media (max-width: 50rem) { .wide img { max-width: none; width: 56rem } td pre { width: 20rem } }
"""


def page(title: str, parts: list[str]) -> str:
    """A self-contained page of some markup."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def figure(
    title: str, image: bytes, caption: str, control: str = "", finding: str = ""
) -> list[str]:
    """A figure with its heading, what was found, what it shows, and its control."""
    data = base64.b64encode(image).decode()
    parts = [
        f"<h2>{escape(title)}</h2>",
        f'<div class="wide"><img alt="{escape(caption)}" src="data:image/png;base64,{data}"></div>',
        f"<p>{escape(caption)}</p>",
    ]
    if finding:
        parts.insert(1, f'<p class="finding">{escape(finding)}</p>')
    if control:
        parts.append(f'<p class="control"><b>Control.</b> {escape(control)}</p>')
    return parts


def bullets(lines: list[str]) -> str:
    """Findings, one below the other."""
    return '<ul class="findings">' + "".join(f"<li>{escape(x)}</li>" for x in lines) + "</ul>"


def terms(meanings: dict[str, str]) -> str:
    """Words and what they mean."""
    rows = (f"<dt>{escape(word)}</dt><dd>{escape(said)}</dd>" for word, said in meanings.items())
    return "<dl>" + "".join(rows) + "</dl>"


class Markup(str):
    """Markup, not to be escaped."""


def table(head, rows) -> str:
    """A table of anything, its cells escaped, in a box that scrolls where it is too wide."""

    def row(cells, tag):
        cells = (c if isinstance(c, Markup) else escape(str(c)) for c in cells)
        return "<tr>" + "".join(f"<{tag}>{c}</{tag}>" for c in cells) + "</tr>"

    body = row(head, "th") + "".join(row(r, "td") for r in rows)
    return f'<div class="wide"><table>{body}</table></div>'
