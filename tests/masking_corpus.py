"""Secrets and personal numbers by the thousand, in many written forms, and what only looks like them.

`python -m tests.masking_corpus` prints what of it is masked: recall for each kind, and for each class of what is no
secret how many are masked by chance.
"""

from __future__ import annotations

import base64
import random
import re
import string
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from typing import Final, NamedTuple
from urllib.parse import quote, quote_plus, unquote

from collector.masking.rules import EVERYTHING

Make = Callable[[random.Random], str]

REGIONS: Final = ("110105", "310104", "440305", "330106", "510107", "420102", "650102", "710000", "810000", "830000")
CARDS: Final = (
    ("622202", 19), ("621700", 19), ("622588", 16), ("625965", 16), ("4367", 16), ("4111", 16), ("52", 16),
    ("2221", 16), ("2720", 16), ("34", 15), ("37", 15), ("3528", 16), ("6011", 16), ("955880", 19), ("36", 14),
    ("81", 19), ("6759", 16),
)  # fmt: skip
_NO_DIGIT: Final = re.compile(r"[^0-9]+")
_NARROW: Final = {0xFF10 + one: 0x30 + one for one in range(10)}
BASE64URL: Final = string.ascii_letters + string.digits + "-_"


class Positive(NamedTuple):
    """What must not pass: its kind, how it is written, the text around it, and what may not be left of it."""

    kind: str
    form: str
    text: str
    gone: str


def digits(rng: random.Random, many: int) -> str:
    return "".join(rng.choices(string.digits, k=many))


def luhn(number: str) -> str:
    """Return a number with its check digit (ISO/IEC 7812-1), worked out by trying."""
    for last in string.digits:
        total = 0
        for at, one in enumerate(reversed(number + last)):
            total += int(one) if at % 2 == 0 else int(one) * 2 - 9 * (int(one) > 4)
        if total % 10 == 0:
            return number + last
    raise AssertionError


def id_number(rng: random.Random) -> str:
    born = date(1930, 1, 1) + timedelta(days=rng.randrange(365 * 85))
    first = rng.choice(REGIONS) + born.strftime("%Y%m%d") + digits(rng, 3)
    rest = sum(int(one) * pow(2, 17 - at, 11) for at, one in enumerate(first)) % 11  # ISO 7064, MOD 11-2
    return first + "10X98765432"[rest]


def card(rng: random.Random) -> str:
    prefix, length = rng.choice(CARDS)
    return luhn(prefix + digits(rng, length - 1 - len(prefix)))


def phone(rng: random.Random) -> str:
    return f"1{rng.choice('3456789')}{digits(rng, 9)}"


def email(rng: random.Random) -> str:
    local = rng.choice(("jane.doe", "li_lei", "13x", "a+tag", "q", "wang-wu.88", "9527"))
    return (
        local + digits(rng, 2) + rng.choice(("@example.com", "@mail.example.cn", "@qq.example.com", "@x-y.example.io"))
    )


def random_text(rng: random.Random, many: int, alphabet: str = BASE64URL) -> str:
    return "".join(rng.choices(alphabet, k=many - 1)) + rng.choice(string.digits)


def jwt(rng: random.Random) -> str:
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').decode().rstrip("=")
    return f"{head}.eyJ{random_text(rng, 40)}.{random_text(rng, 43)}"


def grouped(text: str, sizes: tuple[int, ...], separator: str) -> str:
    parts, at = [], 0
    for size in sizes:
        parts.append(text[at : at + size])
        at += size
    return separator.join([*parts, text[at:]] if text[at:] else parts)


def full_width(text: str) -> str:
    return "".join(chr(ord(one) + 0xFEE0) if "!" <= one <= "~" else one for one in text)


PHONE_FORMS: Final[dict[str, Callable[[str], str]]] = {
    "plain": str,
    "3-4-4 spaces": lambda one: grouped(one, (3, 4, 4), " "),
    "3-4-4 dashes": lambda one: grouped(one, (3, 4, 4), "-"),
    "3-8": lambda one: grouped(one, (3, 8), " "),
    "no-break spaces": lambda one: grouped(one, (3, 4, 4), "\u00a0"),
    "86": lambda one: f"86{one}",
    "+86": lambda one: f"+86{one}",
    "+86 spaces": lambda one: f"+86 {grouped(one, (3, 4, 4), ' ')}",
    "+86 dashes": lambda one: f"+86-{grouped(one, (3, 4, 4), '-')}",
    "(+86)": lambda one: f"(+86){one}",
    "0086": lambda one: f"0086{one}",
    "0086-": lambda one: f"0086-{one}",
    "E.164 of the US": lambda one: f"+1212{one[-7:]}",
    "E.164 of the UK": lambda one: f"+44 20 {one[-8:-4]} {one[-4:]}",
    "E.164 of Hong Kong": lambda one: f"+852 {one[-8:-4]} {one[-4:]}",
    "US brackets": lambda one: f"+1 (212) {one[-7:-4]}-{one[-4:]}",
    "full width": full_width,
}
ID_FORMS: Final[dict[str, Callable[[str], str]]] = {
    "plain": str,
    "small x": str.lower,
    "6-8-4": lambda one: grouped(one, (6, 8, 4), " "),
    "6-4-4-4": lambda one: grouped(one, (6, 4, 4, 4), "-"),
    "full width": full_width,
}
CARD_FORMS: Final[dict[str, Callable[[str], str]]] = {
    "plain": str,
    "groups of 4, spaces": lambda one: (
        grouped(one, (4, 4, 4, 4), " ") if len(one) != 15 else grouped(one, (4, 6, 5), " ")
    ),
    "groups of 4, dashes": lambda one: (
        grouped(one, (4, 4, 4, 4), "-") if len(one) != 15 else grouped(one, (4, 6, 5), "-")
    ),
    "6 and the rest": lambda one: grouped(one, (6,), " "),
    "full width": full_width,
}
TOKENS: Final[dict[str, Make]] = {
    "JSON Web Token": jwt,
    "Bearer": lambda rng: f"Bearer {random_text(rng, 32)}",
    "Basic": lambda rng: f"Basic {base64.b64encode(f'jane:{digits(rng, 8)}'.encode()).decode()}",
    "Stripe": lambda rng: f"sk_live_{random_text(rng, 24, string.ascii_letters + string.digits)}",
    "GitHub": lambda rng: f"ghp_{random_text(rng, 36, string.ascii_letters + string.digits)}",
    "AWS": lambda rng: f"AKIA{random_text(rng, 16, string.ascii_uppercase + string.digits)}",
    "Aliyun": lambda rng: f"LTAI{random_text(rng, 20, string.ascii_letters + string.digits)}",
    "Slack": lambda rng: f"xoxb-{digits(rng, 12)}-{random_text(rng, 24, string.ascii_letters + string.digits)}",
    "Google": lambda rng: f"AIza{random_text(rng, 35)}",
}
AROUND: Final = (
    "{}", "call {} now", "电话{}\uff0c谢谢", "\uff08{}\uff09", "号码\uff1a{}。", "a={}", "{}; {}", '{{"note":"{}"}}',
    "[{}]", "'{}'", "x {}, y", "{}\n{}", "card-{}",
)  # fmt: skip
"""What stands around a value: nothing, English, Chinese without a space, JSON."""
NAMED: Final = (
    "/?password={}", "/?token={}&a=1", "https://shop.example/?access_token={}#x", "/#id_token={}", "password={}",
    "/?next=%2Flogin%3Fpwd%3D{}", '{{"password":"{}"}}', '{{"a":1,"api_key": "{}"}}', "{{'secret': '{}'}}",
    "/cart;jsessionid={}", "https://jane:{}@shop.example/", "/password/reset/{}",
)  # fmt: skip
IN_URLS: Final = (
    "/u/{}", "/search?q={}", "https://shop.example/?a=1&who={}&b=2", "/#who={}", "/#/u/{}", "?{}", "/a?next=/u?x={}",
    "https://shop.example/?data=%7B%22who%22%3A%22{}%22%7D",
)  # fmt: skip


def positives(seed: int, each: int) -> Iterator[Positive]:
    """Yield `each` of every written form, within a text or a URL drawn for it."""
    rng = random.Random(seed)
    kinds: tuple[tuple[str, Make, dict[str, Callable[[str], str]]], ...] = (
        ("phone", phone, PHONE_FORMS),
        ("id_number", id_number, ID_FORMS),
        ("card", card, CARD_FORMS),
        ("email", email, {"plain": str, "full width": lambda one: one.replace("@", "\uff20")}),
    )
    for _ in range(each):
        for kind, make, forms in kinds:
            for form, write in forms.items():
                yield from _around(rng, kind, form, write(make(rng)))
        for form, make in TOKENS.items():
            yield from _around(rng, "secret", form, make(rng))
        for form in NAMED:
            value = random_text(rng, 20, string.ascii_letters + string.digits)
            yield Positive("secret", form, form.format(value), value)


def _around(rng: random.Random, kind: str, form: str, value: str) -> Iterator[Positive]:
    around = rng.choice(AROUND)
    yield Positive(kind, form, around.format(*[value] * around.count("{}")), value)
    encode = rng.choice((quote, quote_plus, lambda one: quote(quote(one, safe=""))))
    written = encode(value)
    yield Positive(kind, f"{form}, in a URL", rng.choice(IN_URLS).format(written), written)


def _orders(rng: random.Random) -> str:
    moment = datetime(2024, 1, 1) + timedelta(seconds=rng.randrange(3 * 365 * 86400))  # noqa: DTZ001 - digits only
    return f"{moment:%Y%m%d%H%M%S}{digits(rng, 3)}"


NEGATIVES: Final[dict[str, Make]] = {
    "fund code": lambda rng: digits(rng, 6),
    "fund code in an address": lambda rng: f"/fund/detail?code={digits(rng, 6)}",
    "ISIN": lambda rng: (
        f"{rng.choice(('CN', 'US', 'HK'))}E{random_text(rng, 9, string.ascii_uppercase + string.digits)}"
    ),
    "product code": lambda rng: f"{rng.choice(('B', 'MM', 'STK'))}-{digits(rng, rng.randrange(1, 9))}",
    "price": lambda rng: f"{rng.randrange(10**7)}.{digits(rng, 2)}",
    "price with separators": lambda rng: f"¥{rng.randrange(10**12):,}.{digits(rng, 2)}",
    "net value": lambda rng: f"{rng.randrange(9)}.{digits(rng, rng.choice((4, 16)))}",
    "percentage": lambda rng: f"{rng.choice('+-')}{rng.randrange(100)}.{digits(rng, rng.choice((2, 8)))}%",
    "share count": lambda rng: str(rng.randrange(10**9)),
    "date": lambda rng: f"{_orders(rng)[:4]}-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}",
    "range of dates": lambda rng: (
        f"2026-0{rng.randrange(1, 10)}-1{digits(rng, 1)} 2026-1{rng.randrange(3)}-2{digits(rng, 1)}"
    ),
    "time": lambda rng: f"2026-11-23T15:22:{rng.randrange(60):02}.{digits(rng, 6)}Z",
    "time with zone": lambda rng: f"2026-11-23 15:{rng.randrange(60):02}:33 +0800",
    "epoch seconds": lambda rng: str(rng.randrange(1_500_000_000, 2_000_000_000)),
    "epoch milliseconds": lambda rng: str(rng.randrange(1_500_000_000_000, 2_000_000_000_000)),
    "epoch microseconds": lambda rng: str(rng.randrange(1_500_000_000_000_000, 2_000_000_000_000_000)),
    "epoch nanoseconds": lambda rng: str(rng.randrange(1_500_000_000_000_000_000, 2_000_000_000_000_000_000)),
    "order number of date and time, 17 digits": _orders,
    "order number of date and time, 20 digits": lambda rng: _orders(rng) + digits(rng, 3),
    "order number, 28 digits": lambda rng: _orders(rng) + digits(rng, 11),
    "order number yyMMddHHmmss and 4 digits": lambda rng: _orders(rng)[2:14] + digits(rng, 4),
    "snowflake id": lambda rng: str(rng.randrange(1_700_000_000_000_000_000, 1_999_999_999_999_999_999)),
    "UUID": lambda rng: str(uuid.UUID(int=rng.getrandbits(128), version=4)),
    "UUID without dashes": lambda rng: uuid.UUID(int=rng.getrandbits(128), version=4).hex,
    "Segment's anonymous id": lambda rng: (
        f"ajs-next-{rng.randrange(17 * 10**11, 18 * 10**11)}-{uuid.UUID(int=rng.getrandbits(128))}"
    ),
    "Sensors' anonymous id": lambda rng: (
        f"{rng.getrandbits(52):x}-{rng.getrandbits(56):014x}-{digits(rng, 8)}-2073600-{rng.getrandbits(52):x}"
    ),
    "Google's client id": lambda rng: f"GA1.2.{rng.getrandbits(31)}.{rng.randrange(1_500_000_000, 1_800_000_000)}",
    "hash": lambda rng: f"{rng.getrandbits(256):064x}",
    "version": lambda rng: f"{rng.randrange(20)}.{rng.randrange(400)}.{rng.randrange(9999)}",
    "npm address": lambda rng: f"https://cdn.example/npm/vue@3.{rng.randrange(99)}.{rng.randrange(99)}/dist/vue.js",
    "image of double size": lambda rng: f"/img/icon-{rng.randrange(99)}@{rng.choice(('2x', '3x', '1.5x'))}.png",
    "IP address": lambda rng: ".".join(str(rng.randrange(256)) for _ in range(4)),
    "colour": lambda rng: f"#{rng.getrandbits(24):06x}",
    "landline": lambda rng: f"0{rng.choice(('10', '21', '755'))}-{rng.randrange(2, 9)}{digits(rng, 7)}",
    "hotline": lambda rng: f"400-{digits(rng, 3)}-{digits(rng, 4)}",
    "mobile number within longer digits": lambda rng: f"99{phone(rng)}{digits(rng, 9)}",
    "words": lambda rng: rng.choice(
        ("bearer bonds and shares", "Basic information", "password forgotten?", "短信验证码", "a=b; c=d")
    ),
    "masked already": lambda rng: rng.choice(("138****8000", "***", "6222 **** **** 0128", "j***@example.com")),
    "handle": lambda rng: f"/@community/post-{rng.randrange(999)}",
}
"""What is no secret, and is not masked: not one of thousands."""

BY_CHANCE: Final[dict[str, tuple[Make, float]]] = {
    "16 digits at random": (lambda rng: digits(rng, 16), 0.05),
    "19 digits at random": (lambda rng: digits(rng, 19), 0.03),
    "18 digits at random": (lambda rng: digits(rng, 18), 0.01),
    "11 digits at random": (lambda rng: str(rng.randrange(10**10, 10**11)), 0.09),
    "four prices of four digits": (lambda rng: " ".join(str(rng.randrange(1000, 10**4)) for _ in range(4)), 0.05),
    "hash of 20 digits": (lambda rng: f"/assets/main.{rng.getrandbits(80):020x}.js", 0.005),
    "signed whole number of ten digits": (lambda rng: f"+{rng.randrange(10**9, 10**10)}", 1.0),
    "e-mail address that is nobody's": (lambda rng: f"service{rng.randrange(9)}@fund.example.com", 1.0),
}
"""What looks exactly like what is masked, and at most which part of it is; under an identifier's name none is."""


def is_left(one: Positive, masked: str) -> bool:
    """Return whether a positive is left in what was made of its text, in whole or, of a number, half of its digits."""
    if one.gone in masked:
        return True
    if one.kind not in {"phone", "id_number", "card"}:
        return False
    left = _NO_DIGIT.sub("", unquote(unquote(masked)).translate(_NARROW))
    number = _NO_DIGIT.sub("", unquote(unquote(one.gone)).translate(_NARROW))
    half = len(number) // 2
    return any(number[at : at + half] in left for at in range(len(number) - half + 1))


def recall(seed: int, each: int) -> tuple[dict[str, int], list[Positive]]:
    """Return how many positives of each kind there are, and those of which something is left."""
    counts: dict[str, int] = defaultdict(int)
    missed = []
    for one in positives(seed, each):
        counts[one.kind] += 1
        if is_left(one, EVERYTHING.value(one.text)[0]):
            missed.append(one)
    return counts, missed


def masked_share(make: Make, seed: int, many: int) -> tuple[float, str]:
    """Return which share of a class is masked, and the first that is."""
    rng = random.Random(seed)
    found = [one for one in (make(rng) for _ in range(many)) if EVERYTHING.value(one)[0] != one]
    return len(found) / many, found[0] if found else ""


def main() -> None:
    """Print recall and precision."""
    counts, missed = recall(seed=7, each=300)
    print("| kind | positives | masked |\n| --- | --- | --- |")  # noqa: T201 - what it is for
    for kind, many in counts.items():
        left = sum(one.kind == kind for one in missed)
        print(f"| `{kind}` | {many:,} | {1 - left / many:.4f} |")  # noqa: T201 - what it is for
    for one in missed[:20]:
        print("missed:", one)  # noqa: T201 - what it is for
    print("\n| what is no secret | of 5,000 masked | first |\n| --- | --- | --- |")  # noqa: T201 - what it is for
    for name, make in {**NEGATIVES, **{name: make for name, (make, _) in BY_CHANCE.items()}}.items():
        share, first = masked_share(make, 7, 5000)
        print(f"| {name} | {share:.2%} | {first} |")  # noqa: T201 - what it is for


if __name__ == "__main__":
    main()
