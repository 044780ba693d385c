"""The frame of a page, and texts and tables inside it. All that is shown passes through `escaped`."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from pathlib import Path

from es_latechunk.documents import printable
from es_latechunk.errors import UsageError, setting

# A page may use its own styles, and nothing else: no script, no image, no font, from nowhere.
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
STYLE = """
:root {
  color-scheme: light dark;
  --page: #f5f6f8; --card: #fff; --ink: #1c232e; --quiet: #586273; --rule: #d9dde4; --good: #1a7040;
  --least: rgb(255 240 170 / .15); --most: rgb(248 172 16 / .85);
  --series-0: #1d5fbf; --series-1: #c2571a; --series-2: #1a7040; --series-3: #8a3ab9; --series-4: #a08000;
  --series-5: #00818a; --series-6: #b3245d; --series-7: #586273;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #12161c; --card: #1a2029; --ink: #e4e8ee; --quiet: #9aa5b5; --rule: #303947; --good: #6fcf97;
    --least: rgb(210 180 60 / .06); --most: rgb(205 115 20 / .6);
    --series-0: #7fb2ff; --series-1: #f0976a; --series-2: #6fcf97; --series-3: #c89bea; --series-4: #d9c24a;
    --series-5: #5fc9d1; --series-6: #f08ab3; --series-7: #9aa5b5;
  }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 78rem; background: var(--page); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.15rem; margin-top: 2rem; } h3 { font-size: 1rem; margin-bottom: .3rem; }
.quiet { color: var(--quiet); font-size: .875rem; }
.card { padding: .75rem 1rem; border: 1px solid var(--rule); border-radius: .6rem; background: var(--card); }
pre { overflow-x: auto; } .charts { display: flex; flex-wrap: wrap; gap: 1rem; }
svg { width: 24rem; max-width: 100%; height: auto; font: 11px system-ui, sans-serif; }
svg text { fill: var(--ink); } svg .axis { stroke: var(--rule); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .875rem; }
th, td { padding: .2rem .7rem .2rem 0; text-align: start; border-bottom: 1px solid var(--rule); white-space: nowrap; }
td.number, th.number { text-align: end; font-variant-numeric: tabular-nums; }
.sides { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; } .sides > div { min-width: 0; }
@media (max-width: 45rem) { .sides { grid-template-columns: 1fr; } }
ol { padding-inline-start: 1.6rem; } li { margin: .3rem 0; overflow-wrap: anywhere; }
li.relevant { padding-inline-start: .5rem; border-inline-start: 3px solid var(--good); }
.text { white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; }
.sentence { padding: .08em 0; border-radius: .2em;
  background: color-mix(in oklab, var(--most) calc(var(--share) * 100%), var(--least)); }
.swatch { display: inline-block; width: .8em; height: .8em; border-radius: .2em; }
.legend span { margin-inline-end: 1rem; white-space: nowrap; }
"""
HEAD = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'


def page(title: str, body: Iterable[str]) -> str:
    """Return a whole page; `body` is HTML."""
    return (
        f'<!doctype html>\n<html lang="en"><head>{HEAD}'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{escaped(title)}</title><style>{STYLE}</style></head>\n<body>\n<h1>{escaped(title)}</h1>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def escaped(text: str) -> str:
    """Return a text as HTML that shows it, wherever it stands: no character of it is markup."""
    return html.escape(text, quote=True)


def quoted(text: str) -> str:
    """Return a text of the user's as HTML, with its line breaks, and a direction of writing of its own."""
    return f'<span class="text" dir="auto">{escaped(text)}</span>'


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int) -> str:
    """Return a table of plain texts; the first `texts` columns are words, the others numbers."""

    def cells(tag: str, values: Sequence[str]) -> str:
        kinds = ["" if place < texts else ' class="number"' for place in range(len(values))]
        return "".join(
            f"<{tag}{kind}>{escaped(value)}</{tag}>" for kind, value in zip(kinds, values, strict=True)
        )

    head = f"<thead><tr>{cells('th', columns)}</tr></thead>"
    body = "".join(f"<tr>{cells('td', row)}</tr>\n" for row in rows)
    return f'<div class="scroll"><table>{head}\n<tbody>{body}</tbody></table></div>'


def check_target(path: Path, name: str) -> None:
    """Raise UsageError if a page cannot be written to this file, before there is anything to write."""
    if path.is_dir() or not path.parent.is_dir():
        cause = "is a folder" if path.is_dir() else "its folder does not exist"
        raise UsageError(
            f"{setting(name)} {printable(str(path))}: {cause}; give the name of a file in a folder"
        )


def write_page(path: Path, text: str, name: str) -> None:
    """Write a page; UsageError if that is not possible."""
    try:
        path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise UsageError(
            f"{setting(name)} {printable(str(path))}: cannot be written ({error.strerror}); give another file"
        ) from error
