"""Where somebody is: from a CDN's headers, or from a file in MaxMind's format."""

from __future__ import annotations

from pathlib import Path

import maxminddb
import pytest
from structlog.testing import capture_logs

from collector.context.place import MAX_CHARS, RECHECK_SECONDS, HeaderPlaces, PlaceDatabase
from phasewatch.errors import UsageError
from phasewatch.places import require_places
from phasewatch.settings import Settings
from tests.mmdb import mmdb

SHANGHAI = {"country": {"iso_code": "CN"}, "city": {"names": {"en": "Shanghai", "zh-CN": "上海"}}}
NETWORKS = {
    "203.0.113.0/24": SHANGHAI,
    "198.51.100.0/24": {"country": {"iso_code": "DE"}},
    "192.0.2.0/24": {"country": "FR", "city": "Paris"},
    "2001:db8:1::/48": {"country_code": "JP", "city": {"names": {"ja": "東京"}}},
    "2001:db8:2::/48": {"city": {"names": {"en": "Springfield"}}},
    "2001:db8:3::/48": [1],
}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "places.mmdb"
    path.write_bytes(mmdb(NETWORKS))
    return path


def test_the_files_of_these_tests_are_read_by_the_library(file: Path) -> None:
    with maxminddb.open_database(file) as reader:
        assert reader.get("203.0.113.77") == SHANGHAI
        assert reader.get("203.0.114.1") is None


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("203.0.113.77", "CN/Shanghai"),
        ("::ffff:203.0.113.77", "CN/Shanghai"),
        ("198.51.100.1", "DE"),
        ("192.0.2.9", "FR/Paris"),
        ("2001:db8:1::77", "JP"),
        ("2001:db8:2::77", None),  # many places have that name
        ("2001:db8:3::77", None),
        ("10.0.0.1", None),
        ("nowhere", None),
    ],
)
def test_places_of_addresses(file: Path, address: str, place: str | None) -> None:
    assert PlaceDatabase(file).place_of(address) == place


def test_a_new_file_counts_within_half_a_minute(file: Path) -> None:
    clock = Clock()
    places = PlaceDatabase(file, clock)
    assert places.place_of("203.0.113.1") == "CN/Shanghai"
    new = file.with_suffix(".new")
    new.write_bytes(mmdb({"203.0.113.0/24": {"country": {"iso_code": "SG"}}}))
    new.replace(file)
    clock.now += RECHECK_SECONDS - 1
    assert not places.has_changed()
    clock.now += 1
    assert places.has_changed()
    assert not places.has_changed()
    assert places.place_of("203.0.113.1") == "SG"


@pytest.mark.parametrize("broken", [b"", b"no such file at all", None])
def test_one_that_breaks_later_leaves_the_one_before(file: Path, broken: bytes | None) -> None:
    clock = Clock()
    places = PlaceDatabase(file, clock)
    good = file.read_bytes()
    if broken is None:
        file.unlink()
    else:
        file.write_bytes(broken)
    with capture_logs() as logs:
        for _ in range(3):
            clock.now += RECHECK_SECONDS
            assert not places.has_changed()
    assert [one["event"] for one in logs] == ["place_file_unreadable"]
    assert places.place_of("203.0.113.1") == "CN/Shanghai"
    file.write_bytes(good)
    clock.now += RECHECK_SECONDS
    assert places.has_changed()


def test_a_damaged_file_costs_places_and_nothing_else(file: Path) -> None:
    whole = file.read_bytes()
    at = whole.index(b"iso_code")
    file.write_bytes(whole[: at - 4] + b"\xff" * 8 + whole[at + 4 :])
    assert PlaceDatabase(file).place_of("203.0.113.1") is None


def test_a_start_without_the_file_says_what_to_do(tmp_path: Path) -> None:
    missing = tmp_path / "none.mmdb"
    settings = Settings.model_validate({"collector": {"place_database": str(missing)}})
    with pytest.raises(
        UsageError, match=r"collector.place_database: .*none.mmdb cannot be read.*leave the setting out"
    ):
        require_places(settings)


@pytest.mark.parametrize(
    ("names", "values", "place"),
    [
        (["CF-IPCountry"], {"cf-ipcountry": "CN"}, "CN"),
        (["CF-IPCountry"], {"cf-ipcountry": "XX"}, None),
        (["CF-IPCountry"], {"cf-ipcountry": "T1"}, None),
        (["CF-IPCountry"], {}, None),
        (
            ["CloudFront-Viewer-Country", "CloudFront-Viewer-City"],
            {"cloudfront-viewer-country": "CN", "cloudfront-viewer-city": "Shanghai"},
            "CN/Shanghai",
        ),
        (["X-Country", "X-City"], {"x-country": "cn", "x-city": "上海"}, "CN/上海"),
        (["X-Country", "X-City"], {"x-city": "Shanghai"}, None),
        (["X-AppEngine-Country", "X-AppEngine-City"], {"x-appengine-country": "ZZ", "x-appengine-city": "?"}, None),
        (["X-AppEngine-Country", "X-AppEngine-City"], {"x-appengine-country": "US", "x-appengine-city": "?"}, "US"),
        (
            ["X-Akamai-Edgescape"],
            {"x-akamai-edgescape": "georegion=1,country_code=CN,region_code=SH,city=SHANGHAI,lat=31.2"},
            "CN/Shanghai",
        ),
        (["X-Country"], {"x-country": "C\x1bN"}, None),
    ],
)
def test_places_of_headers(names: list[str], values: dict[str, str], place: str | None) -> None:
    places = HeaderPlaces(names)
    headers = {name.encode(): value.encode() for name, value in values.items()}
    assert places.place_of(places.values(headers)) == place


def test_a_place_is_bounded() -> None:
    found = HeaderPlaces(["X-Country"]).place_of([b"x" * 500])
    assert found is not None
    assert len(found) == MAX_CHARS
