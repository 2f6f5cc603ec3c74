"""How autocapture.js is served: the newest, versions for ever, its source map and its types."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import brotli
import pytest

from collector import sdk
from collector.script import Script
from collector.sdk.minify import minify
from collector.settings import CollectorSettings

NEWEST = "/autocapture.js"
ORIGIN = {"origin": "https://shop.example"}
SOURCE = files("collector.sdk").joinpath("autocapture.js").read_text("utf-8")


async def test_the_newest_script_is_served_with_a_tag(client: Any) -> None:
    plain = await client.send("GET", NEWEST, headers={})
    assert plain.status == 200
    assert plain.headers["content-type"].startswith("text/javascript")
    assert plain.headers["cache-control"] == "public, max-age=3600"
    again = await client.send("GET", NEWEST, headers={"if-none-match": f"W/{plain.headers['etag']}"})
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip, deflate, br, zstd", "br"),
        ("gzip;q=1.0, identity", "gzip"),
        ("GZIP", "gzip"),
        ("br;q=0, gzip", "gzip"),
        ("br; q=0.0", ""),
        ("brotli, xgzip", ""),
        ("", ""),
    ],
)
async def test_the_smallest_that_is_accepted(client: Any, accepted: str, encoding: str) -> None:
    answer = await client.send("GET", NEWEST, headers={"accept-encoding": accepted})
    unpack = {"br": brotli.decompress, "gzip": gzip.decompress, "": bytes}[encoding]
    assert answer.headers.get("content-encoding", "") == encoding
    assert answer.headers["vary"] == "accept-encoding"
    assert unpack(answer.body) == sdk.program().code


async def test_a_version_names_its_content_and_stays(client: Any) -> None:
    program = sdk.program()
    answer = await client.send("GET", program.path, headers=ORIGIN)
    assert re.fullmatch(r"/autocapture-[0-9a-f]{16}\.js", program.path)
    assert answer.body == program.code
    assert "immutable" in answer.headers["cache-control"]
    kind, _, digest = program.integrity.partition("-")
    assert (kind, base64.b64decode(digest)) == ("sha384", hashlib.sha384(answer.body).digest())
    assert (await client.send("GET", "/autocapture-0123456789abcdef.js", headers={})).status == 404


@pytest.mark.parametrize("path", [NEWEST, sdk.program().path, sdk.program().path + ".map", "/autocapture.d.ts"])
async def test_every_page_may_read_it(client: Any, path: str) -> None:
    """A tag with `integrity` asks with CORS; one copy in a cache serves all pages, so the answer names no origin."""
    answer = await client.send("GET", path, headers=ORIGIN)
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers
    assert answer.headers["vary"] == "accept-encoding"
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    assert (await client.send("POST", path, headers={})).status == 405


async def test_types_are_served(client: Any) -> None:
    answer = await client.send("GET", "/autocapture.d.ts", headers={})
    assert answer.headers["content-type"].startswith("text/plain")
    assert b"interface Phasewatch " in answer.body


def test_a_renamed_script_takes_its_files_along() -> None:
    paths = [*Script(CollectorSettings(autocapture_path="/shop/a.js", events_path="/it's"))]
    version = sdk.program("/shop/a.js", "/it's").path
    assert paths == ["/shop/a.js", "/shop/a.d.ts", version, version + ".map"]
    code = sdk.program("/shop/a.js", "/it's").code
    assert code.endswith(b"\n//# sourceMappingURL=" + version.removeprefix("/shop/").encode() + b".map\n")
    assert rb"'/it\'s'" in code


def test_scripts_of_earlier_releases_are_served(tmp_path: Path) -> None:
    """What a release has put into `released` has the path that the release gave it, and the same bytes."""
    (tmp_path / "README.md").write_text("no script", encoding="utf-8")
    (tmp_path / "0.0.1.js").write_text("(()=>{const a='/v1/events'})()\n", encoding="utf-8")
    [old] = sdk.released(NEWEST, "/quiet", tmp_path)
    code = b"(()=>{const a='/quiet'})()\n"
    name = f"autocapture-{hashlib.sha256(code).hexdigest()[:16]}.js"
    assert (old.path, old.source_map) == (f"/{name}", None)
    assert old.code == code + f"//# sourceMappingURL={name}.map\n".encode()


def test_the_script_of_every_release_is_kept() -> None:
    """A version that the changelog calls released has its script in `released`; this one, when it is."""
    changelog = Path("CHANGELOG.md").read_text("utf-8")
    released = re.findall(r"^## (\d\S*)(?! \(unreleased\))$", changelog, flags=re.MULTILINE)
    kept = {one.name for one in files("collector.sdk").joinpath("released").iterdir()}
    assert {f"{version}.js" for version in released} <= kept
    now = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert f"## {now}" in changelog


def test_the_source_map_leads_to_the_source() -> None:
    """Decoded anew here: every piece of code stands in the source where the map says, or has its name there."""
    minified = minify(SOURCE, "autocapture.js")
    lines = SOURCE.split("\n")
    line = source_line = source_column = name = column = 0
    found: dict[str, set[str]] = {}
    segments = minified.source_map["mappings"].split(",")
    starts = []
    for segment in segments:
        fields = _numbers(segment)
        assert len(fields) in {4, 5}
        assert fields[1] == 0
        column += fields[0]
        source_line += fields[2]
        source_column += fields[3]
        if len(fields) == 5:
            name += fields[4]
        original = minified.source_map["names"][name] if len(fields) == 5 else None
        starts.append((column, lines[source_line][source_column:], original))
    ends = [start for start, _, _ in starts[1:]] + [len(minified.code) - 1]
    for (start, original, renamed), end in zip(starts, ends, strict=True):
        piece = minified.code[start:end].strip()
        if renamed is not None:
            assert original.startswith(renamed)
            found.setdefault(renamed, set()).add(piece)
        elif not re.fullmatch(r"\d+|,", piece):  # constants are put in; between declarations `;` became `,`
            assert original.startswith(piece)
    assert line == 0
    assert len(segments) > 3000
    assert all(len(short) == 1 for short in found.values())
    assert {"handOver", "selectorOf", "maskText"} <= found.keys()


def _numbers(segment: str) -> list[int]:
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    numbers, value, shift = [], 0, 0
    for char in segment:
        digit = digits.index(char)
        value |= (digit & 31) << shift
        shift += 5
        if not digit & 32:
            numbers.append(-(value >> 1) if value & 1 else value >> 1)
            value = shift = 0
    return numbers


async def test_the_map_is_served_and_holds_the_source(client: Any) -> None:
    answer = await client.send("GET", sdk.program().path + ".map", headers={})
    served = json.loads(answer.body)
    assert (served["version"], served["sources"]) == (3, ["autocapture.js"])
    assert served["sourcesContent"] == [SOURCE]
