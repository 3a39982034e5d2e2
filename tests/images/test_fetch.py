"""Remote pictures: fetched once, from public addresses only, and what was looked at is what is sent."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import ssl
import subprocess
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from guardproxy.core.content import ImagePart, Message, Request, TextPart
from guardproxy.core.policy import ImageLimits
from guardproxy.errors import WireError
from guardproxy.images.decode import content_of
from guardproxy.images.fetch import Fetcher, FetchLimits, Internet, is_public, is_remote
from guardproxy.images.intake import Intake
from tests.images.test_decode import encoded, plain_picture

INLINE = ImageLimits(remote="inline", max_bytes=200_000)
PUBLIC = "93.184.215.14"
HOST = "pictures.example.com"
PNG = encoded(plain_picture("red"))
Answer = Callable[[asyncio.StreamWriter, int], Awaitable[None]]


@dataclass
class World:
    """One HTTPS server on loopback that answers as a test says; the fetcher believes it to be on the internet."""

    contexts: tuple[ssl.SSLContext, ssl.SSLContext]
    answer: Answer
    addresses: list[str] = field(default_factory=lambda: [PUBLIC])
    asked: list[str] = field(default_factory=list)
    resolved: list[str] = field(default_factory=list)
    connected: list[tuple[str, str]] = field(default_factory=list)
    port: int = 0

    async def resolve(self, host: str) -> list[str]:
        self.resolved.append(host)
        return self.addresses

    async def connect(self, address: str, host: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self.connected.append((address, host))
        return await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.contexts[1], server_hostname=host
        )

    async def _serve(self, reader: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        try:
            self.asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
            await self.answer(out, len(self.asked))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            out.close()

    def run(self, use: Callable[[Fetcher], Awaitable[None]], **limits: float) -> None:
        async def main() -> None:
            server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.contexts[0])
            self.port = server.sockets[0].getsockname()[1]
            await use(Fetcher(self, FetchLimits(**{"total_s": 2.0, **limits})))  # type: ignore[arg-type]
            server.close()

        asyncio.run(main())

    def fetched(self, url: str, **limits: float) -> bytes:
        got: list[bytes] = []

        async def use(fetcher: Fetcher) -> None:
            got.append(await fetcher.fetch(url, "p", INLINE))

        self.run(use, **limits)
        return got[0]


@pytest.fixture(scope="session")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A certificate for the host's name, and who trusts it."""
    folder: Path = tmp_path_factory.mktemp("certificate")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    return server, ssl.create_default_context(cafile=str(certificate))


@pytest.fixture
def world(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> Callable[[Answer], World]:
    return lambda answer: World(contexts, answer)


def reply(body: bytes = PNG, status: int = 200, kind: str = "image/png", **headers: str) -> Answer:
    async def answer(out: asyncio.StreamWriter, _: int) -> None:
        given = {"content-type": kind, "content-length": str(len(body))}
        given |= {k.replace("_", "-"): v for k, v in headers.items()}
        head = f"HTTP/1.1 {status} X\r\n" + "".join(f"{k}: {v}\r\n" for k, v in given.items() if v)
        out.write(head.encode() + b"\r\n" + body)
        await out.drain()

    return answer


Make = Callable[[Answer], World]


def test_a_picture_is_fetched_by_name_from_the_address_that_was_looked_at(world: Make) -> None:
    here = world(reply())
    assert here.fetched(f"https://{HOST}/a.png?x=1#part") == PNG
    assert here.connected == [(PUBLIC, HOST)]
    assert here.resolved == [HOST]
    head = here.asked[0].lower()
    assert head.startswith("get /a.png?x=1 http/1.1")
    assert f"host: {HOST}" in head
    assert "accept-encoding: identity" in head
    assert "cookie" not in head
    assert "authorization" not in head


def test_an_answer_in_chunks_is_read_whole(world: Make) -> None:
    async def chunked(out: asyncio.StreamWriter, _: int) -> None:
        out.write(b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ntransfer-encoding: chunked\r\n\r\n")
        for piece in (PNG[:20], PNG[20:]):
            out.write(b"%x\r\n" % len(piece) + piece + b"\r\n")
        out.write(b"0\r\n\r\n")
        await out.drain()

    assert world(chunked).fetched(f"https://{HOST}/") == PNG


def test_what_was_looked_at_is_what_is_sent_though_the_server_alternates(world: Make) -> None:
    """The model server would have fetched a second time, and seen the other picture."""
    other = encoded(plain_picture("blue"))

    async def alternate(out: asyncio.StreamWriter, number: int) -> None:
        await reply(PNG if number % 2 else other)(out, number)

    here = world(alternate)

    async def use(fetcher: Fetcher) -> None:
        intake = Intake(fetcher=fetcher)
        part = ImagePart(f"https://{HOST}/a.png", "messages[0].content[0].image_url")
        request = Request("m", (Message("user", (part, TextPart("hi", "t")), "messages[0]"),))
        taken = (await intake.take(request, INLINE)).messages[0].parts[0]
        assert isinstance(taken, ImagePart)
        assert hashlib.sha256(content_of(taken.sent)).hexdigest() == taken.sha256
        assert taken.url == ""
        assert len(here.asked) == 1
        intake.close()

    here.run(use)


async def stall(out: asyncio.StreamWriter, _: int) -> None:
    out.write(b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: 1000\r\n\r\n" + PNG[:10])
    await out.drain()
    await asyncio.sleep(5)


async def drip(out: asyncio.StreamWriter, _: int) -> None:
    out.write(b"HTTP/1.1 200 OK\r\n")
    for _n in range(100):
        out.write(b"x-a: b\r\n")
        await out.drain()
        await asyncio.sleep(0.05)


async def flood(out: asyncio.StreamWriter, _: int) -> None:
    out.write(b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ntransfer-encoding: chunked\r\n\r\n")
    for _n in range(50):
        out.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        await out.drain()


async def long_head(out: asyncio.StreamWriter, _: int) -> None:
    out.write(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 100_000)
    await out.drain()


async def nonsense(out: asyncio.StreamWriter, _: int) -> None:
    out.write(b"SSH-2.0-OpenSSH\r\n\r\n")


async def silence(out: asyncio.StreamWriter, _: int) -> None:
    out.write(b"")


@pytest.mark.parametrize(
    "answer",
    [
        reply(status=302, location="https://127.0.0.1/"), reply(status=301), reply(status=404), reply(status=206),
        reply(kind="text/html"), reply(kind=""), reply(gzip.compress(PNG), content_encoding="gzip"),
        reply(content_length="200001"), reply(content_length=str(len(PNG) + 1)), reply(content_length=""),
        stall, drip, flood, long_head, nonsense, silence,
    ],
)  # fmt: skip
def test_an_answer_that_is_no_plain_picture_is_refused_in_time(world: Make, answer: Answer) -> None:
    here = world(answer)
    began = time.monotonic()
    with pytest.raises(WireError) as error:
        here.fetched(f"https://{HOST}/", total_s=0.7)
    assert time.monotonic() - began < 3
    assert (error.value.status, error.value.code) == (400, "image_not_fetched")
    assert len(here.asked) == 1


def test_a_certificate_for_another_name_is_refused(world: Make) -> None:
    here = world(reply())
    with pytest.raises(WireError, match="cannot be fetched"):
        here.fetched("https://other.example.com/")
    assert here.asked == []


FORMS = [
    "http://pictures.example.com/", "ftp://pictures.example.com/", "file:///etc/passwd", "gopher://a.example/", "//a.example/",
    "https://127.0.0.1/", "https://127.1/", "https://2130706433/", "https://0x7f000001/", "https://0x7f.0.0.1/",
    "https://0177.0.0.1/", "https://017700000001/", "https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://localhost/",
    "https://localhost./", "https://a.example./", "https://169.254.169.254/latest/meta-data", "https://10.0.0.1/",
    "https://user@pictures.example.com/", "https://user:pw@pictures.example.com/", "https://pictures.example.com:8443/",
    "https://pictures.example.com:22/", "https://pictures.example.com\\@127.0.0.1/", "https://pictures.example.com%2f@a.example/",
    "https:///a.png", "https://a_b.example.com/ x", "https://a.example/\r\nhost: b", "https://a.example/\u3042", "https://ａ.example/",
    "https://\u2460.\u2461.example/", "https://-a.example/", "https://a..example/", "https://a.example/" + "a" * 3000,
    "https://pictures.example.com?@127.0.0.1/x y", " https://a.example/", "HTTPS:a.example", "javascript:1", "unix:/run/x",
]  # fmt: skip


@pytest.mark.parametrize("url", FORMS)
def test_no_form_but_a_plain_name_opens_a_socket(world: Make, url: str) -> None:
    here = world(reply())

    async def use(fetcher: Fetcher) -> None:
        intake = Intake(fetcher=fetcher)
        request = Request("m", (Message("user", (ImagePart(url, "p"),), "messages[0]"),))
        with pytest.raises(WireError) as error:
            await intake.take(request, INLINE)
        assert error.value.status == 400
        assert error.value.param == "p"
        intake.close()

    here.run(use)
    assert here.resolved == []
    assert here.connected == []


NOT_PUBLIC = [
    "127.0.0.1", "127.255.255.254", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.0.1", "169.254.169.254",
    "100.64.0.1", "100.100.100.200", "192.0.0.192", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "192.88.99.1",
    "168.63.129.16", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::ffff:127.0.0.1", "::ffff:93.184.215.14", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::5db8:d70e", "64:ff9b:1::1",
    "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "2002:5db8:d70e::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0",
    "fec0::1", "ff02::1", "3fff::1", "5f00::1", "not an address", "",
]  # fmt: skip


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_a_name_that_leads_to_no_public_address_is_not_connected_to(world: Make, address: str) -> None:
    """Also if only one of its addresses does: a second look-up might give that one."""
    for addresses in ([address], [PUBLIC, address]):
        here = world(reply())
        here.addresses = addresses
        with pytest.raises(WireError) as error:
            here.fetched(f"https://{HOST}/")
        assert error.value.status == 400
        assert address == "" or address not in str(error.value), "a client is told nothing of our network"
        assert here.connected == []


def test_public_addresses_are_public() -> None:
    assert all(map(is_public, (PUBLIC, "1.1.1.1", "2606:4700:4700::1111", "2a00:1450:4001:80b::200e")))


def test_what_is_remote() -> None:
    assert is_remote("https://x") and is_remote("FILE:///x") and is_remote(" x:y")  # noqa: PT018 - one claim
    assert not is_remote("DATA:image/png;base64,") and not is_remote("nothing")  # noqa: PT018 - one claim


def test_a_policy_that_does_not_inline_opens_no_socket(world: Make) -> None:
    here = world(reply())

    async def use(fetcher: Fetcher) -> None:
        with pytest.raises(WireError, match="only data: URLs"):
            await fetcher.fetch(f"https://{HOST}/", "p", ImageLimits())

    here.run(use)
    assert here.resolved == []


def test_only_hosts_on_the_list_where_there_is_one(world: Make) -> None:
    here = world(reply())

    async def use(fetcher: Fetcher) -> None:
        for allowed, ok in ((("other.example",), False), (("*.example.com",), True), ((HOST,), True)):
            limits = ImageLimits(remote="inline", allow_hosts=allowed)
            if ok:
                assert await fetcher.fetch(f"https://{HOST}/", "p", limits) == PNG
            else:
                with pytest.raises(WireError, match="not accepted"):
                    await fetcher.fetch(f"https://{HOST}/", "p", limits)
        with pytest.raises(WireError, match="not accepted"):
            await fetcher.fetch(
                "https://example.com.evil.test/",
                "p",
                ImageLimits(remote="inline", allow_hosts=("*.example.com",)),
            )

    here.run(use)


def test_too_many_fetches_at_once_are_turned_away(world: Make) -> None:
    async def use(fetcher: Fetcher) -> None:
        with pytest.raises(WireError) as error:
            await fetcher.fetch(f"https://{HOST}/", "p", INLINE)
        assert error.value.status == 503
        assert ("retry-after", "1") in error.value.headers

    world(reply()).run(use, at_once=0)


def test_a_fetched_file_is_believed_by_its_content_only(world: Make) -> None:
    async def use(fetcher: Fetcher) -> None:
        intake = Intake(fetcher=fetcher)
        request = Request("m", (Message("user", (ImagePart(f"https://{HOST}/a.png", "p"),), "messages[0]"),))
        with pytest.raises(WireError, match="not a readable picture"):
            await intake.take(request, INLINE)
        intake.close()

    world(reply(b"<svg xmlns='http://www.w3.org/2000/svg'/>", kind="image/png")).run(use)


def test_the_real_network_resolves_and_connects_to_addresses_only() -> None:
    """Resolution on loopback names alone: nothing leaves the machine."""

    async def main() -> None:
        assert set(await Internet().resolve("localhost")) <= {"127.0.0.1", "::1"}
        with pytest.raises(OSError, match=r"."):
            await Internet().connect("127.0.0.1", "localhost")

    asyncio.run(main())


def test_a_data_url_needs_no_network() -> None:
    async def main() -> None:
        intake = Intake()
        url = "data:image/png;base64," + base64.b64encode(PNG).decode()
        request = Request("m", (Message("user", (ImagePart(url, "p"),), "messages[0]"),))
        assert (await intake.take(request, INLINE)).messages[0].parts
        intake.close()

    asyncio.run(main())
