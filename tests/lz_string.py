"""lz-string's packing, of which the product has the unpacking only."""

from __future__ import annotations


class Packer:
    """Packs as the JavaScript library does, a number at a time."""

    def __init__(self) -> None:
        self.bits: list[int] = []
        self.known: dict[str, int] = {}
        self.fresh: set[str] = set()
        self.width, self.room = 2, 2

    def put(self, number: int, width: int) -> None:
        self.bits += [number >> at & 1 for at in range(width)]

    def grow(self) -> None:
        self.room -= 1
        if not self.room:
            self.room = 1 << self.width
            self.width += 1

    def say(self, text: str) -> None:
        if text in self.fresh:
            size = 8 if text < "\u0100" else 16
            self.put(0 if size == 8 else 1, self.width)
            self.put(ord(text), size)
            self.fresh.remove(text)
            self.grow()
        else:
            self.put(self.known[text], self.width)
        self.grow()

    def pack(self, text: str) -> bytes:
        units = [*map(chr, memoryview(text.encode("utf-16-le", "surrogatepass")).cast("H"))]
        before = ""
        for char in units:
            if char not in self.known:
                self.known[char] = len(self.known) + 3
                self.fresh.add(char)
            if before + char in self.known:
                before += char
            else:
                self.say(before)
                self.known[before + char] = len(self.known) + 3
                before = char
        if before:
            self.say(before)
        self.put(2, self.width)
        bits = self.bits + [0] * (-len(self.bits) % 16)
        return bytes(int("".join(map(str, bits[at : at + 8])), 2) for at in range(0, len(bits), 8))
