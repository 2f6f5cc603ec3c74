"""What the oracle takes an event to mean: the conditions of a definitions document, held against it one by one."""

import re
from typing import Any

from collector.wire.event import Element, Event, Page


def match_path(url: str | None, patterns: list[str]) -> dict[str, Any] | None:
    path = re.sub("^([^:/?#]+:)?(//[^/?#]*)?|[?#].*", "", url or "").rstrip("/")  # RFC 3986, appendix B
    regexes = (re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(p.rstrip("/"))) for p in patterns if url is not None)
    return next((m.groupdict() for regex in regexes if (m := re.fullmatch(regex, path))), None)


def matches(rule: dict[str, Any], event: Event, properties: dict[str, Any]) -> bool:
    page, element = event.page or Page(), event.element or Element()
    text, paths = " ".join((element.text or "").split()), {"path": page.path, "href_path": element.href}
    has = {"type": event.type, "event": event.name, "selector": element.selector, "text": text}
    holds = [has[n] in ([r] if isinstance(r, str) else r) for n, r in rule.items() if n in has]
    holds += [str(properties.get(n, "")) in r for n, r in rule.get("property", {}).items()]
    return all(holds) and all(match_path(paths[n], r) is not None for n, r in rule.items() if n in paths)
