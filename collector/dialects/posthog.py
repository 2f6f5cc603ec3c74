"""What PostHog's SDKs want of HTTP.

posthog-js sends again what was not answered with exactly 200, and drops what was answered with any 4xx, 429 too. No
answer holds `quota_limited`, which silences it for a minute.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

import msgspec

from collector.answer import JSON, Answer, Results
from collector.decode.posthog import POSTHOG
from collector.dialects.path import EventPath, always, json_answer
from collector.dialects.settings_path import SCRIPT, SettingsPath

OK: Final = b'{"status":"Ok"}'

# Surveys are not named: told that there are none, posthog-js loads the script for them all the same.
_CONFIG: Final[dict[str, Any]] = {
    "supportedCompression": ["gzip", "gzip-js"],
    "hasFeatureFlags": False,
    "autocapture_opt_out": False,  # anything but this false leaves autocapture off
    "elementsChainAsString": True,
    "captureDeadClicks": False,
    "capturePerformance": False,
    "heatmaps": False,
    "sessionRecording": False,
    "siteApps": [],
}
_NO_FLAGS: Final[dict[str, Any]] = {
    "flags": {},
    "featureFlags": {},
    "featureFlagPayloads": {},
    "errorsWhileComputingFlags": False,
}


def _results(found: Results) -> Answer:
    """Return what capture v1 wants to hear: what is not named was taken."""
    dropped = {one.id: {"result": "drop", "details": f"{one.reason}: {one.detail}"} for one in found.errors if one.id}
    return Answer(HTTPStatus.OK, msgspec.json.encode({"results": dropped}), [JSON])


def _config_script(names: dict[str, str]) -> bytes:
    """Return the script that leaves the settings for a token, which anybody may write as they like."""
    token = msgspec.json.encode(names["token"]).replace(b"<", b"\\u003c")
    config = msgspec.json.encode({"config": _CONFIG, "siteApps": []})
    return b"(window._POSTHOG_REMOTE_CONFIG=window._POSTHOG_REMOTE_CONFIG||{})[%b]=%b;" % (token, config)


def _quiet(template: str, methods: tuple[str, ...], answer: dict[str, Any]) -> SettingsPath:
    body = msgspec.json.encode(answer)
    return SettingsPath("posthog_settings", template, methods, lambda _: body)


_EVENTS: Final = ("/e", "/i/v0/e", "/batch", "/capture", "/track")
_EITHER: Final = ("GET", "POST")
_FLAGS: Final = {**_NO_FLAGS, **_CONFIG}
"""With the settings in it: posthog-js 1.255 asks for both at once."""
_DECIDED: Final = {**_FLAGS, "config": {"enable_collect_everything": True}}

EVENT_PATHS: Final = (
    *(
        EventPath(
            "posthog",
            path + slash,
            _EITHER,
            always(POSTHOG),
            json_answer(OK),
            {HTTPStatus.TOO_MANY_REQUESTS: HTTPStatus.SERVICE_UNAVAILABLE},
        )
        for path in _EVENTS
        for slash in ("/", "")
    ),
    *(
        EventPath(
            "posthog_v1",
            f"/i/v1/analytics/events{slash}",
            ("POST",),
            always(POSTHOG),
            _results,
            key_required=True,
        )
        for slash in ("", "/")
    ),
)

SETTINGS_PATHS: Final = (
    SettingsPath("posthog_settings", "/array/{token}/config.js", ("GET",), _config_script, (SCRIPT,)),
    _quiet("/array/{token}/config", ("GET",), _CONFIG),
    *(
        _quiet(path + slash, methods, answer)
        for path, methods, answer in (
            ("/flags", _EITHER, _FLAGS),
            ("/decide", _EITHER, _DECIDED),
            ("/flags/definitions", ("GET",), {"flags": [], "group_type_mapping": {}, "cohorts": {}}),
            ("/api/feature_flag/local_evaluation", ("GET",), {"flags": [], "group_type_mapping": {}, "cohorts": {}}),
            ("/api/surveys", ("GET",), {"surveys": []}),
            ("/api/early_access_features", ("GET",), {"earlyAccessFeatures": []}),
            ("/api/web_experiments", ("GET",), {"experiments": []}),
            ("/s", ("POST",), {"status": "Ok"}),
            ("/i/v1/logs", ("POST",), {}),
            ("/i/v1/metrics", ("POST",), {}),
        )
        for slash in ("/", "")
    ),
)
"""Recordings, logs and metrics are not kept; a client that was told to send them all the same is left in peace."""
