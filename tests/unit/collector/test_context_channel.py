"""Where a visit came from."""

from __future__ import annotations

import pytest

from collector.context.channel import MAX_CHARS, NO_ARRIVAL, Arrival, arrival, host_of

OWN = "https://shop.example/a"


@pytest.mark.parametrize(
    ("url", "referrer", "found"),
    [
        (OWN, None, NO_ARRIVAL),
        (None, None, NO_ARRIVAL),
        (f"{OWN}?utm_source=we%20chat", "https://www.google.com/", Arrival("we chat")),
        (f"{OWN}?utm_source=a&utm_medium=email&utm_campaign=11.11+sale", None, Arrival("a", "email", "11.11 sale")),
        (f"{OWN}?utm_source=a&utm_source=b", None, Arrival("a")),
        (f"{OWN}?utm_source=", None, NO_ARRIVAL),
        (f"{OWN}?utm_source=***", None, NO_ARRIVAL),  # was masked
        (f"{OWN}?utm_campaign=spring", None, Arrival(None, None, "spring")),
        (f"{OWN}?gclid=***", "https://www.google.com/", Arrival("google", "cpc")),
        (f"{OWN}?bd_vid=1&utm_campaign=x", None, Arrival("baidu", "cpc", "x")),
        (f"{OWN}?fbclid=1", "https://l.facebook.com/", Arrival("facebook", "social")),
        (f"{OWN}?utm_source=news&gclid=1", None, Arrival("news")),
        (OWN, "https://www.google.com.hk/", Arrival("google.com.hk", "search", None, "google.com.hk")),
        (OWN, "https://m.baidu.com/s?wd=x", Arrival("m.baidu.com", "search", None, "m.baidu.com")),
        (OWN, "https://mail.google.com/", Arrival("mail.google.com", "referral", None, "mail.google.com")),
        (OWN, "https://mp.weixin.qq.com/s/x", Arrival("mp.weixin.qq.com", "social", None, "mp.weixin.qq.com")),
        (OWN, "https://tieba.baidu.com/p/1", Arrival("tieba.baidu.com", "social", None, "tieba.baidu.com")),
        (OWN, "https://t.co/x", Arrival("t.co", "social", None, "t.co")),
        (OWN, "android-app://com.tencent.mm/", Arrival("com.tencent.mm", "referral", None, "com.tencent.mm")),
        (OWN, "https://shop.example/b", NO_ARRIVAL),
        (OWN, "https://WWW.shop.example:8443/b", NO_ARRIVAL),
        (OWN, "https://news.shop.example/b", NO_ARRIVAL),
        ("https://m.shop.example/", "https://www.shop.example/", NO_ARRIVAL),
        (OWN, "https://notshop.example/", Arrival("notshop.example", "referral", None, "notshop.example")),
        (OWN, "https://user:pw@other.example/", Arrival("other.example", "referral", None, "other.example")),
        (OWN, "/relative", NO_ARRIVAL),
        ("/a", "https://other.example", Arrival("other.example", "referral", None, "other.example")),
    ],
)
def test_arrivals(url: str | None, referrer: str | None, found: Arrival) -> None:
    assert arrival(url, referrer) == found


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://WWW.Shop.Example.:8443/", "shop.example"),
        ("https://[2001:db8::1]:8443/", "[2001:db8::1]"),
        ("https://基金.example/", "xn--3jsy95k.example"),
        ("https://" + "基" * 200 + "/", None),
        ("https:///", None),
        ("mailto:a@b.example", None),
        (None, None),
    ],
)
def test_hosts_have_one_spelling(url: str | None, host: str | None) -> None:
    assert host_of(url) == host


def test_all_of_it_is_bounded() -> None:
    long = "x" * 500
    found = arrival(f"{OWN}?utm_source={long}&utm_medium={long}&utm_campaign={long}", None)
    assert [len(one or "") for one in found[:3]] == [MAX_CHARS] * 3
    assert len(arrival(OWN, f"https://{long}.example/").channel or "") == MAX_CHARS
