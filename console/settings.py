"""The console's settings: units in the names, default and reason beside each."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, field_validator, model_validator

from console.passwords import PATTERN

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")]
HostName = Annotated[str, StringConstraints(to_lower=True, pattern=r"^([a-z0-9._-]+|\[[0-9a-f:]+\])$", max_length=253)]


class ConsoleUser(BaseModel):
    """Who may log in."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name = Field(description="what is typed as the name, and stands in the log")
    password_hash: SecretStr = Field(
        max_length=256, description="what `phasewatch console-password` prints; the password itself stands nowhere"
    )

    @field_validator("password_hash")
    @classmethod
    def _well_formed(cls, value: SecretStr) -> SecretStr:
        if not PATTERN.fullmatch(value.get_secret_value()):
            msg = "a password_hash is what `phasewatch console-password` prints, never a password"
            raise ValueError(msg)
        return value


class ApiToken(BaseModel):
    """Which program may ask the query API, in place of a person who logs in."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name = Field(description="which program it is")
    token_hash: SecretStr = Field(description="what `phasewatch console-token` prints beside the token: its SHA-256")

    @field_validator("token_hash")
    @classmethod
    def _well_formed(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value()
        if len(text) != 64 or not set(text) <= set("0123456789abcdef"):  # noqa: PLR2004 - hexadecimal digits of SHA-256
            msg = "a token_hash is what `phasewatch console-token` prints, never a token"
            raise ValueError(msg)
        return value


class ConsoleSettings(BaseModel):
    """Who reaches the console, under which name, and for how long."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    users: tuple[ConsoleUser, ...] = Field(
        default=(),
        max_length=1000,
        description="Who may log in. Empty: nobody has to, which is for this machine alone.",
    )
    api_tokens: tuple[ApiToken, ...] = Field(
        default=(), max_length=100, description="Programs that may ask `/api` with `Authorization: Bearer TOKEN`."
    )
    hosts: tuple[HostName, ...] = Field(
        default=(),
        description="Names under which it is reached, without port. Loopback ones always are; a request for another "
        "name is refused, as a page elsewhere can make its own name mean this address.",
    )
    proxies: tuple[IPv4Network | IPv6Network, ...] = Field(
        default=(),
        description="Addresses of the TLS proxies before it; what they say of the caller (X-Forwarded-For, -Proto) is "
        "believed, and of nobody else.",
    )
    tls_certificate: Path | None = Field(
        default=None, description="PEM file of the certificate and those above it; with it the port speaks TLS."
    )
    tls_key: Path | None = Field(default=None, description="PEM file of the certificate's key, without a password.")
    allow_plain_http: bool = Field(
        default=False,
        description="Lets people log in without TLS at an address that is not loopback. For a container whose port is "
        "published on loopback alone: elsewhere whoever listens reads the password.",
    )
    session_idle_minutes: float = Field(
        default=30, gt=0, le=1440, description="A session without a request for so long is over. An open page asks."
    )
    session_hours: float = Field(
        default=12, gt=0, le=168, description="A session is over then in any case: a working day."
    )

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            msg = "console.tls_certificate and console.tls_key belong together: set both or none"
            raise ValueError(msg)
        for what, names in (
            ("users", [one.name for one in self.users]),
            ("api_tokens", [one.name for one in self.api_tokens]),
        ):
            if len(set(names)) != len(names):
                msg = f"two of console.{what} have the same name: give each its own"
                raise ValueError(msg)
        if (self.api_tokens or self.proxies) and not self.users:
            what = "api_tokens" if self.api_tokens else "proxies"
            msg = f"console.{what} are set and no console.users: without users everybody is let in. Add one"
            raise ValueError(msg)
        return self

    @property
    def is_encrypted(self) -> bool:
        """Return whether TLS is spoken, here or at a proxy."""
        return self.tls_certificate is not None or bool(self.proxies)
