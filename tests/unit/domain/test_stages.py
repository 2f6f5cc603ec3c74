"""R5's table: the first row that holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.domain.rules import DAY_MS, HOUR_MS, Rules
from processors.domain.stages import STAGE_RULES, Stage, Standing, stage_of

HOUR = 490_000
NOW = HOUR * HOUR_MS
LONG_AGO = NOW - 30 * DAY_MS


def standing(
    funds: str = "none", score: int = 0, *, deciding: bool = False, ever: bool = False, activity: int = NOW
) -> Standing:
    return Standing(funds, score, deciding, ever, activity, HOUR, Rules())


@pytest.mark.parametrize(
    ("found", "stage"),
    [
        (standing(), "prospect"),
        (standing(score=5000), "prospect"),
        (standing(score=5001), "decision"),
        (standing(score=4000, deciding=True), "decision"),
        (standing(score=3999, deciding=True), "prospect"),
        (standing(score=4000, ever=True), "prospect"),
        (standing("held", 9000, deciding=True), "holding"),
        (standing("held", ever=True, activity=LONG_AGO), "holding"),
        (standing("redeemed", 5001), "decision"),
        (standing("redeemed", 5000, ever=True), "post_redemption"),
        (standing("redeemed", ever=True, activity=LONG_AGO), "dormant"),
        (standing("redeemed", ever=True, activity=LONG_AGO + 1), "post_redemption"),
        (standing(ever=True, activity=LONG_AGO), "dormant"),
        (standing(ever=True, activity=LONG_AGO + 1), "prospect"),
        (standing(activity=LONG_AGO), "prospect"),
        (standing(score=5001, ever=True, activity=LONG_AGO), "decision"),
    ],
)
def test_every_row_at_its_borders(found: Standing, stage: str) -> None:
    assert stage_of(found) == stage


def test_the_table_names_every_stage_once_and_ends_with_otherwise() -> None:
    assert {rule.stage for rule in STAGE_RULES} == set(Stage)
    assert len(STAGE_RULES) == len(Stage)
    assert STAGE_RULES[-1].when == "otherwise"


standings = st.builds(
    Standing,
    funds=st.sampled_from(("none", "held", "redeemed")),
    decision_score=st.sampled_from((0, 3999, 4000, 5000, 5001)) | st.integers(0, 20_000),
    deciding=st.booleans(),
    ever=st.booleans(),
    activity=st.sampled_from((NOW, LONG_AGO, LONG_AGO + 1, LONG_AGO - 1)) | st.integers(0, 2 * NOW),
    hour=st.integers(HOUR - 800, HOUR + 800),
    rules=st.builds(
        Rules,
        strong_above=st.sampled_from((5000, 5000, 2500)),
        decision_keeps_at=st.sampled_from((4000, 4000, 3250)),
        dormant_after_days=st.sampled_from((30, 30, 2)),
    ),
)


@given(standings)
def test_the_table_says_what_r5_says(s: Standing) -> None:
    if s.funds == "held":
        expected = "holding"
    elif s.decision_score > s.rules.strong_above or (s.deciding and s.decision_score >= s.rules.decision_keeps_at):
        expected = "decision"
    elif s.ever and s.hour * HOUR_MS - s.activity >= s.rules.dormant_after_days * 24 * HOUR_MS:
        expected = "dormant"
    elif s.funds == "redeemed":
        expected = "post_redemption"
    else:
        expected = "prospect"
    assert stage_of(s) == expected
