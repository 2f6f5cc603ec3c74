"""Device class, browser and operating system of a user agent, each one of a closed set (docs/context.md)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

from collector.context.bots import bot_class

MAX_CHARS: Final = 512
"""What is looked at of a user agent; of the longest that people's browsers send, WeChat's, 400 are usual."""
_KNOWN: Final = 8192
"""User agents remembered; a busy site sees some thousand a day. 8 MB at the most."""

SERVER: Final = "server"
APP: Final = "app"
BOT: Final = "bot"
DEVICES: Final = ("desktop", "mobile", "tablet", "tv", APP, SERVER, BOT, "other")
"""`app` is a program of a phone or tablet that says no more, `server` a program or an SDK on a server."""


class Agent(NamedTuple):
    """What a user agent says; `bot` is the class of bot that it names, None for none."""

    device: str | None = None
    browser: str | None = None
    os: str | None = None
    bot: str | None = None

    @property
    def is_person(self) -> bool:
        """Return whether it is a browser of a person, who then sent the request."""
        return self.device in _PERSONAL and self.bot is None


_PERSONAL: Final = frozenset({"desktop", "mobile", "tablet", "tv"})
UNKNOWN: Final = Agent()
ON_A_SERVER: Final = Agent(SERVER)

_APPS: Final = re.compile(
    r"okhttp|dalvik/|dart/|alamofire|.*\bcfnetwork/|reactnative|unityplayer|httpurlconnection"
    r"|(?:analytics|posthog|rudder|sensorsanalytics|snowplow|growingio)[\w. -]*"
    r"(?:ios|android|swift|kotlin|flutter|react|harmony)"
)
"""Begins of the user agents of apps' HTTP libraries and SDKs, in lower case: people's."""

_SERVERS: Final = re.compile(
    # SDKs, as recorded (docs/sdks) and as their other languages call themselves
    r"analytics[-.]|posthog-|rudder|sensorsanalytics|snowplow|growingio"
    # what such SDKs, and programs that forward events, send them with
    r"|python|aiohttp|httpx|curl|wget|java\b|apache-httpclient|go-http-client|node\b|undici|axios|got\b|ruby|faraday"
    r"|php|guzzlehttp|libwww-perl|reqwest|ktor|vert\.x|spring|rest-?client|restsharp|jetty|ahc/|postmanruntime"
)
"""Begins of those of programs that were given the key: they post, they do not crawl (ADR 18)."""

_DEVICES: Final = (
    ("tv", re.compile(r"smart-?tv|\btv\b|hbbtv|apple ?tv|google ?tv|bravia|\baft[a-z]|roku|netcast|web0s|crkey")),
    ("tablet", re.compile(r"ipad|tablet(?! pc)|playbook|kindle|silk/(?!.*mobile)|android(?!.*mobile)")),
    ("mobile", re.compile(r"mobi|iphone|ipod|android|phone|opera mini|midp|symbian|blackberry|series ?60")),
    ("desktop", re.compile(r"windows|macintosh|mac os|x11|linux|cros |openharmony|bsd")),
)
"""In this order, in lower case; an iPad that asks for desktop pages says it is a Mac, and no header tells otherwise."""

_BROWSERS: Final = (
    ("WeChat", ("MicroMessenger/",)),
    ("Alipay", ("AlipayClient", "AliApp(AP")),
    ("DingTalk", ("DingTalk/",)),
    ("Douyin", ("aweme", "BytedanceWebview")),
    ("Toutiao", ("NewsArticle/",)),
    ("Weibo", ("Weibo",)),
    ("Xiaohongshu", ("xiaohongshu", "XHS/")),
    ("Baidu", ("baiduboxapp", "baidubrowser", "BIDUBrowser")),
    ("QQ", ("QQBrowser", " QQ/")),
    ("UC", ("UCBrowser", "UBrowser/", "UCWEB")),
    ("Quark", ("Quark/",)),
    ("Huawei", ("HuaweiBrowser/",)),
    ("Honor", ("HonorBrowser/",)),
    ("Mi", ("MiuiBrowser/",)),
    ("OPPO", ("HeyTapBrowser/", "OppoBrowser/")),
    ("vivo", ("VivoBrowser/",)),
    ("Sogou", ("SogouMobileBrowser", "SogouSearch", "MetaSr")),
    ("360", ("360SE", "360EE", "QIHU", "QHBrowser")),
    ("Facebook", ("FBAN", "FBAV", "FB_IAB")),
    ("Instagram", ("Instagram",)),
    ("Line", (" Line/",)),
    ("Edge", ("Edg/", "EdgA/", "EdgiOS/", "Edge/")),
    ("Opera", ("OPR/", "Opera", "OPiOS/", "OPT/")),
    ("Samsung", ("SamsungBrowser/",)),
    ("Yandex", ("YaBrowser/",)),
    ("Silk", ("Silk/",)),
    ("ArkWeb", ("ArkWeb/",)),
    ("Firefox", ("Firefox/", "FxiOS/", "Iceweasel/", "SeaMonkey/")),
    ("Electron", ("Electron/",)),
    ("IE", ("MSIE ", "Trident/")),
    ("WebView", ("; wv)",)),
    ("Chrome", ("Chrome/", "CriOS/", "Chromium/")),
    ("Android", ("Android",)),  # the browser before Chrome
    ("Safari", ("Safari/",)),
    ("WebView", ("Mobile/", "AppleWebKit/")),  # an app's on iOS: it does not say Safari
)
"""Families by what only they write, those that dress up as another before it; others' names are no family."""
BROWSERS: Final = (*dict.fromkeys(name for name, _ in _BROWSERS), "other")

_SYSTEMS: Final = (
    ("Windows", ("Windows",)),
    ("HarmonyOS", ("HarmonyOS", "OpenHarmony")),
    ("Android", ("Android", "Dalvik/")),
    ("iOS", ("iPhone", "iPad", "iPod", "iOS")),
    ("macOS", ("Mac OS", "Macintosh", "macOS")),
    ("iOS", ("CFNetwork/",)),
    ("ChromeOS", ("CrOS ",)),
    ("Linux", ("Linux", "X11", "Ubuntu")),
)
SYSTEMS: Final = tuple(dict.fromkeys(name for name, _ in _SYSTEMS))


def agent_of(user_agent: str) -> Agent:
    """Return what a user agent says, of an empty one nothing; known ones cost a look-up."""
    return _agent_of(user_agent[:MAX_CHARS])


@lru_cache(maxsize=_KNOWN)
def _agent_of(user_agent: str) -> Agent:
    if not user_agent:
        return UNKNOWN
    lower = user_agent.lower()
    if _APPS.match(lower):
        return Agent(APP, os=_first(_SYSTEMS, user_agent))
    if _SERVERS.match(lower):
        return ON_A_SERVER
    return Agent(
        next((name for name, looks in _DEVICES if looks.search(lower)), "other"),
        _first(_BROWSERS, user_agent) or "other",
        _first(_SYSTEMS, user_agent),
        bot_class(user_agent),
    )


def _first(table: tuple[tuple[str, tuple[str, ...]], ...], text: str) -> str | None:
    return next((name for name, marks in table if any(mark in text for mark in marks)), None)
