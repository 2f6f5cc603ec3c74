"""What a public key says first takes nothing from the ledger (ADR 0004)."""

from __future__ import annotations

from tests.harness import Deployment

NOON = 1_795_305_600_000


async def test_a_ledger_confirms_under_an_id_that_a_public_event_has_used() -> None:
    purchase = {
        "id": "order-17",
        "type": "purchase",
        "user_id": "42",
        "ts": NOON,
        "properties": {"order_id": "17", "amount": "1000.00", "currency": "CNY"},
    }
    deployment = Deployment(start=NOON, partitions=2)
    await deployment.start()
    await deployment.feed(
        [purchase | {"arrives": NOON, "trusted": False}, purchase | {"arrives": NOON + 1000, "trusted": True}]
    )
    told = [(one["to"], one["confirmed"]) for one in deployment.changes()["u:42"]]
    deployment.close()
    assert told == [("holding", False), ("holding", True)]
