"""A definitions document is read whole, or every mistake in it is named with its place."""

from __future__ import annotations

from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.domain.definitions import DefinitionsError, Pattern
from processors.domain.document import FOLD, MAX_DOCUMENT_BYTES, parse
from processors.domain.fold import Rulebook
from processors.domain.matching import Names
from processors.domain.rules import Rules

GOOD = """\
fold = 1
name = "shop"
categories = [
    "bond",
]
category_paths = ["/p/{category}"]

[rules]
strong_above = 4.5
window_hours = 24

[[behaviours]]
name = "seen"
weight = 0.5
type = "page"
path = ["/p/{category}", "/"]

[[behaviours]]
name = "bought"
weight = 2
type = "custom"
event = "bought"
property = { level = ["gold", "1"], on = "True" }

[[milestones]]
name = "registered"
type = "custom"
"""


def problems(text: str) -> list[tuple[int, int, str]]:
    with pytest.raises(DefinitionsError) as caught:
        parse(text)
    assert str(caught.value) == "\n".join(str(one) for one in caught.value.problems)
    return [(one.line, one.column, one.path) for one in caught.value.problems]


def test_a_good_document_is_what_it_says() -> None:
    found = parse(GOOD)
    assert (found.name, found.timezone, found.categories) == ("shop", "Asia/Shanghai", ("bond",))
    assert (found.rules.strong_above, found.rules.window_hours, found.rules.seq_gaps) == (4500, 24, 64)
    assert [(one.name, one.weight) for one in found.behaviours] == [("seen", 500), ("bought", 2000)]
    bought = Pattern("custom", event=("bought",), property=(("level", ("gold", "1")), ("on", ("True",))))
    assert found.behaviours[1].pattern == bought
    assert found.milestones[0].name == "registered"


def test_the_shipped_document_has_the_rules_own_numbers() -> None:
    found = parse((files("processors") / "definitions" / "fund-shop.toml").read_text(encoding="utf-8"))
    assert found.rules == Rules()


def test_no_more_than_the_version_is_needed() -> None:
    assert parse(f"fold = {FOLD}").behaviours == ()


@pytest.mark.parametrize(
    ("good", "bad", "line", "column", "path"),
    [
        ("fold = 1", "fold = 2", 1, 1, "fold"),
        ("fold = 1", "fold = true", 1, 1, "fold"),
        ('name = "shop"', "name = 5", 2, 1, "name"),
        ('name = "shop"', 'nom = "shop"', 2, 1, "nom"),
        ('name = "shop"', '  timezone = "Mars/Base"', 2, 3, "timezone"),
        ('    "bond",', '    "bond", "Bond",', 3, 1, "categories[1]"),
        ('    "bond",', '    "bond", "bond",', 3, 1, "categories[1]"),
        ('"/p/{category}"]\n\n[r', '"p/{category}"]\n\n[r', 6, 1, "category_paths[0]"),
        ('"/p/{category}"]\n\n[r', '"/p/x{category}"]\n\n[r', 6, 1, "category_paths[0]"),
        ('"/p/{category}"]\n\n[r', '"/{category}/{category}"]\n\n[r', 6, 1, "category_paths[0]"),
        ('"/p/{category}"]\n\n[r', '"/p/{1}"]\n\n[r', 6, 1, "category_paths[0]"),
        ('"/p/{category}"]\n\n[r', '"/p/{}"]\n\n[r', 6, 1, "category_paths[0]"),
        ("strong_above = 4.5", "strong_above = 4.5001", 9, 1, "rules.strong_above"),
        ("strong_above = 4.5", "strong_above = -1", 9, 1, "rules.strong_above"),
        ("strong_above = 4.5", "strong_above = nan", 9, 1, "rules.strong_above"),
        ("window_hours = 24", "window_hours = 0", 10, 1, "rules.window_hours"),
        ("window_hours = 24", "window_hours = 24.0", 10, 1, "rules.window_hours"),
        ("window_hours = 24", "window_hours = true", 10, 1, "rules.window_hours"),
        ("window_hours = 24", "  window_days = 1", 10, 3, "rules.window_days"),
        ('name = "seen"', 'name = "Seen"', 13, 1, "behaviours[0].name"),
        ('name = "seen"', 'name = ["seen"]', 13, 1, "behaviours[0].name"),
        ('name = "bought"', 'name = "seen"', 19, 1, "behaviours[1].name"),
        ("weight = 0.5", "weight = 0.0005", 14, 1, "behaviours[0].weight"),
        ("weight = 2", "weight = 1001", 20, 1, "behaviours[1].weight"),
        ("weight = 2", 'weight = "2"', 20, 1, "behaviours[1].weight"),
        ("weight = 2\n", "", 19, 1, "behaviours[1].name"),
        ('type = "page"', 'type = "pages"', 15, 1, "behaviours[0].type"),
        ('type = "page"', 'type = ["page"]', 15, 1, "behaviours[0].type"),
        ('type = "page"\n', "", 12, 1, "behaviours[0]"),
        ('path = ["/p/{category}", "/"]', 'path = ["/p", "q"]', 16, 1, "behaviours[0].path[1]"),
        ('path = ["/p/{category}", "/"]', 'path = [""]', 16, 1, "behaviours[0].path[0]"),
        ('path = ["/p/{category}", "/"]', 'url = "/p"', 16, 1, "behaviours[0].url"),
        ('event = "bought"', "event = 7", 22, 1, "behaviours[1].event[0]"),
        ('on = "True"', "on = true", 23, 1, "behaviours[1].property.on[0]"),
        ("property = {", "property = 5 # {", 23, 1, "behaviours[1].property"),
        ('name = "registered"', 'name = "registered"\nweight = 1', 27, 1, "milestones[0].weight"),
    ],
)
def test_each_mistake_is_named_with_its_place(good: str, bad: str, line: int, column: int, path: str) -> None:
    assert GOOD.count(good) >= 1
    assert problems(GOOD.replace(good, bad, 1)) == [(line, column, path)]


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("fold = 1\nname = \n", 2, 8),
        ("fold = 1\nfold = 1\n", 2, 9),
        ('fold = 1\nname = "open', 2, 13),
        ("fold = 1\n[rules\n", 2, 7),
        (f"fold = 1\n[rules]\nwindow_hours = {'9' * 5000}", 3, 5016),
        (f"fold = 1\nx = {'[' * 50_000}", 2, 50_005),
    ],
)
def test_what_is_no_toml_is_named_with_its_place(text: str, line: int, column: int) -> None:
    """A number or a nesting that Python gives up on, too: the fold must be able to pass over any text."""
    assert problems(text) == [(line, column, "document")]


def test_a_document_has_a_bound() -> None:
    assert problems("#" * (MAX_DOCUMENT_BYTES + 1)) == [(1, 1, "document")]
    assert problems("#" + "基" * (MAX_DOCUMENT_BYTES // 3 + 1)) == [(1, 1, "document")]


@pytest.mark.parametrize("table", ["behaviours", "milestones"])
def test_tables_must_be_tables(table: str) -> None:
    assert problems(f"fold = 1\n{table} = 5") == [(2, 1, table)]
    assert problems(f"fold = 1\n{table} = [5]") == [(2, 1, f"{table}[0]")]
    assert problems(f"fold = 1\n{table} = [{', '.join(['5'] * 201)}]") == [(2, 1, table)]


def test_rules_must_be_a_table() -> None:
    assert problems("fold = 1\nrules = 5") == [(2, 1, "rules")]


def test_every_mistake_is_named_at_once() -> None:
    text = GOOD.replace("fold = 1", "fold = 0").replace("weight = 2", "weight = -2").replace("= 24", "= 0")
    assert problems(text) == [(1, 1, "fold"), (10, 1, "rules.window_hours"), (20, 1, "behaviours[1].weight")]


def test_a_comment_or_another_table_is_not_taken_for_the_place() -> None:
    text = GOOD.replace(
        '[[behaviours]]\nname = "bought"', '# [[behaviours]]\n[[behaviours]] # weight = 1\nname = "bought"'
    )
    assert problems(text.replace("weight = 2", "weight = -2")) == [(21, 1, "behaviours[1].weight")]


PARTS = ("fold = 1", "fold = true", "[rules]", "[[behaviours]]", "[[milestones]]", "[[rules]]", "[behaviours]")
VALUES = (
    "0",
    "1",
    "-1",
    "0.5",
    "nan",
    "true",
    "[]",
    "{}",
    "1979-05-27",
    '""',
    '"page"',
    '"x"',
    '["x", "x"]',
    '"/{a}/{a}"',
)
KEYS = (
    "name",
    "timezone",
    "categories",
    "category_paths",
    "weight",
    "type",
    "path",
    "property",
    "window_hours",
    "text",
)
lines = st.sampled_from(PARTS) | st.builds("{} = {}".format, st.sampled_from(KEYS), st.sampled_from(VALUES))


@given(st.lists(lines, max_size=12), st.booleans())
def test_any_text_is_refused_or_can_be_folded_under(some: list[str], versioned: bool) -> None:  # noqa: FBT001 - hypothesis passes by name
    text = "\n".join(["fold = 1"] * versioned + some)
    try:
        found = parse(text)
    except DefinitionsError as error:
        for one in error.problems:
            assert 1 <= one.line <= text.count("\n") + 1
            assert one.column >= 1
        return
    names = Names([], [], [])
    names.learn(found)
    Rulebook(1, found, names)
