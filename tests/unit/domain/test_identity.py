"""R8: everything of the anonymous person is added to the user's (ADR 0001, items 27 and 33)."""

from __future__ import annotations

from collector.wire.event import Context, Event, remembered_as
from processors.domain.fold import REPEATED
from processors.domain.identity import unite
from processors.domain.remembered import rows
from processors.domain.rules import DAY_MS, HOUR_MS
from tests.unit.domain.folding import Folding

MINUTE = 60_000


def pair() -> tuple[Folding, Folding]:
    return Folding("u:1"), Folding("a:x")


def united(user: Folding, anonymous: Folding, at: int) -> Folding:
    user.refresh(at)
    anonymous.refresh(at)
    unite(user.person, anonymous.person, user.tau, user.book.rules)
    user.refresh(at)
    return user


def test_counts_and_dwell_are_added() -> None:
    user, anonymous = pair()
    user.submit(0, id="u1")
    anonymous.submit(0, id="a1")
    anonymous.invest(HOUR_MS, id="a2")
    anonymous.dwell("bond", 70_000, HOUR_MS, id="a3")
    person = united(user, anonymous, HOUR_MS).person
    assert person.score == 6500
    assert sum(person.dwell.values()) == 70_000
    assert list(person.buckets) == sorted(person.buckets)


def test_what_has_left_the_window_of_the_users_partition_is_not_added() -> None:
    user, anonymous = pair()
    anonymous.submit(0)
    assert united(user, anonymous, 336 * HOUR_MS).person.score == 0


def test_an_event_sent_anonymously_and_as_the_user_counts_once() -> None:
    user, anonymous = pair()
    for side in (user, anonymous):
        side.submit(0, id="same")
        side.dwell("bond", 70_000, 0, id="both")
    anonymous.submit(0, id="a1")
    person = united(user, anonymous, HOUR_MS).person
    assert person.score == 5000
    assert sum(person.dwell.values()) == 70_000
    assert user.submit(2 * HOUR_MS, id="a1") == REPEATED


def test_within_a_day_of_the_users_stream_time() -> None:
    user, anonymous = pair()
    user.submit(0, id="same")
    anonymous.submit(0, id="same")
    unite(user.person, anonymous.person, user.start + DAY_MS + 1, user.book.rules)
    assert user.refresh(DAY_MS + 1).score == 5000


def numbered(event_id: str) -> int:
    return remembered_as(Event(event_id, "page", 0, 0))


def test_256_events_are_remembered_the_latest() -> None:
    user, anonymous = pair()
    for number in range(200):
        user.add(2 * number, id=f"u{number}")
        anonymous.add(2 * number + 1, id=f"a{number}")
    remembered = [row.number for row in rows(united(user, anonymous, 400).person.remembered)]
    assert len(remembered) == 256
    assert {numbered("u72"), numbered("a72")} <= set(remembered)
    assert not {numbered("u71"), numbered("a71")} & set(remembered)


def test_a_session_of_both_is_one_visit_and_others_are_added_by_day() -> None:
    user, anonymous = pair()
    for session in ("s1", "s2"):
        anonymous.add(0, session_id=session)
    user.add(MINUTE, session_id="s2")
    user.add(MINUTE, session_id="s3")
    anonymous.add(0)
    person = united(user, anonymous, MINUTE).person
    assert sum(person.visit_days.values()) == 4
    user.add(2 * MINUTE, session_id="s1")
    assert sum(person.visit_days.values()) == 4


def test_the_last_visit_without_a_session_goes_on() -> None:
    user, anonymous = pair()
    anonymous.add(0)
    united(user, anonymous, MINUTE)
    user.add(20 * MINUTE)
    assert sum(user.person.visit_days.values()) == 1


def test_milestones_first_touch_and_activity() -> None:
    user, anonymous = pair()
    user.add(5, name="registered", context=Context(channel="later"))
    anonymous.add(3, name="registered", context=Context(channel="earlier"))
    anonymous.add(9, name="card_bound")
    person = united(user, anonymous, 9).person
    start, names = user.start, user.book.names.milestones
    assert person.milestones == {names.index("registered"): start + 3, names.index("card_bound"): start + 9}
    assert person.first_touch == (start + 3, "earlier")
    assert person.activity == start + 9


def test_the_place_of_the_later_visit() -> None:
    for first, second, place in ((0, 5, "Beijing"), (5, 0, "Shanghai")):
        user, anonymous = pair()
        user.add(first, context=Context(place="Shanghai"))
        anonymous.add(second, context=Context(place="Beijing"))
        assert united(user, anonymous, 9).person.place == place


def test_a_place_known_of_one_side_alone_is_kept() -> None:
    for first, second in ((0, 5), (5, 0)):
        user, anonymous = pair()
        user.add(first)
        anonymous.add(second, context=Context(place="Beijing"))
        assert united(user, anonymous, 9).person.place == "Beijing"


def test_ever_in_another_stage_is_united_by_or() -> None:
    for ours, theirs in ((False, True), (True, False)):
        user, anonymous = pair()
        user.person.ever, anonymous.person.ever = ours, theirs
        assert united(user, anonymous, 0).person.ever


def test_devices_of_the_anonymous_person_are_the_latest() -> None:
    user, anonymous = pair()
    user.add(0, anonymous_id="x", seq=0)
    for number in range(15):
        user.add(0, anonymous_id=f"d{number}")
    anonymous.add(0, anonymous_id="x", seq=2)
    person = united(user, anonymous, 0).person
    assert list(person.devices)[-1] == "x"
    assert user.add(1, anonymous_id="x", seq=0) == REPEATED
    assert user.add(1, anonymous_id="x", seq=1) != REPEATED
    assert user.add(1, anonymous_id="x", seq=2) == REPEATED
    user.add(2, anonymous_id="new")
    assert "d0" not in person.devices


def test_the_users_claims_stay_known() -> None:
    user, anonymous = pair()
    user.add(0)
    user.person.devices["x"].claimed = 7
    anonymous.add(0)
    assert united(user, anonymous, 0).person.devices["x"].claimed == 7
