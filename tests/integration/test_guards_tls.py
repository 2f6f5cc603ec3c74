"""The collector answers HTTPS itself, and takes a renewed certificate over without a restart."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from collector.settings import WriteKey
from phasewatch.embedded import Embedded
from phasewatch.errors import UsageError
from phasewatch.settings import Admin, Collector, Console, Settings, Store

DEADLINE_SECONDS = 30
OpenSsl = Callable[[str, Path], None]


@pytest.fixture
def make_certificate(require_program: Callable[[str], Path]) -> OpenSsl:
    openssl = require_program("openssl")

    def make(name: str, folder: Path) -> None:
        key, certificate = folder / "key.pem", folder / "certificate.pem"
        subprocess.run(
            [
                *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
                *("-keyout", key, "-out", certificate, "-days", "2", "-subj", f"/CN={name}"),
                *("-addext", "subjectAltName=IP:127.0.0.1"),
            ],
            check=True,
            capture_output=True,
        )

    return make


@pytest.fixture
async def running(tmp_path: Path, make_certificate: OpenSsl) -> AsyncIterator[Embedded]:
    make_certificate("first", tmp_path)
    async with Embedded(settings(tmp_path)) as embedded:
        yield embedded


def settings(folder: Path) -> Settings:
    return Settings(
        collector=Collector(
            port=0,
            keys=(WriteKey(name="web", key=SecretStr("pk")),),
            tls_certificate=folder / "certificate.pem",
            tls_key=folder / "key.pem",
        ),
        console=Console(port=0),
        admin=Admin(port=0),
        store=Store(data_dir=folder / "data"),
    )


def _port(embedded: Embedded) -> int:
    return int(embedded.addresses.collector.rpartition(":")[2])


async def _connect(embedded: Embedded, folder: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    trusted = ssl.create_default_context(cafile=str(folder / "certificate.pem"))
    async with asyncio.timeout(DEADLINE_SECONDS):
        return await asyncio.open_connection("127.0.0.1", _port(embedded), ssl=trusted)


def _name(writer: asyncio.StreamWriter) -> str:
    found = writer.get_extra_info("peercert")["subject"]
    return str(dict(part for one in found for part in one)["commonName"])


async def _post(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str) -> int:
    body = json.dumps([{"id": name, "type": "page", "anonymous_id": "a-1"}]).encode()
    writer.write(b"POST /v1/events?key=pk HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
    async with asyncio.timeout(DEADLINE_SECONDS):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
    return int(head.split()[1])


async def test_a_certificate_is_renewed_while_connections_go_on(
    running: Embedded, tmp_path: Path, make_certificate: OpenSsl, logged_errors: list[str]
) -> None:
    assert running.addresses.collector.startswith("https://")
    old = await _connect(running, tmp_path)
    assert (_name(old[1]), await _post(*old, "1")) == ("first", 200)
    make_certificate("second", tmp_path)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            new = await _connect(running, tmp_path)
            break
        except ssl.SSLError:  # it still shows the first, which the client no longer trusts
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
    assert (_name(new[1]), await _post(*new, "2")) == ("second", 200)
    for _, writer in (old, new):
        writer.close()
        await writer.wait_closed()
    assert all("certificate and key cannot be used together" in one for one in logged_errors), "half-way, if at all"


async def test_plain_http_and_silence_harm_nobody(running: Embedded, tmp_path: Path) -> None:
    silent = [socket.create_connection(("127.0.0.1", _port(running))) for _ in range(50)]
    plain = socket.create_connection(("127.0.0.1", _port(running)))
    plain.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
    honest = await _connect(running, tmp_path)
    assert await _post(*honest, "1") == 200
    honest[1].close()
    await honest[1].wait_closed()
    for one in (*silent, plain):
        one.close()


async def test_a_pair_that_does_not_fit_is_refused_at_the_start(tmp_path: Path, make_certificate: OpenSsl) -> None:
    other = tmp_path / "other"
    other.mkdir()
    make_certificate("first", tmp_path)
    make_certificate("second", other)
    (other / "key.pem").replace(tmp_path / "key.pem")
    with pytest.raises(UsageError, match="cannot be used together"):
        async with Embedded(settings(tmp_path)):
            pass
