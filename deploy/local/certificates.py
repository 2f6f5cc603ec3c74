"""Certificates for services on loopback: an authority of one's own, and what it signs.

Standard library and `openssl` only, as everything beside it.
"""
# ruff: noqa: INP001, S603, S607 - beside bootstrap.sh, no package; every command is put together in this file

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from deploy.local.process import HOST, ServiceError

OWN_NAMES = f"IP:{HOST},DNS:localhost"
"""What a service here is reached by."""
EXPIRED = ("20200101000000Z", "20200102000000Z")
"""First and last moment of a certificate that was good once."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its key, as PEM files."""

    certificate: Path
    key: Path

    @property
    def both(self) -> Path:
        """One file with both, as Kafka wants them (ssl.keystore.type=PEM)."""
        path = self.key.with_suffix(".both.pem")
        path.write_text(self.key.read_text("ascii") + self.certificate.read_text("ascii"), "ascii")
        return path


class Authority:
    """Signs certificates.

    Args:
        folder: for its own files and all that it signs.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.certificate = folder / "authority.pem"
        """What whoever trusts it has to know."""
        self._key = folder / "authority.key"
        (folder / "index.txt").touch()
        (folder / "authority.cnf").write_text(_CONFIGURATION, "ascii")
        self._openssl(
            "req", "-x509", *_NEW_KEY, "-keyout", self._key, "-out", self.certificate, "-subj", "/CN=authority",
            "-addext", "basicConstraints=critical,CA:TRUE", "-days", "30",
        )  # fmt: skip

    def sign(self, name: str, *, names: str = OWN_NAMES, validity: tuple[str, str] | None = None) -> Certificate:
        """Return a new certificate.

        Args:
            name: its subject's common name, and the begin of its files' names.
            names: what its bearer is reached by, in openssl's words for subjectAltName.
            validity: its first and last moment, as ASN.1 writes them; a month from now unless given.
        """
        found = Certificate(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        request, extensions = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={names}\n", "ascii")
        self._openssl("req", *_NEW_KEY, "-keyout", found.key, "-out", request, "-subj", f"/CN={name}")
        period = ("-days", "30") if validity is None else ("-startdate", validity[0], "-enddate", validity[1])
        self._openssl(
            "ca", "-batch", "-notext", "-config", "authority.cnf", "-cert", self.certificate, "-keyfile", self._key,
            "-in", request, "-out", found.certificate, "-extfile", extensions, *period,
        )  # fmt: skip
        return found

    def _openssl(self, *words: str | Path) -> None:
        done = subprocess.run(
            ["openssl", *map(str, words)], cwd=self._folder, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            message = f"openssl {words[0]} failed:\n{done.stderr}"
            raise ServiceError(message)


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
_CONFIGURATION = """
[ca]
default_ca = own
[own]
database = index.txt
new_certs_dir = .
rand_serial = yes
default_md = sha256
unique_subject = no
policy = any
[any]
commonName = supplied
"""
