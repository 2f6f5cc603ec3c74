"""How Kafka is reached: where it is, what proves that it is the right one, and what proves who asks.

Collector, workers, console and commands take a `KafkaAccess`, made from the settings, and hand its `options` to every
client of aiokafka that they make.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka.conn import create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

__all__ = ["KafkaAccess", "SaslLogin", "explained"]

_PROBE_MS: Final = 2_000
"""How long a broker may take to say why it lets nobody in; who asks has mostly waited once already."""

_NAMES: Final = "its certificate is for other names: name the broker in kafka.brokers as the certificate does"
_DISTRUST: Final = {
    9: "its certificate is not valid yet: compare the clocks of the two machines",
    10: "its certificate has expired: renew it on the broker",
    62: _NAMES,
    64: _NAMES,
}
"""By OpenSSL's X509_V_ERR_* (x509_vfy.h)."""
_UNKNOWN_AUTHORITY: Final = (
    "its certificate comes from no authority that this side knows: let kafka.ca_file name the one that signed it"
)


@dataclass(frozen=True, slots=True)
class SaslLogin:
    """Who asks, and the proof of it."""

    mechanism: str
    """PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512."""
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class KafkaAccess:
    """Addresses, host:port with commas between, and how they are spoken to; as text the addresses alone."""

    brokers: str
    tls: ssl.SSLContext | None = None
    """Whom to trust, and this side's certificate; None for no TLS."""
    login: SaslLogin | None = None

    def __str__(self) -> str:
        return self.brokers

    @property
    def options(self) -> dict[str, Any]:
        """Arguments that every client of aiokafka takes."""
        return {"bootstrap_servers": self.brokers, **self.security}

    @property
    def security(self) -> dict[str, Any]:
        """Those among them that do not say where Kafka is."""
        protocol = "SSL" if self.tls else "PLAINTEXT"
        if self.login is None:
            return {"security_protocol": protocol, "ssl_context": self.tls}
        return {
            "security_protocol": f"SASL_{protocol}",
            "ssl_context": self.tls,
            "sasl_mechanism": self.login.mechanism,
            "sasl_plain_username": self.login.username,
            "sasl_plain_password": self.login.password,
        }


@asynccontextmanager
async def explained(kafka: KafkaAccess) -> AsyncIterator[None]:
    """Let a client connect; where it can't, aiokafka tells only its log why, so the brokers are asked once more.

    Raises:
        KafkaConnectionError: with the reason, meaning and remedy as its text.
    """
    try:
        yield
    except KafkaConnectionError as error:
        reason = await _reason(kafka)
        if reason is None:  # they answer now
            raise
        raise KafkaConnectionError(reason) from error


async def _reason(kafka: KafkaAccess) -> str | None:
    """Return why no broker can be spoken to; None where one can."""
    brokers = kafka.brokers.split(",")
    errors = await asyncio.gather(*(_error(kafka, broker) for broker in brokers))
    found = [(broker, error) for broker, error in zip(brokers, errors, strict=True) if error is not None]
    if len(found) < len(brokers):
        return None
    # One that answers and refuses says more than one that is away.
    return _meaning(kafka, *min(found, key=lambda one: not isinstance(one[1], ssl.SSLError | KafkaError)))


async def _error(kafka: KafkaAccess, broker: str) -> Exception | None:
    host, _, port = broker.rpartition(":")
    try:
        connection = await create_conn(host.strip("[]"), int(port), request_timeout_ms=_PROBE_MS, **kafka.security)
    except (KafkaError, OSError, TimeoutError) as error:
        return error
    connection.close()
    return None


def _meaning(kafka: KafkaAccess, broker: str, error: Exception) -> str:
    """Return what an error of connecting means, and what to do."""
    match error:
        case ssl.SSLCertVerificationError():
            text = f"is not trusted: {_DISTRUST.get(error.verify_code, _UNKNOWN_AUTHORITY)} ({error.verify_message})"
        case ssl.SSLError():
            text = f"speaks no TLS with us ({error}): see whether that port is for TLS, and what kafka.security says"
        case AuthenticationFailedError() | SaslAuthenticationFailed() if kafka.login is not None:
            text = (
                f"does not know user {kafka.login.username} with this password by {kafka.login.mechanism}: check "
                "kafka.username, kafka.password and kafka.sasl_mechanism"
            )
        case UnsupportedSaslMechanismError() | IllegalSaslStateError():
            text = f"takes no login of this kind ({error}): check kafka.sasl_mechanism and kafka.security"
        case KafkaError() | ConnectionResetError():
            asks = (
                "is for TLS, or asks for a certificate of ours (kafka.certificate_file)"
                if kafka.tls
                else "asks for TLS"
            )
            text = f"ends the connection at once: see whether that port {asks} or a login (kafka.security)"
        case TimeoutError():
            text = f"does not answer within {_PROBE_MS / 1000:g} s: see whether it runs, and what kafka.security says"
        case _:
            text = f"can't be reached ({error})"
    return f"{broker} {text}"
