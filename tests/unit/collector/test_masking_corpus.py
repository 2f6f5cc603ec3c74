"""How much of a large corpus is masked: all of what must not pass, and hardly anything else."""

from __future__ import annotations

import pytest

from collector.masking.rules import EVERYTHING
from tests import masking_corpus as corpus


def test_nothing_of_the_documented_forms_passes() -> None:
    counts, missed = corpus.recall(seed=11, each=40)
    assert missed == []
    assert min(counts.values()) > 100


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(8))
def test_nothing_of_many_more_passes(seed: int) -> None:
    counts, missed = corpus.recall(seed, each=300)
    assert missed == []
    assert sum(counts.values()) > 20_000


@pytest.mark.parametrize("name", corpus.NEGATIVES)
def test_what_is_no_secret_is_not_masked(name: str) -> None:
    assert corpus.masked_share(corpus.NEGATIVES[name], seed=11, many=1000) == (0, "")


@pytest.mark.parametrize("name", corpus.BY_CHANCE)
def test_what_is_masked_by_chance_is_no_more_than_is_said(name: str) -> None:
    make, most = corpus.BY_CHANCE[name]
    assert corpus.masked_share(make, seed=11, many=2000)[0] <= most


@pytest.mark.parametrize("name", ["order_id", "orderNo", "product_id", "fund_code", "trade_no", "amount"])
def test_under_the_name_of_an_identifier_no_number_is_masked(name: str) -> None:
    for _, value in zip(range(500), corpus.positives(3, 30), strict=False):
        if value.kind in {"phone", "card", "id_number"} and value.form == "plain" and value.text == value.gone:
            given = {name: value.gone}
            EVERYTHING.properties(given, [])
            assert given == {name: value.gone}
