"""Device, browser, system and bots by their user agents."""

from __future__ import annotations

import pytest

from collector.context.bots import CLASSES, bot_class, listed_class
from collector.context.device import BROWSERS, DEVICES, MAX_CHARS, SYSTEMS, Agent, agent_of

_ANDROID = "Mozilla/5.0 (Linux; Android 12; NOH-AN00 Build/HUAWEINOH-AN00; wv) AppleWebKit/537.36 (KHTML, like Gecko)"
_WEBVIEW = f"{_ANDROID} Version/4.0 Chrome/107.0.5304.141 Mobile Safari/537.36"
_IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
_WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
_CHROME = "Chrome/120.0.0.0 Safari/537.36"


@pytest.mark.parametrize(
    ("user_agent", "agent"),
    [
        (f"{_WINDOWS} {_CHROME}", ("desktop", "Chrome", "Windows")),
        (f"{_WINDOWS} {_CHROME} Edg/120.0.0.0", ("desktop", "Edge", "Windows")),
        (f"{_WINDOWS} {_CHROME} OPR/105.0.0.0", ("desktop", "Opera", "Windows")),
        (f"{_WINDOWS} {_CHROME} SE 2.X MetaSr 1.0", ("desktop", "Sogou", "Windows")),
        (f"{_WINDOWS} {_CHROME} QIHU 360SE", ("desktop", "360", "Windows")),
        (
            f"{_WINDOWS} {_CHROME} MicroMessenger/7.0.20 NetType/WIFI WindowsWechat/WMPF",
            ("desktop", "WeChat", "Windows"),
        ),
        ("Mozilla/5.0 (Windows NT 6.1; Trident/7.0; rv:11.0) like Gecko", ("desktop", "IE", "Windows")),
        (
            "Mozilla/4.0 (compatible; MSIE 8.0; Windows NT 6.1; Trident/4.0; Tablet PC 2.0)",
            ("desktop", "IE", "Windows"),
        ),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:120.0) Gecko/20100101 Firefox/120.0",
            ("desktop", "Firefox", "Windows"),
        ),
        (
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
                "Version/17.0 Safari/605.1.15"
            ),
            ("desktop", "Safari", "macOS"),
        ),
        (f"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 {_CHROME}", ("desktop", "Chrome", "ChromeOS")),
        (f"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 {_CHROME}", ("desktop", "Chrome", "Linux")),
        (f"{_IPHONE} Version/17.0 Mobile/15E148 Safari/604.1", ("mobile", "Safari", "iOS")),
        (f"{_IPHONE} CriOS/120.0 Mobile/15E148 Safari/604.1", ("mobile", "Chrome", "iOS")),
        (f"{_IPHONE} Mobile/15E148 MicroMessenger/8.0.28 NetType/WIFI", ("mobile", "WeChat", "iOS")),
        (f"{_IPHONE} Mobile/15E148 AliApp(AP/10.3.0) AlipayClient/10.3.0", ("mobile", "Alipay", "iOS")),
        (f"{_IPHONE} Mobile/15E148", ("mobile", "WebView", "iOS")),
        (f"{_WEBVIEW} XWEB/5127 MMWEBSDK/20230504 MicroMessenger/8.0.37", ("mobile", "WeChat", "Android")),
        (f"{_WEBVIEW} aweme_230400 BytedanceWebview/d8a21c6", ("mobile", "Douyin", "Android")),
        (f"{_WEBVIEW} MQQBrowser/13.8", ("mobile", "QQ", "Android")),
        (f"{_WEBVIEW} SogouMobileBrowser/5.0", ("mobile", "Sogou", "Android")),
        (_WEBVIEW, ("mobile", "WebView", "Android")),
        (
            (
                "Mozilla/5.0 (Linux; Android 12; HarmonyOS; NOH-AN00) AppleWebKit/537.36 (KHTML, like Gecko) "
                "Chrome/99.0 HuaweiBrowser/13.0 Mobile Safari/537.36"
            ),
            ("mobile", "Huawei", "HarmonyOS"),
        ),
        (
            (
                "Mozilla/5.0 (Phone; OpenHarmony 5.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/114.0.0.0 "
                "Safari/537.36 ArkWeb/4.1.6.1 Mobile"
            ),
            ("mobile", "ArkWeb", "HarmonyOS"),
        ),
        (
            (
                "Mozilla/5.0 (Linux; Android 10; CUBOT_NOTE_S) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/99.0 "
                "Mobile Safari/537.36"
            ),
            ("mobile", "Chrome", "Android"),
        ),
        (
            f"Mozilla/5.0 (Linux; Android 13; SM-X906C) AppleWebKit/537.36 (KHTML, like Gecko) {_CHROME}",
            ("tablet", "Chrome", "Android"),
        ),
        (
            "Mozilla/5.0 (iPad; CPU OS 12_0 like Mac OS X) AppleWebKit/605.1.15 Version/12.0 Mobile/15E148 Safari/604",
            ("tablet", "Safari", "iOS"),
        ),
        ("Mozilla/5.0 (SMART-TV; Linux; Tizen 6.0) AppleWebKit/537.36 TV Safari/537.36", ("tv", "Safari", "Linux")),
        ("okhttp/4.9.0", ("app", None, None)),
        ("Dalvik/2.1.0 (Linux; U; Android 12; M2011K2C Build/SKQ1)", ("app", None, "Android")),
        ("FundShop/5.1 CFNetwork/1408 Darwin/22.5.0", ("app", None, "iOS")),
        ("posthog-android/3.4.0", ("app", None, None)),
        ("SensorsAnalytics iOS SDK", ("app", None, "iOS")),
        ("python-requests/2.34.2", ("server", None, None)),
        ("analytics-node-next/latest", ("server", None, None)),
        ("posthog-node/5.70.0", ("server", None, None)),
        ("SensorsAnalytics Node SDK", ("server", None, None)),
        ("node", ("server", None, None)),
        ("Amazon CloudFront", ("other", "other", None)),
        ("Mozilla/4.0 (compatible;)", ("other", "other", None)),
        ("", (None, None, None)),
    ],
)
def test_peoples_and_servers(user_agent: str, agent: tuple[str | None, ...]) -> None:
    assert agent_of(user_agent) == Agent(*agent)


@pytest.mark.parametrize(
    ("user_agent", "found"),
    [
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "search-engine"),
        (f"{_WINDOWS} HeadlessChrome/120.0.0.0 Safari/537.36", "browser-automation"),
        ("Mozilla/5.0 (compatible; Ezooms/1.0; help@moz.com)", "crawler"),  # from here on not on the list
        ("UniversalFeedParser/4.2-pre-314-svn +http://feedparser.org/", "crawler"),
        ("Mozilla/5.0 (compatible; BeetleBot; )", "crawler"),
        (f"{_WINDOWS} {_CHROME} slurp", "crawler"),
        ("Mozilla/5.0", "nameless"),
        ("-", "nameless"),
    ],
)
def test_bots(user_agent: str, found: str) -> None:
    assert bot_class(user_agent) == found
    assert agent_of(user_agent).bot == found
    assert found in CLASSES


def test_all_of_it_is_of_closed_sets() -> None:
    for user_agent in ("", "x", "Opera 9", "Mozilla/5.0 (QNX) Weird/1.0", f"{_WINDOWS} {_CHROME}"):
        device, browser, system, _ = agent_of(user_agent)
        assert device in {None, *DEVICES}
        assert browser in {None, *BROWSERS}
        assert system in {None, *SYSTEMS}


def test_every_class_of_the_list_is_one_of_ours() -> None:
    assert listed_class("Scrapy/1.0") in CLASSES
    assert listed_class(f"{_WINDOWS} {_CHROME}") is None


def test_no_more_is_looked_at_than_browsers_send() -> None:
    assert agent_of("x" * MAX_CHARS + " Googlebot/2.1") == agent_of("x" * MAX_CHARS)
