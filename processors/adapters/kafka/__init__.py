"""Log, publisher and topics on Kafka: the production side of the engine's ports."""
