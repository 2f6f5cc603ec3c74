"""A message of topic `stage-changes`, and a reader of such messages in memory."""

from __future__ import annotations

from processors.wire import Cause, Place, StageChange, encode_change


def message(user: str) -> bytes:
    """Return a user's change to `decision`."""
    return encode_change(
        StageChange(
            schema=1, id="0-1.0/1", person=f"u:{user}", user_id=user, anonymous_id=None, site="default", life="0-1",
            version=1, from_="prospect", to="decision", at="2026-11-22T08:15:04.120Z", confirmed=True, retracts=None,
            merged_into=None, customer="new", funds="none", score=5.5, decision_score=5.5, intent="strong", tier=None,
            preference=None, evidence=[], cause=Cause("event"), actionable=True, definitions=1, position=Place(0, 1),
        )
    )  # fmt: skip


class Published:
    """Changes in memory: cursor 1 is the first; all of them were published at instant 0."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.reads = 0

    def publish(self, count: int) -> None:
        """Publish some more."""
        self.messages += [message(str(len(self.messages) + number + 1)) for number in range(count)]

    async def changes(self, after: str, most: int) -> list[tuple[str, bytes]]:
        """Return at most `most` (cursor, message) pairs after a cursor."""
        self.reads += 1
        begin = int(after)
        return [(str(begin + 1 + n), value) for n, value in enumerate(self.messages[begin : begin + most])]

    async def newest(self, after: str, most: int) -> list[tuple[str, bytes]]:
        """Return the last `most` of all that follows a cursor."""
        return await self.changes(str(max(int(after), len(self.messages) - most)), most)

    async def cursor_at(self, instant: int) -> str:
        """Return the cursor after which everything published since `instant` follows."""
        return str(len(self.messages) if instant > 0 else 0)

    async def check(self, after: str) -> None:
        """Take every text for a cursor."""
