"""How Kafka is reached, and what TLS takes, made from the settings."""

from __future__ import annotations

import ssl

from collector.wire.kafka_access import KafkaAccess, SaslLogin
from phasewatch.errors import UsageError
from phasewatch.settings import Kafka, Redis, Settings

__all__ = ["kafka_access", "tls_context"]


def kafka_access(settings: Settings) -> KafkaAccess:
    """Return where Kafka is and how it is reached; reads the files of certificates, some ms of work.

    Raises:
        UsageError: if a file of certificates can't be used.
    """
    kafka = settings.kafka
    tls, login = None, None
    if kafka.security in {"ssl", "sasl_ssl"}:
        tls = tls_context("kafka", kafka)
    if kafka.security in {"sasl_plaintext", "sasl_ssl"}:
        login = SaslLogin(kafka.sasl_mechanism, kafka.username, kafka.password.get_secret_value())
    return KafkaAccess(kafka.brokers, tls, login)


def tls_context(section: str, given: Kafka | Redis) -> ssl.SSLContext:
    """Return whom to trust, and this side's certificate, as a section of settings says; raises as `kafka_access`."""
    name, file = "ca_file", given.ca_file
    try:
        context = ssl.create_default_context(cafile=file)
        name, file = "certificate_file and key_file", given.certificate_file
        if file is not None:
            # Without the callback OpenSSL would ask a terminal for the password of a key that has one.
            context.load_cert_chain(file, given.key_file, password=lambda: "")
    except (OSError, ValueError) as error:
        msg = (
            f"{section}.{name}: {file} can't be used ({error}); it has to be a PEM file that this user may read, a key "
            "that of its certificate and without a password"
        )
        raise UsageError(msg) from error
    context.check_hostname = given.check_hostname
    return context
