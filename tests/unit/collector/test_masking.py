"""Secrets and personal numbers leave URLs and texts; everything else stays as it was."""

from __future__ import annotations

import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.masking.kinds import KINDS
from collector.masking.names import Meaning, Names
from collector.masking.rules import EVERYTHING, Masking

EMAIL, PHONE, ID_NUMBER, CARD = "jane.doe@example.com", "13800138000", "11010519491231002X", "6222021234567890128"


def _with_check_digit(digits: str) -> str:
    for last in "0123456789":
        number = digits + last
        doubled = [int(one) * (2 if at % 2 else 1) for at, one in enumerate(reversed(number))]
        if sum(sum(divmod(one, 10)) for one in doubled) % 10 == 0:
            return number
    raise AssertionError


UNIONPAY = _with_check_digit("622202123456789012")


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example/products/bond/b-12?utm_source=x&q=bond#reviews",
        "/products/000001?fund_code=000001&page=2&keyword=yield&author=kim&sort=asc",
        "https://shop.example/orders/20261122?from=2026-11-22&to=2026-11-23",
        "https://shop.example/?t=1795288859000",
        "/@community/post-7",
        "https://shop.example/a;b=c",
        "https://shop.example/100%25",
        "https://shop.example/?next=%2Fproducts%3Fpage%3D2",
        "",
        "#",
        "?",
        "https://",
    ],
)
def test_what_is_no_secret_stays_as_it_was(url: str) -> None:
    assert EVERYTHING.url(url) == (url, ())


@pytest.mark.parametrize(
    ("url", "masked", "kinds"),
    [
        ("/?token=abc&a=1", "/?token=***&a=1", ("secret",)),
        ("/?accessToken=abc", "/?accessToken=***", ("secret",)),
        ("/?user%5Bpassword%5D=x", "/?user%5Bpassword%5D=***", ("secret",)),
        ("/?PWD=a&code=b&sid=c", "/?PWD=***&code=***&sid=***", ("secret",) * 3),
        ("/#access_token=abc&x=1", "/#access_token=***&x=1", ("secret",)),
        ("/#/login?otp=123456", "/#/login?otp=***", ("secret",)),
        ("https://jane:pw@shop.example/a", "https://***@shop.example/a", ("secret",)),
        ("//jane:pw@shop.example/a", "//***@shop.example/a", ("secret",)),
        ("/cart;jsessionid=abc", "/cart;jsessionid=***", ("secret",)),
        (f"/?u={EMAIL}", "/?u=***", ("email",)),
        (f"/?u={quote(EMAIL)}", "/?u=***", ("email",)),
        (f"/?u={quote(quote(EMAIL))}", "/?u=***", ("email",)),
        (f"/u/{EMAIL}/edit", "/u/***/edit", ("email",)),
        (f"/?{EMAIL}", "/?***", ("email",)),
        (f"/?{PHONE}=1", "/?***=1", ("phone",)),
        (f"/u/{PHONE}", "/u/***", ("phone",)),
        (f"/?q={PHONE}", "/?q=***", ("phone",)),
        ("/?q=%2B86+138+0013+8000", "/?q=***", ("phone",)),
        ("/?q=%2B44%2020%207946%200958", "/?q=***", ("phone",)),
        (f"/?q={ID_NUMBER}", "/?q=***", ("id_number",)),
        (f"/?q={UNIONPAY}", "/?q=***", ("card",)),
        ("/?q=4111+1111+1111+1111", "/?q=***", ("card",)),
        ("/?q=4111111111111112", "/?q=4111111111111112", ()),
        ("/?next=%2Fa%3Ftoken%3Dabc", "/?next=/a?token%3D***", ("secret",)),
    ],
)
def test_each_kind(url: str, masked: str, kinds: tuple[str, ...]) -> None:
    assert EVERYTHING.url(url) == (masked, kinds)


def test_text_keeps_what_stands_around() -> None:
    assert EVERYTHING.text(f"call {PHONE} or {EMAIL}.") == ("call *** or ***.", ("phone", "email"))
    assert EVERYTHING.text("收益 3.25% 共 20261122 元") == ("收益 3.25% 共 20261122 元", ())


def test_names_that_only_look_secret() -> None:
    names = Names()
    assert [
        name
        for name in ("keyword", "fund_code", "author", "signup", "passenger")
        if names.in_url(name) is Meaning.SECRET
    ] == []


TEXTS = st.lists(
    st.sampled_from(
        [EMAIL, PHONE, ID_NUMBER, UNIONPAY, "Bearer a1b2c3d4", "eyJhbGciOi.eyJzdWIi.x", "token=", '"pwd":"', '"', " ",
         "-", "+86", ".", "a", "0", "%40", "=", "***", "@", "/", "?", "e9", "\\", "\u3000", "中", "x"]
    ),
    max_size=12,
).map("".join)  # fmt: skip
URLS = TEXTS | st.text(alphabet=st.sampled_from("ab1380@.:/?#&=;%25 +-*token="), max_size=80) | st.text(max_size=60)


@given(URLS)
def test_masking_never_fails_and_twice_is_once(url: str) -> None:
    masked, kinds = EVERYTHING.url(url)
    assert set(kinds) <= set(KINDS)
    assert EVERYTHING.url(masked)[0] == masked
    assert (masked == url) == (not kinds)


@given(URLS, st.sampled_from([EMAIL, PHONE, ID_NUMBER, UNIONPAY]), URLS)
def test_a_personal_value_never_stays_in_a_query(before: str, value: str, after: str) -> None:
    path = before.replace("?", "").replace("#", "")
    masked, _ = EVERYTHING.url(f"/{path}?a=1&v={quote(value)}&b={after}")
    assert quote(value) not in masked.partition("?")[2].partition("&b=")[0]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("piece", ["a@", "1", "+1 ", "%25", "?a=", "a.", "//@", ";", "13800138000", "=&", "x@y."])
def test_no_text_takes_long(piece: str) -> None:
    text = piece * (8192 // len(piece))
    EVERYTHING.url(text)
    EVERYTHING.url(f"https://shop.example/?q={text}")
    EVERYTHING.text(text)


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("/fund/detail?code=110022", True),
        ("https://m.shop.example/#/fundDetail?code=000001&tab=nav", True),
        ("/fund/detail?code=1100222", False),
        ("/fund/login?code=110022", False),
        ("/fund/detail?code=110022&state=x", False),
        ("/fund/detail?code=110022&phone=1", False),
        ("/?code=110022", False),
        ("/oauth/fund?code=abcdef", False),
    ],
)
def test_a_code_is_a_funds_only_on_its_page(url: str, kept: bool) -> None:  # noqa: FBT001 - a parameter
    assert ("code=***" not in EVERYTHING.url(url)[0]) is kept


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("13800138000 6222021234567890127", "*** 6222021234567890127"),
        (f"13800138000 {UNIONPAY} {ID_NUMBER}", "*** *** ***"),
        (f"身份证{ID_NUMBER}号", "身份证***号"),
        ("规模13800138000.00元", "规模13800138000.00元"),
        ("tel.13800138000.", "tel.***."),
        ("用户jane@example.com联系", "用户***联系"),
        ("用户@例子.公司", "***"),
        ("Bearer bonds, bearer securities", "Bearer bonds, bearer securities"),
        ("Authorization: Bearer abc12345", "Authorization: ***"),
        ('{"pwd":"a\\"b","n":1}', '{"pwd":"***","n":1}'),
        ('{\\"token\\":\\"abc\\"}', '{\\"token\\":\\"***\\"}'),
        ("550e8400-e29b-41d4-a716-13800138000a", "550e8400-e29b-41d4-a716-13800138000a"),
        ("q=jane%40example.com x", "*** x"),
        ("１３８００１３８０００", "***"),  # noqa: RUF001 - full width
        ("icon@2x.png vue@3.4.21", "icon@2x.png vue@3.4.21"),
    ],
)
def test_texts(text: str, masked: str) -> None:
    assert EVERYTHING.text(text)[0] == masked


@given(st.text(max_size=60) | TEXTS)
def test_a_text_masked_twice_is_masked_once(text: str) -> None:
    masked, kinds = EVERYTHING.text(text)
    assert EVERYTHING.text(masked)[0] == masked
    assert bool(kinds) == (masked != text)


NASTY = [
    "a@", "1", "1 ", "+1 ", "%25", "?a=", "a.", "//@", ";", "13800138000 ", "=&", "x@y.", "eyJ", "eyJ-", "eyJa.", "sk-",
    '"a":', "'", '"pwd":"\\"', "1-", "1+", "-----BEGIN ", "4111 ", "/reset/", "a%3Db", "\u3000", "\u4e2d@", "1.1",
]  # fmt: skip


@pytest.mark.parametrize("piece", NASTY)
def test_twice_the_text_takes_no_more_than_twice_the_time(piece: str) -> None:
    def seconds(chars: int) -> float:
        text = piece * (chars // len(piece))
        found = []
        for _ in range(3):
            before = time.process_time()
            Masking().text(text)
            Masking().url(f"https://shop.example/password/{text}?q={text}")
            found.append(time.process_time() - before)
        return min(found)

    assert seconds(40_000) < 3.5 * seconds(20_000) + 0.02
