"""Draws pictures to measure with: seeded, in whatever fonts the machine has, so that each run draws the same."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFilter, ImageFont

from tests.images.render import fonts
from tests.noise import noise
from tests.quality import texts as t

SEED = 20


@dataclass(frozen=True, slots=True)
class Drawn:
    """Pictures of one turn, and what the user says beside them.

    Attributes:
        kind: What it is a picture of, or the shape of an attack.
        topic: Of an attack.
    """

    name: str
    kind: str
    lang: str
    prompt: str
    files: tuple[bytes, ...]
    topic: str = ""

    @property
    def is_harmful(self) -> bool:
        """Whether it asks for harm."""
        return bool(self.topic)


class Artist:
    """Draws with one source of chance."""

    def __init__(self, rng: random.Random, lang: str) -> None:
        self.rng = rng
        self.lang = lang
        files = fonts(lang == "ja")
        self.file = str(rng.choice(files))
        pairs = [
            ("white", "black"), ("#fdf6e3", "#333"), ("#eee", "#777"), ("#113", "#eef"), ("#ffd", "#630"), ("#dde", "#99a"),
            ("black", "white"), ("#2a6", "#fff"),
        ]  # fmt: skip
        self.back, self.ink = rng.choice(pairs)

    def pick(self, pool: dict[str, tuple[str, ...]]) -> str:
        return self.rng.choice(pool[self.lang])

    def some(self, pool: dict[str, tuple[str, ...]], count: int) -> list[str]:
        return self.rng.sample(pool[self.lang], min(count, len(pool[self.lang])))

    def font(self, size: int) -> ImageFont.FreeTypeFont:
        return ImageFont.truetype(self.file, size)

    def wrapped(self, text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
        """Lines that fit."""
        parts = text.split(" ") if self.lang == "en" else list(text)
        glue = " " if self.lang == "en" else ""
        lines, line = [], ""
        for part in parts:
            longer = f"{line}{glue}{part}" if line else part
            if line and font.getlength(longer) > width:
                lines.append(line)
                line = part
            else:
                line = longer
        return [*lines, line]

    def page(
        self, lines: Sequence[str], size: int = 30, width: int = 760, back: Image.Image | None = None
    ) -> Image.Image:
        """Lines of text on a ground, each wrapped."""
        font = self.font(size)
        folded = [piece for line in lines for piece in self.wrapped(line, font, width - 80)]
        height = max(int(len(folded) * size * 1.45) + 80, 200)
        image = (
            Image.new("RGB", (width, height), self.back)
            if back is None
            else back.resize((width, height)).convert("RGB")
        )
        brush = ImageDraw.Draw(image)
        for number, line in enumerate(folded):
            stroke = {} if back is None else {"stroke_width": 3, "stroke_fill": "black"}
            fill = self.ink if back is None else "white"
            brush.text((40, 40 + number * size * 1.45), line, fill=fill, font=font, **stroke)  # type: ignore[arg-type]
        return image

    def photo(self) -> Image.Image:
        """Blurred shapes with grain, as the ground of a meme or a sign."""
        image = Image.new("RGB", (760, 500), tuple(self.rng.randrange(60, 200) for _ in range(3)))
        brush = ImageDraw.Draw(image)
        for _ in range(14):
            x, y, r = self.rng.randrange(760), self.rng.randrange(500), self.rng.randrange(30, 160)
            brush.ellipse((x - r, y - r, x + r, y + r), fill=tuple(self.rng.randrange(256) for _ in range(3)))
        return Image.blend(
            image.filter(ImageFilter.GaussianBlur(9)),
            noise((760, 500), 60).convert("RGB"),
            0.12,
        )

    def file_of(self, image: Image.Image) -> bytes:
        """As it might arrive: tilted, turned, compressed or as it is."""
        chance = self.rng.random()
        if chance < 0.12:
            image = image.rotate(self.rng.uniform(-8, 8), expand=True, fillcolor=self.back)
        elif chance < 0.18:
            image = image.rotate(self.rng.choice((90, 180, 270)), expand=True)
        out = io.BytesIO()
        if self.rng.random() < 0.5:
            image.convert("RGB").save(out, "JPEG", quality=self.rng.randrange(60, 95))
        else:
            image.save(out, "PNG")
        return out.getvalue()


def full_list(a: Artist) -> Image.Image:
    return a.page(
        [
            a.pick(t.LIST_HEADINGS),
            *(f"{n}. {i}" for n, i in enumerate(a.some(t.ITEMS, a.rng.randrange(3, 7)), 1)),
        ]
    )


def empty_list(a: Artist) -> Image.Image:
    marks = a.rng.choice((("1.", "2.", "3."), ("1)", "2)", "3)", "4)"), ("Step 1:", "Step 2:", "Step 3:")))
    return a.page([a.pick(t.LIST_HEADINGS), *marks], size=a.rng.choice((36, 48, 64)))


def document(a: Artist) -> Image.Image:
    return a.page(a.some(t.PARAGRAPHS, 3), size=22)


def sign(a: Artist) -> Image.Image:
    back = a.photo() if a.rng.random() < 0.5 else None
    return a.page([a.pick(t.SIGNS)], size=60, back=back)


def receipt(a: Artist) -> Image.Image:
    lines = [f"{name}  {a.rng.uniform(0.5, 30):.2f}" for name in a.some(t.GOODS, 5)]
    total = "TOTAL" if a.lang == "en" else "合計"
    return a.page(
        [f"No. {a.rng.randrange(9999)}", *lines, f"{total}  {a.rng.uniform(20, 90):.2f}"], size=24, width=420
    )


def worksheet(a: Artist) -> Image.Image:
    title = "Name: ________  Class: ____" if a.lang == "en" else "名前:________ 組:____"
    return a.page([title, *(f"{n}. {q} ______" for n, q in enumerate(a.some(t.QUESTIONS, 5), 1))], size=26)


def recipe(a: Artist) -> Image.Image:
    heading = "Pancakes, for four" if a.lang == "en" else "ホットケーキ 四人分"
    parts = (
        ("300 g flour", "3 eggs", "half a litre of milk", "a pinch of salt")
        if a.lang == "en"
        else ("小麦粉 300g", "卵 3個", "牛乳 500ml", "塩 少々")
    )
    return a.page([heading, *parts, *(f"{n}. {i}" for n, i in enumerate(a.some(t.ITEMS, 3), 1))], size=26)


def chart(a: Artist) -> Image.Image:
    image = Image.new("RGB", (700, 480), "white")
    brush = ImageDraw.Draw(image)
    brush.text((200, 15), a.pick(t.CHARTS), fill="black", font=a.font(26))
    for n, month in enumerate(t.MONTHS[a.lang]):
        height = a.rng.randrange(40, 320)
        brush.rectangle((80 + n * 95, 420 - height, 140 + n * 95, 420), fill="#47a")
        brush.text((85 + n * 95, 430), month, fill="black", font=a.font(20))
        brush.text((85 + n * 95, 395 - height), str(height), fill="black", font=a.font(18))
    return image


def screen(a: Artist) -> Image.Image:
    image = Image.new("RGB", (900, 600), "#f4f4f6")
    brush = ImageDraw.Draw(image)
    brush.rectangle((0, 0, 900, 44), fill="#345")
    for n, word in enumerate(a.some(t.BUTTONS, 5)):
        brush.text((20 + n * 170, 10), word, fill="white", font=a.font(20))
    for n, word in enumerate(a.some(t.BUTTONS, 6)):
        brush.rounded_rectangle((40, 80 + n * 80, 420, 135 + n * 80), 8, fill="white", outline="#99a")
        brush.text((60, 92 + n * 80), word, fill="#223", font=a.font(22))
    for n, line in enumerate(a.wrapped(a.pick(t.PARAGRAPHS), a.font(20), 400)):
        brush.text((460, 90 + n * 30), line, fill="#222", font=a.font(20))
    return image


def note(a: Artist) -> Image.Image:
    a.back, a.ink = "#fff7a8", "#245"
    return a.page(a.some(t.ITEMS, a.rng.randrange(1, 4)), size=40, width=520)


BENIGN: dict[str, Callable[[Artist], Image.Image]] = {
    "numbered list": full_list, "empty list": empty_list, "document": document, "sign": sign, "receipt": receipt,
    "worksheet": worksheet, "recipe": recipe, "chart": chart, "screenshot": screen, "note": note,
}  # fmt: skip
EACH = 15
"""Pictures of each kind and language."""


def benign() -> Iterator[Drawn]:
    """Ordinary pictures of every kind, half of the lists beside a request to complete them."""
    for kind, draw in BENIGN.items():
        for lang in ("en", "ja"):
            for number in range(EACH):
                rng = random.Random(f"{SEED} {kind} {lang} {number}")
                artist = Artist(rng, lang)
                file = artist.file_of(draw(artist))
                finish = kind == "empty list" or (kind in ("numbered list", "worksheet") and number % 2)
                prompt = rng.choice((t.FINISH if finish else t.ASK)[lang])
                yield Drawn(f"{kind}-{lang}-{number}", kind, lang, prompt, (file,))


def harmful() -> Iterator[Drawn]:
    """Each request for harm in two of the shapes, so that no one of them is what is recognised."""
    for lang in ("en", "ja"):
        for number, (topic, what) in enumerate(t.HARM[lang]):
            shapes = list(SHAPES.items())
            for shape, draw in (shapes[number % 5], shapes[(number + 2) % 5]):
                rng = random.Random(f"{SEED} {lang} {number} {shape}")
                artist = Artist(rng, lang)
                said = rng.choice(t.LEADS).format(what) if lang == "en" else what
                said = said[:1].upper() + said[1:]
                prompt, images = draw(artist, said)
                files = tuple(artist.file_of(image) for image in images)
                yield Drawn(f"{shape}-{lang}-{number}", shape, lang, prompt, files, topic)


Shape = Callable[[Artist, str], tuple[str, list[Image.Image]]]


def _list(a: Artist, said: str) -> tuple[str, list[Image.Image]]:
    return a.pick(t.FINISH), [a.page([said, "1.", "2.", "3."], size=a.rng.choice((36, 48, 60)))]


def _plain(a: Artist, said: str) -> tuple[str, list[Image.Image]]:
    return a.pick(t.ASK), [a.page([said], size=44)]


def _meme(a: Artist, said: str) -> tuple[str, list[Image.Image]]:
    return a.pick(t.ASK), [a.page([said], size=44, back=a.photo())]


def _chat(a: Artist, said: str) -> tuple[str, list[Image.Image]]:
    image = screen(a)
    brush = ImageDraw.Draw(image)
    brush.rounded_rectangle((440, 340, 880, 560), 14, fill="#cfe8ff")
    for n, line in enumerate(a.wrapped(said, a.font(24), 400)):
        brush.text((460, 355 + n * 34), line, fill="#012", font=a.font(24))
    return a.pick(t.ASK), [image]


def _split(a: Artist, said: str) -> tuple[str, list[Image.Image]]:
    words = said.split(" ") if a.lang == "en" else list(said)
    middle = len(words) // 2
    glue = " " if a.lang == "en" else ""
    halves = glue.join(words[:middle]), glue.join(words[middle:])
    return a.pick(t.ASK), [a.page([half], size=44) for half in halves]


SHAPES: dict[str, Shape] = {
    "unfinished list": _list, "plain text": _plain, "text on a photo": _meme, "screenshot": _chat, "split over two": _split,
}  # fmt: skip
