"""GrowingIO's SDK, which hands what it learns of a request to nobody but its own methods; the variant is a codec."""

from __future__ import annotations

from growingio_tracker import DefaultConsumer, GrowingTracker
from growingio_tracker.consumer import GrowingIOException
from growingio_tracker.data_parser import DataParser, JsonParser
from growingio_tracker_protobuf.protobuf_parser import ProtobufParser
from growingio_tracker_snappy.snappy_parser import SnappyParser

from tests.sdks.programs.phases import KEY, URL, VARIANT, delivered, lost, run, sent

PARSERS: dict[str, type[DataParser]] = {"json": JsonParser, "snappy": SnappyParser, "protobuf": ProtobufParser}


consumer = DefaultConsumer(KEY, "web", URL, PARSERS[VARIANT]())
tracker = GrowingTracker.consumer(consumer)
send_data = consumer.send_data
succeeded: list[bool] = []


def telling(*arguments: object, **named: object) -> bool:
    """Keep whether a request succeeded, which the consumer returns and the tracker does not."""
    succeeded.append(send_data(*arguments, **named))
    return succeeded[-1]


consumer.send_data = telling


def visit(phase: str) -> None:
    # Events without ids of two programs at the same millisecond would be one: nobody but this program has these.
    visitor, customer = f"{KEY}-visitor-{phase}", f"{KEY}-customer-{phase}"
    steps = (
        ("view", "custom", {"event_name": "product_viewed", "anonymous_id": visitor}),
        ("login", "identify", {"anonymous_id": visitor, "login_user_id": customer}),
        ("invest", "custom", {"event_name": "invest", "anonymous_id": visitor, "login_user_id": customer}),
    )
    for step, kind, named in steps:
        name = sent(f"{phase}-{step}", kind)
        track = tracker.track_user if kind == "identify" else tracker.track_custom_event
        try:
            track(**named, attributes={"visit": name, "product_id": "F-1"})
        except GrowingIOException:
            lost([name])
        else:
            (delivered if succeeded[-1] else lost)([name])


run(visit)
