"""Makes autocapture.js small: comments, spaces and long names go, nothing else changes.

It knows the JavaScript that file is written in, not all of it: no block comments, template strings, divisions or
labels; every statement ends in a semicolon; a name is declared once by `const`, `let` or as an arrow's parameter and
means the file's own thing wherever it stands without a dot.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate, product
from typing import Any, Final, NamedTuple, Self

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
_BASE64: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


class Minified(NamedTuple):
    """A program in few characters, on one line, and its source map."""

    code: str
    source_map: dict[str, Any]


class _Piece(str):
    """A token, which remembers where in the source it stood."""

    __slots__ = ("at",)

    def __new__(cls, text: str, at: int) -> Self:
        piece = super().__new__(cls, text)
        piece.at = at
        return piece

    at: int


def minify(script: str, name: str) -> Minified:
    """Return the same program in fewer characters; the same input gives the same output.

    Args:
        script: the source.
        name: the source's file name, for the map.
    """
    numbers = dict(_NUMBER.findall(script))
    without = _NUMBER.sub(lambda match: " " * len(match[0]), script)
    pieces = [
        _Piece(numbers.get(match[0], match[0]), match.start())
        for match in _TOKEN.finditer(without)
        if match.lastgroup not in {"comment", "space"}
    ]
    short = _short_names(pieces)
    kept = _without_ornaments(pieces)
    parts = [*_spaced([short.get(piece, piece) for piece in kept])]
    return Minified("".join(parts) + "\n", _source_map(script, name, kept, parts, short))


def _source_map(
    script: str, name: str, pieces: Sequence[_Piece], parts: Sequence[str], short: dict[str, str]
) -> dict[str, Any]:
    """Return a source map, revision 3 (ECMA-426): where in the source each part of the one line comes from."""
    names = sorted(short)
    number = {one: index for index, one in enumerate(names)}
    lines = [0, *(match.end() for match in re.finditer("\n", script))]
    ends = accumulate(map(len, parts), initial=0)
    segments = []
    last = [0, 0, 0, 0, 0]
    for piece, start, part in zip(pieces, ends, parts, strict=False):
        line = bisect_right(lines, piece.at) - 1
        column = start + len(part) - len(part.lstrip(" "))
        now = [column, 0, line, piece.at - lines[line], number.get(piece, last[4])]
        count = 5 if piece in number else 4
        segments.append("".join(_vlq(now[i] - last[i]) for i in range(count)))
        last = now
    return {
        "version": 3,
        "sources": [name],
        "sourcesContent": [script],
        "names": names,
        "mappings": ",".join(segments),
    }


def _vlq(number: int) -> str:
    """Return a number in the map's variable-length base 64: sign in the lowest bit, five bits a digit, lowest first."""
    rest = abs(number) << 1 | (number < 0)
    digits = ""
    while True:
        digit, rest = rest & 31, rest >> 5
        digits += _BASE64[digit | 32 if rest else digit]
        if not rest:
            return digits


def _partners(pieces: Sequence[str]) -> tuple[dict[int, int], list[int]]:
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


def _short_names(pieces: Sequence[str]) -> dict[str, str]:
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


def _without_ornaments(pieces: list[_Piece]) -> list[_Piece]:
    """Return the pieces with neighbouring declarations joined and what stands only for the reader left out."""
    out: list[_Piece] = []
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
                out.append(_Piece(",", piece.at))
                skip = True
                continue
            declaring[-1] = ""
        if piece in {";", ","} and after in {"}", ")"}:
            continue
        out.append(piece)
    return _bare_parameters(out)


def _bare_parameters(pieces: list[_Piece]) -> list[_Piece]:
    """Return the pieces with `(x) =>` written `x =>`."""
    dropped = {
        j
        for i in range(2, len(pieces) - 1)
        if pieces[i] == ")" and pieces[i + 1] == "=>" and pieces[i - 2] == "(" and _WORD.match(pieces[i - 1])
        for j in (i, i - 2)
    }
    return [piece for i, piece in enumerate(pieces) if i not in dropped]


def _spaced(pieces: Sequence[str]) -> Iterator[str]:
    """Yield the pieces, with a space before one only where two would become one."""
    last = ""
    for piece in pieces:
        words = _WORD.match(piece) and _WORD.match(last[-1:])
        yield " " + piece if words or (piece in {"+", "-"} and last == piece) else piece
        last = piece
