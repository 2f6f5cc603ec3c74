"""Counts in a log, and in the changes that followed from it, each transition of R5 and each case of R4 and R8.

It reads the log as it stands (with the claims and forwarded events that the fold derived) and repeats no rule but the
course of a link; a log that is meant to show everything has to show each name here often enough.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from collector.wire.record import Record
from tests.property.coverage_identity import link_cases, repeat_cases
from tests.property.coverage_log import Changes
from tests.property.coverage_money import money_cases

# Left out because they can't happen:
# - decision->dormant: what keeps a decision is at most 14 days old, and dormancy needs 30 days without any activity;
# - holding->null: only users hold, users never merge, and a standing purchase is never forgotten (R6);
# - post_redemption->null: for the same reasons, redeemed money has a standing purchase.
EXPECTED_TRANSITIONS: Final = (
    "prospect->decision",
    "prospect->holding",
    "prospect->post_redemption",
    "prospect->dormant",
    "prospect->null",  # an anonymous person whose decision has passed turns out to be a user
    "decision->prospect",
    "decision->holding",
    "decision->post_redemption",
    "decision->null",
    "holding->prospect",
    "holding->decision",
    "holding->post_redemption",
    "holding->dormant",  # the redemption of a long time ago is heard of only now
    "post_redemption->prospect",
    "post_redemption->decision",
    "post_redemption->holding",
    "post_redemption->dormant",
    "dormant->prospect",
    "dormant->decision",  # by a transfer alone: no single event is worth more than 5
    "dormant->holding",
    "dormant->post_redemption",
    "dormant->null",
    "holding->holding confirmed",
    "holding->holding unconfirmed",
    "post_redemption->post_redemption confirmed",
    "post_redemption->post_redemption unconfirmed",
)

EXPECTED_CASES: Final = (
    # What is said of purchases (R4).
    "purchase_trusted_only",
    "purchase_provisional_then_confirmed",
    "purchase_taken_back_by_timer",
    "purchase_repeat_does_not_prolong",
    "purchase_confirmed_after_taken_back",
    "purchase_public_after_trusted_ignored",
    "purchase_cancelled_trusted",
    "purchase_cancelled_public",
    "purchase_public_cancel_of_trusted_ignored",
    "purchase_cancellation_arrives_first",
    "purchase_tie_cancellation_stands",
    "purchase_reinstated",
    "trusted_redeem_confirms_public_purchase",
    "cancelled_public_purchase_not_undone_by_redeem",
    "second_product_while_held",
    # What is said of redemptions (R4).
    "redeem_trusted_only",
    "redeem_waited_for_purchase",
    "redeem_wait_expired",
    "redeem_provisional_then_confirmed",
    "redeem_taken_back_by_timer",
    "redeem_confirmed_after_taken_back",
    "redeem_cancelled_trusted",
    "redeem_cancelled_public",
    "redeem_public_cancel_of_trusted_ignored",
    "redeem_cancellation_arrives_first",
    "redeem_reinstated",
    "partial_redeem",
    "partial_redeem_told_anew",
    "remaining_zero_closes",
    "redemption_id_two_parts",
    # Maturity, age, and what follows (R4).
    "maturity_closes_provisionally",
    "maturity_confirmed_by_redeem",
    "maturity_rolled_over",
    "late_redeem_after_rollover",
    "redeemed_before_maturity",
    "summary_after_400_days",
    "record_of_summed_up_order",
    "held_for_over_400_days",
    "late_money_fact",
    "retraction_names_a_change",
    "returning_without_purchase",
    "new_again_after_retraction",
    # What comes twice (R7, R8).
    "duplicate_within_a_day",
    "duplicate_numbered_days_later",
    # Links, and the persons on both ends (R8).
    "identify_links",
    "first_event_with_both_ids_links",
    "identify_forwarded",
    "link_without_person",
    "link_with_person",
    "several_devices",
    "claimed_again_by_same_user",
    "claim_refused",
    "first_user_back_refused",
    "straggler_forwarded",
    "straggler_from_before_login",
    "fresh_person_after_second_claim",
    "fresh_person_event_from_before_claim",
    "link_forgotten",
    "link_forgotten_then_linked_anew",
    "shared_link_forgotten",
    "anonymous_person_forgotten",
    "event_sent_anonymously_and_as_user",
    "merged_published",
    "merged_unpublished",
    "merged_while_dormant",
    "merged_into_user_in_prospect",
    "merged_into_user_in_decision",
    "merged_into_user_in_holding",
    "merged_into_user_in_post_redemption",
    "merged_into_user_in_dormant",
    "transfer_changes_stage",
    "transfer_not_actionable",
    "transfer_from_decision_keeps_at_4",
    "transfer_adds_up_to_decision",
    "forgotten",
    "new_life",
)


def count_cases(records: Iterable[Record], changes: Changes) -> Counter[str]:
    """Return how often each transition and case occurs.

    Args:
        records: of all partitions of one log, in any order.
        changes: per person key the change messages (contract), oldest first.
    """
    log = sorted(records, key=lambda record: (record.partition, record.offset))
    counts: Counter[str] = Counter()
    counts.update(_transitions(changes))
    counts.update(_ends(changes))
    counts.update(_transfers(changes))
    counts.update(money_cases(log, changes))
    counts.update(link_cases(log, changes))
    counts.update(repeat_cases(log))
    return counts


def _transitions(changes: Changes) -> Iterator[str]:
    for told in changes.values():
        for change in told:
            name = f"{change['from']}->{change['to'] or 'null'}"
            flips = change["from"] == change["to"]
            yield name + (" confirmed" if change["confirmed"] else " unconfirmed") * flips
            if change["retracts"] is not None:
                yield "retraction_names_a_change"
                if change["customer"] == "new":
                    yield "new_again_after_retraction"
            if change["customer"] == "returning" and change["funds"] == "none":
                yield "returning_without_purchase"


def _ends(changes: Changes) -> Iterator[str]:
    for told in changes.values():
        for change in told:
            if change["to"] is None:
                yield "forgotten" if change["merged_into"] is None else "merged_published"
                yield from [_user_then(changes, change)] * (change["merged_into"] is not None)
                yield from ["merged_while_dormant"] * (
                    change["merged_into"] is not None and change["from"] == "dormant"
                )
        yield from ["new_life"] * (len({change["life"] for change in told}) - 1)


def _user_then(changes: Changes, end: Mapping[str, Any]) -> str:
    """Return in which stage the user was when an anonymous person ended in it (an `at` sorts as text)."""
    told = changes.get(_user_key(end), ())
    stages = [change["to"] for change in told if change["at"] < end["at"]]
    return f"merged_into_user_in_{stages[-1] if stages else 'prospect'}"


def _user_key(end: Mapping[str, Any]) -> str:
    return "u:" + str(end["merged_into"]).removeprefix("u:")


def _transfers(changes: Changes) -> Iterator[str]:
    ends = [change for told in changes.values() for change in told if change["to"] is None and change["merged_into"]]
    brought = {(_user_key(end), end["from"]) for end in ends}
    for person, told in changes.items():
        for change in told:
            if change["cause"]["kind"] != "transfer":
                continue
            yield "transfer_changes_stage"
            if not change["actionable"] and (person, change["to"]) in brought:
                yield "transfer_not_actionable"
            if change["to"] == "decision" and change["decision_score"] <= 5:
                yield "transfer_from_decision_keeps_at_4"
            if change["to"] == "decision" and (person, "decision") not in brought:
                yield "transfer_adds_up_to_decision"
