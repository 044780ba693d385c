"""Print hits: two or three lines each on a terminal, one line each in a pipe, JSON lines for machines."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from es_latechunk.cli.output.messages import on_screen, print_json
from es_latechunk.types import Hit

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

# Fields of a hit that are None unless an option asks for them; a JSON row leaves them out then.
OPTIONAL_FIELDS = ("highlight", "inner_hits", "passage", "rerank_score", "scores")
SHOWN_LINES = 2  # of a chunk, without --full
INDENT = 4
MARK_START, MARK_END = "<em>", "</em>"


def on_terminal() -> bool:
    """Return whether hits are printed for a person at a terminal."""
    return sys.stdout.isatty()


def print_hit_rows(hits: Iterable[Hit], extra: Mapping[str, Any]) -> None:
    """Print hits as JSON lines that each contain `extra` too."""
    for hit in hits:
        print_json({**hit_row(hit), **extra})


def print_hit_lines(hits: Iterable[Hit], *, query: str | None = None) -> None:
    """Print one line per hit, with tabs between its columns, for other programs.

    The columns are the query (if it is given), the score by which the hits are in order, the chunk's id, its first and
    last character, the title, and the text: of the passage if there is one, else with highlights if there are any.
    """
    for hit in hits:
        score = hit.score if hit.rerank_score is None else hit.rerank_score
        start, end, text = hit.start, hit.end, hit.highlight or hit.content
        if hit.passage is not None:
            start, end, text = hit.passage.start, hit.passage.end, hit.passage.text
        columns = [f"{score:.4f}", hit.id, f"{start}-{end}", hit.title, text]
        # Every run of whitespace is one space, so that a line is a hit, and a tab is between two columns.
        lines = (on_screen(" ".join(column.split())) for column in (*([query] if query else []), *columns))
        click.echo("\t".join(lines))


def hit_row(hit: Hit) -> dict[str, Any]:
    """Return a hit as a JSON row, without the fields that no option asked for."""
    row = {name: value for name, value in asdict(hit).items() if name not in OPTIONAL_FIELDS}
    if hit.scores is not None:
        row["scores"] = {name: found and asdict(found) for name, found in hit.scores.items()}
    if hit.rerank_score is not None:
        row["rerank_score"] = hit.rerank_score
    if hit.highlight is not None:
        row["highlight"] = hit.highlight
    if hit.inner_hits is not None:
        row["inner_hits"] = [hit_row(inner) for inner in hit.inner_hits]
    if hit.passage is not None:
        row["passage"] = asdict(hit.passage)
    return row


def show_in_pager(text: str) -> None:
    """Show a text as git does: in $PAGER, or in less, which ends at once if the text fits the screen."""
    os.environ.setdefault("LESS", "FRX")
    click.echo_via_pager(text, color=True)


def screen_of(hits: Sequence[Hit], *, full: bool, console: Console | None = None) -> str:
    """Return the hits as a terminal shows them, with its colours; `full` is whole chunks, not only two lines of them.

    The highlights of the hits say which words are marked.
    """
    from rich.console import Console

    console = console or Console(highlight=False)
    with console.capture() as captured:
        for hit in hits:
            console.print(_header(hit, console.width), soft_wrap=True)
            console.print(_body(hit, console.width - INDENT, full=full))
        if not hits:
            console.print("no hits")
    return captured.get()


def _header(hit: Hit, width: int) -> Text:
    """Return score, title and place on one line, or on two lines if they are too long for one."""
    from rich.text import Text

    score = f"{hit.score:.4f}"
    if hit.rerank_score is not None:
        score = f"{hit.rerank_score:.4f} (search {hit.score:.4f})"
    place = f"{hit.id}, characters {hit.start}-{hit.end}"
    if "page" in hit.metadata:
        place += f", page {hit.metadata['page']}"
    if hit.inner_hits:
        place += f", and {len(hit.inner_hits)} more of this document"
    header = Text(f"{score}  ", style="bold cyan")
    if path := hit.headings[hit.headings[:1] == (hit.title,) :]:
        place = f"{' > '.join(path)}, {place}"
    place = on_screen(place)
    if not hit.title:
        return header.append(place, style="dim")
    title = Text(on_screen(" ".join(hit.title.split())), style="bold")
    if header.cell_len + title.cell_len + 2 + Text(place).cell_len <= width:
        return header.append_text(title).append(f"  {place}", style="dim")
    title.truncate(width - header.cell_len, overflow="ellipsis")
    return header.append_text(title).append(f"\n{' ' * INDENT}{place}", style="dim")


def _body(hit: Hit, width: int, *, full: bool) -> Any:
    from rich.padding import Padding
    from rich.text import Text

    pieces = _pieces(hit)
    if not full and hit.passage is None:
        pieces = _excerpt(_one_line(pieces), SHOWN_LINES * width)
    text = Text(overflow="fold")
    for piece in pieces:
        text.append(on_screen(piece.text, keep="\n\t"), style=piece.style)
    return Padding(text, (0, 0, 1, INDENT))


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a text that is shown in one style."""

    text: str
    is_word: bool = False  # a word of the query
    is_hit: bool = True  # False for the chunks around the hit

    @property
    def style(self) -> str:
        if self.is_word:
            return "bold yellow"
        return "" if self.is_hit else "dim"


def _pieces(hit: Hit) -> list[_Piece]:
    pieces = list(_highlighted(hit.content, hit.highlight))
    if hit.passage is None:
        return pieces
    # A passage has other whitespace between its chunks than the document, so the hit is at most a little before.
    text = hit.passage.text
    start = text.rfind(hit.content, 0, hit.start - hit.passage.start + len(hit.content))
    after = start + len(hit.content)
    return [_Piece(text[:start], is_hit=False), *pieces, _Piece(text[after:], is_hit=False)]


def _highlighted(content: str, highlight: str | None) -> Iterator[_Piece]:
    """Yield the parts of the content, with those in <em> as words of the query.

    The highlight is compared with the content, as a text can contain "<em>" itself.
    """
    if highlight is None:
        yield _Piece(content)
        return
    position = start = 0
    is_word = False
    while position < len(highlight):
        mark = MARK_END if is_word else MARK_START
        if highlight.startswith(mark, position) and not content.startswith(mark, start):
            yield _Piece(content[:start], is_word=is_word)
            content, start, is_word = content[start:], 0, not is_word
            position += len(mark)
        else:
            start += 1
            position += 1
    yield _Piece(content, is_word=is_word)


def _one_line(pieces: Iterable[_Piece]) -> list[_Piece]:
    """Return the pieces with one space for each run of whitespace, and each piece of several words cut into words."""
    words: list[_Piece] = []
    space = False
    for piece in pieces:
        for part in _parts(piece.text):
            if part.isspace():
                space = bool(words)
                continue
            if space:
                words.append(_Piece(" "))
            words.append(_Piece(part, piece.is_word))
            space = False
    return words


def _parts(text: str) -> Iterator[str]:
    """Yield the words of a text and the whitespace between them; a script without spaces gives its characters."""
    word = ""
    for character in text:
        if character.isspace() or character > "\u2e7f":
            if word:
                yield word
            word = ""
            yield character
        else:
            word += character
    if word:
        yield word


def _excerpt(words: Sequence[_Piece], width: int) -> list[_Piece]:
    """Return as many words as `width` columns hold: those with the most words of the query, the first such ones."""
    from rich.cells import cell_len

    widths = [cell_len(on_screen(word.text)) for word in words]
    if sum(widths) <= width:
        return list(words)
    room = width - 8  # for the dots on both sides, and for what the end of a line leaves empty
    best = (0, 0, 0)  # words of the query, minus the first word, minus the end
    first = inside = found = 0
    for end, word in enumerate(words):
        inside, found = inside + widths[end], found + word.is_word
        while inside > room and first < end:
            inside, found, first = inside - widths[first], found - words[first].is_word, first + 1
        best = max(best, (found, -first, -(end + 1)), key=lambda one: (one[0], one[1], -one[2]))
    begin, end = _centred(words, widths, -best[1], -best[2], room)
    chosen = list(words[begin:end])
    if begin:
        chosen[:1] = [_Piece("… ")] if chosen[0].text == " " else [_Piece("… "), chosen[0]]
    if end < len(words):
        chosen[-1:] = [_Piece(" …")] if chosen[-1].text == " " else [chosen[-1], _Piece(" …")]
    return chosen


def _centred(
    words: Sequence[_Piece], widths: Sequence[int], begin: int, end: int, room: int
) -> tuple[int, int]:
    """Return the range of words moved so that its words of the query stand in its middle, as far as it can be."""
    marked = [place for place in range(begin, end) if words[place].is_word]
    if not marked:
        return begin, end
    begin, end = marked[0], marked[-1] + 1
    left = room - sum(widths[begin:end])
    before = left // 2
    while begin > 0 and widths[begin - 1] <= before:
        begin -= 1
        before -= widths[begin]
        left -= widths[begin]
    while end < len(words) and widths[end] <= left:
        left -= widths[end]
        end += 1
    while begin > 0 and widths[begin - 1] <= left:  # the end of the chunk left room over
        begin -= 1
        left -= widths[begin]
    return begin, end
