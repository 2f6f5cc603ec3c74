"""Where a visit came from (D7): campaign parameters, click ids, the referrer's host."""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import unquote_plus

from collector.masking.kinds import MASK

MAX_CHARS: Final = 128
"""Of channel, medium and campaign each."""


class Arrival(NamedTuple):
    """Source, medium and campaign of a visit; `host` is the referrer's where it alone told the source."""

    channel: str | None = None
    medium: str | None = None
    campaign: str | None = None
    host: str | None = None


NO_ARRIVAL: Final = Arrival()

PAID: Final = "cpc"
_CLICK_IDS: Final = {
    "gclid": ("google", PAID), "gbraid": ("google", PAID), "wbraid": ("google", PAID), "dclid": ("google", "display"),
    "msclkid": ("bing", PAID), "bd_vid": ("baidu", PAID), "qhclickid": ("360", PAID), "gdt_vid": ("tencent", PAID),
    "qz_gdt": ("tencent", PAID), "yclid": ("yandex", PAID), "ttclid": ("tiktok", PAID), "twclid": ("twitter", PAID),
    "li_fat_id": ("linkedin", PAID), "fbclid": ("facebook", "social"),
}  # fmt: skip
"""What advertising networks add to a link; Facebook adds its own to unpaid ones as well."""

_PARAMETER: Final = re.compile(rf"[?&](utm_source|utm_medium|utm_campaign|{'|'.join(_CLICK_IDS)})=([^&#]+)")

_SEARCH: Final = re.compile(
    r"^(?:(?:m|wap|search|so|yz|image|news|[a-z]{2})\.)*(?:(?:google|bing|yahoo|yandex|duckduckgo|ecosia|naver|baidu|sogou|so|sm|haosou|toutiao|quark)"
    r"\.(?:com?\.)?[a-z]{2,3})$"
)
_SOCIAL: Final = re.compile(
    r"(?:^|\.)(?:facebook\.com|fb\.me|instagram\.com|t\.co|twitter\.com|x\.com|linkedin\.com|lnkd\.in|youtube\.com"
    r"|reddit\.com|pinterest\.com|tiktok\.com|weibo\.(?:com|cn)|mp\.weixin\.qq\.com|weixin110\.qq\.com|zhihu\.com"
    r"|xiaohongshu\.com|douyin\.com|douban\.com|bilibili\.com|tieba\.baidu\.com|xueqiu\.com|qzone\.qq\.com)$"
)


def arrival(url: str | None, referrer: str | None) -> Arrival:
    """Return the arrival that a page's addresses tell, both masked already.

    `utm_source` before a click id, and that before the host of a referrer on another site.
    """
    said = dict(reversed(_PARAMETER.findall(url))) if url and "=" in url else {}
    medium, campaign = _text(said.get("utm_medium")), _text(said.get("utm_campaign"))
    source = _text(said.get("utm_source"))
    if source is not None:
        return Arrival(source, medium, campaign)
    for name, (network, paid) in _CLICK_IDS.items():
        if name in said:
            return Arrival(network, medium or paid, campaign)
    host = host_of(referrer)
    if host is None or same_site(host, host_of(url)):
        return Arrival(None, medium, campaign) if medium or campaign else NO_ARRIVAL
    return Arrival(host, medium or _medium(host), campaign, host)


def _text(value: str | None) -> str | None:
    """Return a parameter's value; what was masked tells nothing."""
    text = unquote_plus(value).strip()[:MAX_CHARS] if value else ""
    return text if text not in {"", MASK} else None


def _medium(host: str) -> str:
    if _SOCIAL.search(host):
        return "social"
    return "search" if _SEARCH.search(host) else "referral"


def host_of(url: str | None) -> str | None:
    """Return the host of an absolute URL as one spelling: lower case, Punycode, without `www.`, user and port."""
    _, separator, rest = (url or "").partition("://")
    if not separator:
        return None
    host = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2].lower()
    host = host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
    host = host.rstrip(".").removeprefix("www.")
    if not host.isascii():
        try:
            host = host.encode("idna").decode()
        except UnicodeError:
            return None
    return host[:MAX_CHARS] or None


def same_site(host: str, other: str | None) -> bool:
    """Return whether two hosts are one, or one is within the other."""
    return other is not None and (host == other or host.endswith("." + other) or other.endswith("." + host))


def is_within(host: str, hosts: tuple[str, ...]) -> bool:
    """Return whether a host is one of these, or within one."""
    return any(host == one or host.endswith("." + one) for one in hosts)
