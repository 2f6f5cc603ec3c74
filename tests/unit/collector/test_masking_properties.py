"""Properties: values of every type, names, what a name tells, and what a source's settings ask for."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from collector.decode.decoded import RequestFacts
from collector.decode.native import decode_native
from collector.masking.kinds import KINDS
from collector.masking.rules import EVERYTHING, Masking
from collector.settings import CollectorSettings, MaskingSettings, WriteKey

PHONE, CARD, ID_NUMBER, EMAIL = 13800138000, 4111111111111111, "11010519491231002X", "jane.doe@example.com"


def masked(properties: dict[str, Any], masking: Masking = EVERYTHING) -> dict[str, Any]:
    masking.properties(properties, [])
    return properties


@pytest.mark.parametrize("value", [PHONE, float(PHONE), CARD, 8613800138000, 110105194912310021 + 0, str(PHONE), EMAIL])
def test_values_of_every_type(value: Any) -> None:
    expected = value if value == 110105194912310021 else "***"  # its check digit is X, which no number can say
    assert masked({"who": value, "list": [value, {"a": value}]}) == {
        "who": expected,
        "list": [expected, {"a": expected}],
    }


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -1, 30_000, 1_795_288_859_000, 1.5, 1e300, float("inf"), -float(PHONE), 10**30, "", "bond", []],
)
def test_what_stays(value: Any) -> None:
    assert masked({"a": value, "b": [value]}) == {"a": value, "b": [value]}


def test_names_that_are_one_themselves() -> None:
    assert masked({str(PHONE): 1, f"of {EMAIL}": {"/?token=x1": 2}, "a": 3}) == {
        "***": 1,
        "of ***": {"/?token=***": 2},
        "a": 3,
    }


@pytest.mark.parametrize(
    "name",
    [
        "password", "userPassword", "new_password", "pwd", "payPwd", "token", "access_token", "accessToken", "idtoken",
        "X-CSRF-Token", "secret", "client_secret", "apiKey", "api_key", "privateKey", "otp", "smsCode", "verify_code",
        "captcha", "cvv", "jwt", "credentials", "idCard", "id_card_no", "bankCardNo", "authorization",
    ],
)  # fmt: skip
def test_secret_by_name(name: str) -> None:
    assert (
        masked({name: "x"}) == masked({name: 7}) == masked({name: {"a": [1]}}) == masked({name: ["a"]}) == {name: "***"}
    )
    assert masked({name: True, f"{name}_count": 3, "a": None}) == {name: True, f"{name}_count": 3, "a": None}


@pytest.mark.parametrize(
    "name",
    [
        "product_id", "order_id", "amount", "ms", "fund_code", "code", "key", "pin", "sign", "keyword",
        "session_id", "$session_id", "identity_verified", "email_opened", "phone_model", "is_mobile", "token_type",
        "password_strength", "remaining_tokens", "$ai_input_tokens", "author", "passenger", "signup", "secretary",
    ],
)  # fmt: skip
def test_not_secret_by_name(name: str) -> None:
    assert masked({name: "x-1"}) == {name: "x-1"}
    assert masked({name: 93.5}) == {name: 93.5}


def test_an_identifier_is_left_alone_but_no_text_and_no_address() -> None:
    left = {"order_id": "4111111111111111", "product_id": PHONE, "amount": "13800138000.00", "timestamp": PHONE}
    assert masked(dict(left)) == left
    assert masked({"order_id": f"of {PHONE}", "product_id": EMAIL}) == {"order_id": "of ***", "product_id": "***"}


def test_settings_of_a_source() -> None:
    settings = MaskingSettings(kinds=("phone", "secret"), secret_names=("policy_no",), kept_names=("code", "phone"))
    key = WriteKey(name="web", key=SecretStr("k"), masking=settings)
    rules = key.masking.rules
    assert rules is MaskingSettings(**settings.model_dump()).rules
    assert rules.url("/?code=s3cret&policyNo=7&pwd=1") == ("/?code=s3cret&policyNo=***&pwd=***", ("secret", "secret"))
    assert masked({"policy-no": 7, "phone": PHONE, "a": PHONE, "b": EMAIL, "c": CARD}, rules) == {
        "policy-no": "***",
        "phone": PHONE,
        "a": "***",
        "b": EMAIL,
        "c": CARD,
    }
    nothing = MaskingSettings(kinds=()).rules
    assert nothing.url(f"/?token=a1&u={EMAIL}&n=/x?y%3D{PHONE}") == (f"/?token=a1&u={EMAIL}&n=/x?y%3D{PHONE}", ())
    assert masked({"password": "x", "a": PHONE}, nothing) == {"password": "x", "a": PHONE}


def test_the_default_is_everything() -> None:
    assert MaskingSettings().rules is EVERYTHING
    assert MaskingSettings().kinds == KINDS
    with pytest.raises(ValidationError):
        MaskingSettings.model_validate({"kinds": ["names"]})
    assert CollectorSettings.model_validate({"keys": [{"name": "a", "key": "k", "masking": {"kinds": ["email"]}}]})


def test_every_text_of_a_native_event_is_masked_and_counted_for_its_source() -> None:
    event = {
        "id": "e-1", "type": "custom", "user_id": str(PHONE), "name": f"call {PHONE}",
        "page": {"url": f"/u/{EMAIL}", "path": f"/u/{EMAIL}", "title": f"{EMAIL}的持仓", "referrer": "/?sid=1"},
        "element": {"tag": "a", "text": str(PHONE), "selector": f"#u{PHONE}", "href": f"tel:{PHONE}", "index": PHONE},
        "properties": {"a": [{"b": PHONE}], "pwd": 1},
    }  # fmt: skip
    only_emails = Masking(("email",))
    for nested in (True, False):  # the exact way, and the ordinary one
        event["properties"] = {"a": [{"b": PHONE}], "pwd": 1} if nested else {"a": PHONE, "pwd": 1}
        found = decode_native([json.dumps(event).encode()], RequestFacts("web", trusted=False, received_at=10**12))
        [(_, one)] = found.events
        assert found.masked == {"phone": 5, "email": 3, "secret": 2}
        assert one.user_id == str(PHONE)
        assert (one.page.title, one.page.path, one.element.index) == ("***的持仓", "/u/***", None)  # type: ignore[union-attr]
    request = RequestFacts("web", trusted=False, received_at=10**12, masking=only_emails)
    found = decode_native([json.dumps(event).encode()], request)
    assert found.masked == {"email": 3}
