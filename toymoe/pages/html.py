"""Self-contained HTML pages: tables, and figures with what they show and their control."""

import base64
from html import escape

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; background: #fff }
h1, h2 { line-height: 1.2 } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc }
img { max-width: 100%; display: block; margin: 1rem auto }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid #ddd;
         vertical-align: top }
.control { border-left: 4px solid #0072B2; padding-left: .8rem; color: #444 }
pre { white-space: pre-wrap; background: #f6f6f6; padding: .6rem; font-size: 13px }
td pre { margin: 0; padding: .2rem; background: none }
"""


def page(title: str, parts: list[str]) -> str:
    """A self-contained page of some markup."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def figure(title: str, image: bytes, caption: str, control: str = "") -> list[str]:
    """A figure with its heading, what it shows, and its control."""
    data = base64.b64encode(image).decode()
    parts = [
        f"<h2>{escape(title)}</h2>",
        f'<img alt="{escape(caption)}" src="data:image/png;base64,{data}">',
        f"<p>{escape(caption)}</p>",
    ]
    if control:
        parts.append(f'<p class="control"><b>Control.</b> {escape(control)}</p>')
    return parts


class Markup(str):
    """Markup, not to be escaped."""


def table(head, rows) -> str:
    """A table of anything, its cells escaped."""

    def row(cells, tag):
        cells = (c if isinstance(c, Markup) else escape(str(c)) for c in cells)
        return "<tr>" + "".join(f"<{tag}>{c}</{tag}>" for c in cells) + "</tr>"

    return "<table>" + row(head, "th") + "".join(row(r, "td") for r in rows) + "</table>"
