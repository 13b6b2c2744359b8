"""Names and texts in the room and the characters that there are."""

from __future__ import annotations

import re

from rich.cells import cell_len

SPELLINGS = str.maketrans(
    {"…": "...", "×": "x", "·": "*", "±": "+/-", "≤": "<=", "≥": ">=", "≈": "~", "−": "-", "–": "-", "—": "-"}
    | {"→": "->", "∂": "d", "‖": "|", "²": "2", "ε": "eps", "’": "'"}
)


def printable(name: str) -> str:
    """The name on one line, whatever characters it holds."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)


def shorten(name: str, width: int, mark: str = "…") -> str:
    """The name with initials for its inner parts, then without them, then without its middle.

    Numbers and the end tell layers apart: they stay as long as they can.
    """
    parts = name.split(".")
    for i, part in enumerate(parts[:-1]):
        if cell_len(".".join(parts)) <= width:
            break
        parts[i] = part if part.isdigit() else part[:1]
    short = ".".join(parts)
    if cell_len(short) <= width:
        return short
    fewer = list(parts)
    for i, part in enumerate(parts[:-1]):
        fewer[i] = part if part.isdigit() else "\0"
        less = re.sub(r"\.?(?:\0\.)+", lambda _: mark, ".".join(fewer))
        if cell_len(less) <= width:
            return less
    keep = max(width - len(mark), 2)
    head = keep // 3
    return short[:head] + mark + short[head - keep :]


def folded(title: str, names: list[str], width: int) -> str:
    """``"3 healthy: fc1, fc2, head"`` on one line, as far as it goes."""
    line = f"{title}: {', '.join(map(printable, names))}"
    if cell_len(line) <= width:
        return line
    shown = title
    for i, name in enumerate(names):
        longer = f"{shown}{', ' if i else ': '}{printable(name)}"
        if cell_len(longer) + len(", …") > width:
            return f"{shown}, …" if i else shown
        shown = longer
    return shown


def encodable(text: str, encoding: str) -> str:
    """The text in characters that the encoding has."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(SPELLINGS).encode(encoding, "replace").decode(encoding)
    return text
