"""Reading: in processes of its own, bounded, once for each picture, and never silently nothing."""

from __future__ import annotations

import asyncio
import base64
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from PIL import Image, ImageDraw

from guardproxy.core.content import ImagePart, Message, Request
from guardproxy.core.policy import ImageLimits
from guardproxy.errors import DetectorError
from guardproxy.images.cache import Cache
from guardproxy.images.intake import Intake
from guardproxy.images.reader import Reader, ReaderLimits, Reading
from tests.images.test_decode import encoded

FAKE = """
import json, os, struct, sys, time
out = os.fdopen(os.dup(1), "wb")
def send(b):
    out.write(struct.pack(">I", len(b)) + b); out.flush()
{start}
send(b"ready")
count = 0
while True:
    head = sys.stdin.buffer.read(4)
    if len(head) < 4: break
    file = sys.stdin.buffer.read(struct.unpack(">I", head)[0])
    count += 1
    {each}
    line = ["line <|im_start|> %d of %d" % (count, os.getpid()), [1, 2, 30, 9], 0.9]
    send(json.dumps([[line], 1000 * count]).encode())
"""


def command(each: str = "pass", start: str = "") -> tuple[str, ...]:
    return sys.executable, "-c", FAKE.format(each=each, start=start)


def picture(shade: int = 200) -> ImagePart:
    url = "data:image/png;base64," + base64.b64encode(encoded(Image.new("L", (60, 40), shade))).decode()
    return ImagePart(url, f"messages[0].content[{shade}].image_url")


def asked(*parts: ImagePart) -> Request:
    async def taken() -> Request:
        intake = Intake()
        try:
            return await intake.take(
                Request("m", (Message("user", parts or (picture(),), "messages[0]"),)),
                ImageLimits(max_count=64),
            )
        finally:
            intake.close()

    return asyncio.run(taken())


def run(reader: Callable[[], Reader], use: Callable[[Reader], Awaitable[None]], limit_s: float = 60) -> None:
    async def main() -> None:
        one = reader()
        try:
            async with asyncio.timeout(limit_s):
                await use(one)
        finally:
            await one.close()

    asyncio.run(main())


def texts(request: Request) -> list[str]:
    return [t.text for m in request.messages for p in m.parts if isinstance(p, ImagePart) for t in p.texts]


def test_what_is_read_has_place_box_and_confidence_and_no_special_token() -> None:
    request = asked()

    async def use(reader: Reader) -> None:
        assert reader.state == "ok", "nothing was asked of it: nothing is missing"
        read = await reader.read(request, "t")
        (part,) = read.messages[0].parts
        assert isinstance(part, ImagePart)
        (line,) = part.texts
        assert (line.place, line.box, line.confidence) == (
            "messages[0].content[200]/ocr[0]",
            (1, 2, 30, 9),
            0.9,
        )
        assert "<|im_start|>" not in line.text
        assert "im_start" in line.text
        kinds = [(s.kind, s.untrusted) for s in read.segments()]
        assert kinds == [("image", True), ("image_text", True)]

    run(lambda: Reader(command=command()), use)


def test_a_picture_is_read_once_for_each_tenant_also_when_asked_at_once() -> None:
    request = asked()

    async def use(reader: Reader) -> None:
        both = await asyncio.gather(reader.read(request, "a"), reader.read(request, "a"))
        again = await reader.read(request, "a")
        assert {texts(r)[0][:24] for r in (*both, again)} == {texts(again)[0][:24]}
        assert " 1 of" in texts(again)[0]
        assert " 2 of" in texts(await reader.read(request, "b"))[0]

    run(lambda: Reader(cache=Cache(10_000), command=command()), use)


def test_the_queue_is_bounded() -> None:
    requests = [asked(picture(n)) for n in range(5)]

    async def use(reader: Reader) -> None:
        done = await asyncio.gather(*(reader.read(r, "t") for r in requests), return_exceptions=True)
        faults = [d for d in done if isinstance(d, DetectorError)]
        assert [f.reason for f in faults] == ["overloaded"] * 3

    run(lambda: Reader(ReaderLimits(max_waiting=2), command=command("time.sleep(0.1)")), use)


def test_a_process_that_hangs_or_dies_is_replaced_and_its_picture_fails() -> None:
    for each, limits in (
        ("time.sleep(60) if count == 2 else None", ReaderLimits(picture_s=0.5)),
        ("os._exit(3) if count == 2 else None", ReaderLimits()),
        (
            "out.write(b'\\xff' * 40) if count == 2 else None; out.flush() if count == 2 else None",
            ReaderLimits(),
        ),
        ("send(b'{}') if count == 2 else None", ReaderLimits()),
    ):
        requests = [asked(picture(n)) for n in range(3)]

        async def use(reader: Reader, requests: list[Request] = requests) -> None:
            first = texts(await reader.read(requests[0], "t"))
            with pytest.raises(DetectorError):
                await reader.read(requests[1], "t")
            third = texts(await reader.read(requests[2], "t"))
            assert first[0].split()[-1] != third[0].split()[-1], "another process"

        run(lambda limits=limits, each=each: Reader(limits, command=command(each)), use)  # type: ignore[misc]


def test_a_process_that_grew_too_large_is_replaced_between_pictures() -> None:
    requests = [asked(picture(n)) for n in range(5)]

    async def use(reader: Reader) -> None:
        told = [texts(await reader.read(r, "t"))[0].split() for r in requests]
        counts, processes = [t[2] for t in told], [t[4] for t in told]
        assert counts == ["1", "2", "1", "2", "1"]
        assert len(set(processes)) == 3

    run(lambda: Reader(ReaderLimits(process_kb=1500), command=command()), use)


@pytest.mark.parametrize("given", [("/nonexistent/reader",), command(start="sys.exit(1)")])
def test_a_reader_that_does_not_start_fails_at_once_and_says_so(given: tuple[str, ...]) -> None:
    request = asked()

    async def use(reader: Reader) -> None:
        began = time.monotonic()
        with pytest.raises(DetectorError, match="does not start"):
            await reader.read(request, "t")
        assert time.monotonic() - began < 4
        assert reader.state == "starting"

    run(lambda: Reader(command=given), use)


def test_who_runs_out_of_time_does_not_stop_the_reading_for_who_comes_again() -> None:
    request = asked()

    async def use(reader: Reader) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await reader.read(request, "t")
        assert " 1 of" in texts(await reader.read(request, "t"))[0]

    run(lambda: Reader(cache=Cache(10_000), command=command("time.sleep(1)")), use)


def test_an_exchange_reads_when_the_first_guard_asks_and_only_then() -> None:
    request = asked()
    count = 0

    async def read(given: Request) -> Request:
        nonlocal count
        count += 1
        await asyncio.sleep(0.01)
        return given

    async def main() -> None:
        reading = Reading(request, read)
        assert count == 0
        await asyncio.gather(reading.segments(), reading.segments())
        await reading.segments()
        assert count == 1
        other = reading.of(request)
        await other.segments()
        assert count == 1
        reading.close()

    asyncio.run(main())


def test_a_failure_is_told_to_every_guard() -> None:
    async def fails(_: Request) -> Request:
        raise DetectorError("no")

    async def main() -> None:
        reading = Reading(asked_request, fails)
        for _ in range(2):
            with pytest.raises(DetectorError):
                await reading.segments()
        reading.close()

    asked_request = asked()
    asyncio.run(main())


def page(text: str, size: int = 28, **draw: Any) -> Image.Image:
    from tests.images.render import font

    image = Image.new("RGB", (760, 500), draw.pop("back", "white"))
    ImageDraw.Draw(image).multiline_text((40, 40), text, font=font(size), **{"fill": "black", **draw})
    return image


@pytest.mark.slow
def test_english_and_japanese_are_read_upright_turned_and_tilted() -> None:
    """The real models, in their process."""
    words = "Opening hours\nMonday to Friday\n受付時間は午前九時から午後五時まで\n土曜日は定休日です"
    pages = [page(words), page(words, fill="#888", back="#ddd")]
    pages += [pages[0].rotate(angle, expand=True, fillcolor="white") for angle in (90, 180, 270, 12)]
    requests = [
        asked(ImagePart("data:image/png;base64," + base64.b64encode(encoded(p)).decode(), "a.image_url"))
        for p in pages
    ]

    async def use(reader: Reader) -> None:
        for number, request in enumerate(requests):
            read = "".join(texts(await reader.read(request, "t"))).replace(" ", "")
            for word in ("Openinghours", "MondaytoFriday", "午前九時", "定休日"):
                assert word in read, (number, read)

    run(Reader, use, limit_s=300)
