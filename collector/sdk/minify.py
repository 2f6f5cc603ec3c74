"""Makes autocapture.js small: comments, spaces and long names go, nothing else changes.

It knows the JavaScript that file is written in, not all of it: no block comments, template strings, divisions or
labels; every statement ends in a semicolon; a name is declared once by `const`, `let` or as an arrow's parameter and
means the file's own thing wherever it stands without a dot.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import product
from typing import Final

_TOKEN: Final = re.compile(
    r"(?P<comment>//[^\n]*)"
    r"|(?P<space>\s+)"
    r"|(?P<string>'(?:\\.|[^'\\\n])*')"
    r"|(?P<regex>/(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n\[])+/[a-z]*)"
    r"|(?P<word>[\w$]+)"
    r"|(?P<other>=>|\.\.\.|\+\+|--|.)"
)
_LETTERS: Final = "etnairoslcdupmhfgbvkyxwqzjETNAIROSLCDUPMHFGBVKYXWQZJ"
"""The letters of names, those that the rest of the script is full of first: that compresses better."""
_NUMBER: Final = re.compile(r"const ([A-Z_]+) = (\d+);")
_WORD: Final = re.compile(r"[\w$]")


def minify(script: str) -> str:
    """Return the same program in fewer characters; the same input gives the same output."""
    numbers = dict(_NUMBER.findall(script))
    pieces = [
        numbers.get(match.group(), match.group())
        for match in _TOKEN.finditer(_NUMBER.sub("", script))
        if match.lastgroup not in {"comment", "space"}
    ]
    names = _short_names(pieces)
    return _join([names.get(piece, piece) for piece in _without_ornaments(pieces)]) + "\n"


def _partners(pieces: list[str]) -> tuple[dict[int, int], list[int]]:
    """Return where each closing bracket was opened, and for each piece its innermost open bracket or -1."""
    opened: list[int] = [-1]
    partner: dict[int, int] = {}
    inside: list[int] = []
    for i, piece in enumerate(pieces):
        if piece in {")", "]", "}"}:
            partner[i] = opened.pop()
        inside.append(opened[-1])
        if piece in {"(", "[", "{"}:
            opened.append(i)
    return partner, inside


def _short_names(pieces: list[str]) -> dict[str, str]:
    """Return short names for the file's own that are nowhere a property, most used first."""
    partner, inside = _partners(pieces)
    declared: set[str] = set()
    properties: set[str] = set()
    for i in range(1, len(pieces) - 1):
        before, piece, after = pieces[i - 1 : i + 2]
        if piece == ")" and after == "=>":
            declared.update(word for word in pieces[partner[i] : i] if _WORD.match(word))
        elif _WORD.match(piece):
            if before in {"const", "let"}:
                declared.add(piece)
            key = inside[i] >= 0 and pieces[inside[i]] == "{" and before in {"{", ","} and after in {",", "}", ":"}
            if before == "." or key:
                properties.add(piece)
    count = Counter(pieces)
    own = sorted(declared - properties, key=lambda name: (-count[name], name))
    free = (name for n in (1, 2) for letters in product(_LETTERS, repeat=n) if (name := "".join(letters)) not in count)
    return dict(zip(own, free, strict=False))


def _without_ornaments(pieces: list[str]) -> list[str]:
    """Return the pieces with neighbouring declarations joined and what stands only for the reader left out."""
    out: list[str] = []
    declaring = [""]
    skip = False
    for i, piece in enumerate(pieces):
        after = pieces[i + 1] if i + 1 < len(pieces) else ""
        if skip:
            skip = False
            continue
        if piece in {"(", "[", "{"}:
            declaring.append("")
        elif piece in {")", "]", "}"}:
            declaring.pop()
        elif piece in {"const", "let"} and not declaring[-1]:
            declaring[-1] = piece
        elif piece == ";" and declaring[-1]:
            if after == declaring[-1]:
                out.append(",")
                skip = True
                continue
            declaring[-1] = ""
        if piece in {";", ","} and after in {"}", ")"}:
            continue
        out.append(piece)
    return _bare_parameters(out)


def _bare_parameters(pieces: list[str]) -> list[str]:
    """Return the pieces with `(x) =>` written `x =>`."""
    dropped = {
        j
        for i in range(2, len(pieces) - 1)
        if pieces[i] == ")" and pieces[i + 1] == "=>" and pieces[i - 2] == "(" and _WORD.match(pieces[i - 1])
        for j in (i, i - 2)
    }
    return [piece for i, piece in enumerate(pieces) if i not in dropped]


def _join(pieces: list[str]) -> str:
    """Return the pieces as text with a space only where two would become one."""
    parts: list[str] = []
    last = ""
    for piece in pieces:
        words = _WORD.match(piece) and _WORD.match(last[-1:])
        if words or (piece in {"+", "-"} and last == piece):
            parts.append(" ")
        parts.append(piece)
        last = piece
    return "".join(parts)
