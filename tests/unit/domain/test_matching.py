"""Architecture, section 7: what an event means under a document."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.wire.event import Element, Event, Page
from processors.domain.definitions import Behaviour, Definitions, Pattern
from processors.domain.matching import NO_CATEGORY, NUMBERS, Matcher, Names, TooManyNamesError
from tests.unit.domain.folding import rulebook


def event(kind: str = "page", *, properties: object = None, **fields: object) -> Event:
    raw = msgspec.Raw(json.dumps({} if properties is None else properties).encode())
    return Event(id="e", type=kind, occurred_at=0, received_at=0, properties=raw, **fields)  # type: ignore[arg-type]


def matches(pattern: Pattern, found: Event) -> bool:
    definitions = Definitions(behaviours=(Behaviour("one", 1000, pattern),))
    names = Names([], [], [])
    names.learn(definitions)
    matcher = Matcher(definitions, names)
    meaning = matcher.meaning(found)
    assert matcher.meaning(found) == meaning
    return meaning.behaviours == (0,)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/products", True),
        ("/products/", True),
        ("/products//", True),
        ("/products/bond", True),
        ("/products/bond/", True),
        ("/products/bond/b1", False),
        ("/product", False),
        ("/Products", False),
        ("/x/products", False),
        ("/products\n", False),
        ("", False),
        (None, False),
    ],
)
def test_paths(path: str | None, expected: object) -> None:
    pattern = Pattern("page", path=("/products", "/products/{category}"))
    assert matches(pattern, event(page=Page(path=path))) is expected


@pytest.mark.parametrize("path", ["/", "", "//"])
def test_the_root(path: str) -> None:
    assert matches(Pattern("page", path=("/",)), event(page=Page(path=path)))
    assert not matches(Pattern("page", path=("/",)), event(page=Page(path=path + "x")))
    assert not matches(Pattern("page", path=("/",)), event())


def test_what_looks_like_a_regex_is_text() -> None:
    assert matches(Pattern("page", path=("/a.b+(c)",)), event(page=Page(path="/a.b+(c)")))
    assert not matches(Pattern("page", path=("/a.b",)), event(page=Page(path="/axb")))
    assert not matches(Pattern("page", path=("/a", "/b")), event(page=Page(path="/a|/b")))


@pytest.mark.parametrize(
    ("href", "expected"),
    [
        ("/products/bond/b1", True),
        ("https://shop.example/products/bond/b1/?from=list#top", True),
        ("//shop.example/products/bond/b1", True),
        ("products/bond/b1", False),
        ("https://shop.example/?to=/products/bond/b1", False),
        ("http://[::1/products/bond/b1", False),
        ("", False),
        (None, False),
    ],
)
def test_links(href: str | None, expected: object) -> None:
    pattern = Pattern("click", href_path=("/products/{category}/{product_id}",))
    assert matches(pattern, event("click", element=Element(href=href))) is expected


def test_an_element_without_a_link_leads_nowhere() -> None:
    """Not to the root: a button is no link to the home page."""
    home = Pattern("click", href_path=("/",))
    assert matches(home, event("click", element=Element(href="https://shop.example")))
    assert not matches(home, event("click", element=Element(tag="button", text="Buy")))
    assert not matches(home, event("click"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Invest", True),
        ("  Invest\n", True),
        ("立即投资", True),
        ("立即 投资", False),
        ("invest", False),
        (None, False),
    ],
)
def test_texts_match_but_for_white_space_around_and_between(text: str | None, expected: object) -> None:
    pattern = Pattern("click", text=("Invest", "立即投资"))
    assert matches(pattern, event("click", element=Element(text=text))) is expected
    assert matches(Pattern("click", text=("Buy  now",)), event("click", element=Element(text="Buy\t now")))


def test_every_condition_has_to_hold() -> None:
    pattern = Pattern("click", path=("/p",), text=("Go", "Los"), selector=("#go",))
    element = Element(text="Los", selector="#go")
    assert matches(pattern, event("click", page=Page(path="/p"), element=element))
    assert not matches(pattern, event("submit", page=Page(path="/p"), element=element))
    assert not matches(pattern, event("click", page=Page(path="/q"), element=element))
    assert not matches(pattern, event("click", page=Page(path="/p"), element=Element(text="Los")))
    assert not matches(pattern, event("click", page=Page(path="/p")))


def test_properties() -> None:
    pattern = Pattern("custom", event=("vip",), property=(("level", ("1", "gold")), ("on", ("True",))))
    assert matches(pattern, event("custom", name="vip", properties={"level": "gold", "on": True, "x": []}))
    assert matches(pattern, event("custom", name="vip", properties={"level": 1, "on": "True"}))
    assert not matches(pattern, event("custom", name="vip", properties={"level": "gold"}))
    assert not matches(pattern, event("custom", name="other", properties={"level": "gold", "on": True}))


def test_one_event_may_mean_several_things() -> None:
    definitions = Definitions(
        behaviours=(Behaviour("a", 100, Pattern("page")), Behaviour("b", 250, Pattern("page", path=("/x",))))
    )
    names = Names(["old"], [], [])
    names.learn(definitions)
    meaning = Matcher(definitions, names).meaning(event(page=Page(path="/x")))
    assert (meaning.behaviours, meaning.weight) == ((1, 2), 350)


def test_the_category_of_a_dwell_is_that_of_its_path() -> None:
    matcher, names = rulebook().matcher, rulebook().names.categories
    for path, category in (("/products/stock", "stock"), ("/products/bond/b1/", "bond")):
        assert names[matcher.meaning(event("dwell", page=Page(path=path))).category] == category
    for path in ("/products", "/products/unknown", "/"):
        assert matcher.meaning(event("dwell", page=Page(path=path))).category == NO_CATEGORY
    assert matcher.meaning(event("dwell")).category == NO_CATEGORY


def test_numbers_of_names_stay() -> None:
    names = Names([], [], [])
    first = Definitions(categories=("bond", "stock"))
    names.learn(first)
    names.learn(Definitions(categories=("stock", "index")))
    names.learn(first)
    assert names.categories == ["bond", "stock", "index"]


def test_more_names_than_numbers_are_refused_and_nothing_is_learnt() -> None:
    names = Names([f"b{n}" for n in range(NUMBERS - 2)], [], [])
    with pytest.raises(TooManyNamesError):
        names.learn(Definitions(categories=("bond",), behaviours=(Behaviour("new", 0, Pattern("page")),)))
    assert (len(names.behaviours), names.categories) == (NUMBERS - 2, [])


looks = st.builds(
    event,
    st.sampled_from(("page", "click", "dwell", "submit", "custom")),
    page=st.none() | st.builds(Page, path=st.sampled_from((None, "/", "/products", "/products/bond/", "/orders/new"))),
    element=st.none()
    | st.builds(
        Element, text=st.sampled_from((None, "Invest")), href=st.sampled_from((None, "/", "/products/bond/b1"))
    ),
    name=st.sampled_from((None, "registered")),
)


@given(st.lists(looks, max_size=12))
def test_what_is_remembered_of_looks_means_the_same(events: list[Event]) -> None:
    used = rulebook().matcher
    for one in events:
        assert used.meaning(one) == rulebook().matcher.meaning(one)
