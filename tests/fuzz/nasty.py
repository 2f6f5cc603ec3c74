"""Values that break readers of JSON, of ids, times, amounts and URLs; each as JSON text."""

from __future__ import annotations

import json
from typing import Final

_TEXTS: Final = (
    "", " ", "null", "undefined", "NaN", "0", "-0", "00000000-0000-0000-0000-000000000000", "[object Object]",
    "guest", "\u200bundefined", "undefined\u2028", " null\u3000", "\uff4e\uff55\uff4c\uff4c", "\ufeffnone", "a\x00b",
    "a\nb", "a\r\nb", "\x7f", "a\x85b", "a\u2028b", "\u2029", "\u202e\u202d", "\ud83d", "a\udc00", "\ud83d\ude00" * 9,
    "é" * 129, "x" * 128, "x" * 129, "x" * 8192, "x" * 8193, "ﷺ" * 40, "i\u0307", "<script>", "'\"`\\", "%00", "%",
    "%zz", "%ff%fe", "\\u0000", "e" * 300, "javascript:alert(1)", "data:text/html,x", "//evil.example/a",
    "http://[::1", "http://[::1]:99999/x", "http://a@b@c/", "https://a.example/" + "a/" * 900, "?" * 500, "#" * 500,
    "https://a.example/?" + "a=b&" * 900, "/../../..", "http://", "http://%41@x/?a=http%3A%2F%2Fb%3Fc%3Dd",
    "2026-11-22T08:15:04Z", "2026-11-22T08:15:04.123456789+08:00", "2026-02-30T00:00:00Z",
    "2026-11-22 08:15:04+00:00", "2026-11-22T24:00:00Z", "2026-11-22T23:59:60Z", "2026-11-22T08:15:04",
    "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "1795288859000", "1795288859.000", "1e12",
    "+1795288859000", "\uff11\uff17\uff19\uff15288859000", "1_795_288_859_000", "0x1A", "1" * 400, "1000.50",
    "1,000.50", "-1", "+1", ".5", "5.", "1e3", "NaN", "Infinity", "1" * 31, "0." + "1" * 19, "٣", "1\n", "true", "{}",
    "[]", '{"a":1}', '{"schema":"iglu:a/b/c/1","data":{}}', 'div.a:text="x', "a" * 200 + ":",
    'a:attr__href="/x"' * 50, ";" * 300, '"' * 301, "\\" * 301, ":" * 400, "a." * 400, "$autocapture", "$identify",
    "$create_alias", "$$heatmap", "track_signup", "VIEW_CLICK", "alias", "purchase", "identify", "custom", "dwell",
    "toString", "__proto__", "constructor",
)  # fmt: skip

_NUMBERS: Final = (
    "0", "-0", "1", "-1", "1.0", "-0.0", "1e5", "1E400", "-1e400", "1e-400", "0.1", "9007199254740991",
    "9007199254740992", "9223372036854775807", "9223372036854775808", "18446744073709551616", "-9223372036854775809",
    "1" * 100, "1" * 500, "-" + "9" * 4000, "9" * 4400, "9" * 5000, "0." + "1" * 400, "1e308",
    "1.7976931348623159e308", "946684799999", "946684800000", "1795289920000", "1795289920", "7258118399999",
    "7258118400000", "1795289920000.7", "1.795e12", "1e1000000",
)  # fmt: skip

_NO_NUMBERS: Final = (
    "NaN",
    "Infinity",
    "-Infinity",
    "01",
    "+1",
    ".5",
    "1.",
    "1e",
    "0x10",
    "--1",
    "undefined",
    "nul",
    "True",
)
"""What is no JSON at all, and what lenient readers take."""

_SHAPES: Final = (
    "null", "true", "false", "{}", "[]", "[[]]", '{"":""}', '{"a":{"a":{"a":1}}}', "[null]", "[1,2,3]",
    '{"a":1,"a":2}', "[{}]", '{"__proto__":{"x":1}}', '"\\ud800"', '"\\udfff\\ud800"', '"\\u0000"', '"\\x41"',
    '"\\u12"', '"a\tb"', '"a\nb"', '"', "[" * 40 + "]" * 40, '{"a":' * 40 + "1" + "}" * 40, "[" * 31 + "]" * 31,
    '{"a":' * 300 + "1" + "}" * 300, "[" * 1500 + "]" * 1500, '{"a":' * 5000 + "1" + "}" * 5000, "[" * 200, "]" * 3,
    "}", ",", ":", "/**/1", "1 2", "[" + "0," * 3000 + "0]",
    "{" + ",".join(f'"k{at}":{at}' for at in range(2000)) + "}", '{"a":[' + "{}," * 400 + "{}]}",
)  # fmt: skip

NASTY: Final = (*map(json.dumps, _TEXTS), *_NUMBERS, *_NO_NUMBERS, *_SHAPES)

STRANGE_BYTES: Final = (
    b"\x00", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf", b"\r\n", b"\n", b'"', b"\\",
    b"{", b"}", b"[", b"]", b",", b":", b"&", b"=", b"%", b"+", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\x78\x9c",
    b"\\u", b"\\ud800", b"1e999", b"\xe2\x80\xa8", b"\x80" * 9, b"\xff" * 9 + b"\x7f", b"null", b'"batch":',
    b'"data":', b'"events":',
)  # fmt: skip
