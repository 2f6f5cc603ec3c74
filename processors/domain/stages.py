"""The stages: one table, first match wins (R5); docs/stages.md and a property test are made from it."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final, NamedTuple

from processors.domain.rules import DAY_MS, HOUR_MS, Rules


class Stage(StrEnum):
    """Where a person stands in the cycle (D1, D5)."""

    PROSPECT = "prospect"
    DECISION = "decision"
    HOLDING = "holding"
    POST_REDEMPTION = "post_redemption"
    DORMANT = "dormant"


class Standing(NamedTuple):
    """What a stage follows from; times in UTC milliseconds, scores in thousandths, `hour` = hour(τ)."""

    funds: str
    decision_score: int
    deciding: bool
    """The stage is `decision` (at a transfer also: the anonymous person's was)."""
    ever: bool
    activity: int
    hour: int
    rules: Rules


class StageRule(NamedTuple):
    """One row: the stage, when it holds in words, and the same as code."""

    stage: Stage
    when: str
    holds: Callable[[Standing], bool]


def is_dormant(ever: bool, activity: int, hour: int, rules: Rules) -> bool:  # noqa: FBT001 - a plain fact of the person
    """Return whether a person who was ever in another stage than prospect has been silent too long (R5)."""
    return ever and hour * HOUR_MS >= activity + rules.dormant_after_days * DAY_MS


STAGE_RULES: Final = (
    StageRule(Stage.HOLDING, "funds = held", lambda s: s.funds == "held"),
    StageRule(
        Stage.DECISION,
        "decision_score > 5; or the stage is decision and decision_score >= 4",
        lambda s: (
            s.decision_score > s.rules.strong_above or (s.deciding and s.decision_score >= s.rules.decision_keeps_at)
        ),
    ),
    StageRule(
        Stage.DORMANT,
        "ever in another stage than prospect, and the last activity is 30 days old",
        lambda s: is_dormant(s.ever, s.activity, s.hour, s.rules),
    ),
    StageRule(Stage.POST_REDEMPTION, "funds = redeemed", lambda s: s.funds == "redeemed"),
    StageRule(Stage.PROSPECT, "otherwise", lambda _: True),
)


def stage_of(standing: Standing) -> Stage:
    """Return the stage: the first row of `STAGE_RULES` that holds."""
    return next(rule.stage for rule in STAGE_RULES if rule.holds(standing))
