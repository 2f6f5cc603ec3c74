"""Trusted keys never from a browser, and origins where a browser sends no Origin."""

from __future__ import annotations

from typing import Any

import pytest

PAGE = {"id": "1", "type": "page", "anonymous_id": "a-1"}


@pytest.mark.parametrize(
    "sign",
    [
        {"origin": "https://shop.example"},
        {"referer": "https://shop.example/"},
        {"sec-fetch-site": "same-origin"},
        {"sec-fetch-dest": "image"},
    ],
)
async def test_a_trusted_key_is_refused_from_a_browser(client: Any, sign: dict[str, str]) -> None:
    answer = await client.post([PAGE], headers={"authorization": "Bearer sk", **sign})
    assert (answer.status, answer.json["code"]) == (403, "not_allowed")
    assert client.events() == []


async def test_a_program_that_sends_what_nodes_fetch_does_is_no_browser(client: Any) -> None:
    sent = {"authorization": "Bearer sk", "sec-fetch-mode": "cors", "accept-language": "*"}
    assert (await client.post([PAGE], headers=sent)).status == 200


@pytest.mark.parametrize(
    ("referer", "status"),
    [
        ("https://shop.example/products?x=1", 200),
        ("https://shop.example", 200),
        ("https://evil.example/https://shop.example/", 403),
        ("http://shop.example/", 403),
        ("https://shop.example:8443/", 403),
        ("nonsense", 200),
        (None, 200),
    ],
)
async def test_a_pixel_has_the_origin_of_its_page(client: Any, referer: str | None, status: int) -> None:
    """No Origin, no Referer: a program, or a page that hides where it is; who leaves both out may be anybody."""
    headers = {"authorization": "Bearer pk-shop"} | ({} if referer is None else {"referer": referer})
    assert (await client.post([PAGE], headers=headers)).status == status
