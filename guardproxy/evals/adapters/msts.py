"""MSTS: prompts that are unsafe only with their picture (paul-rottger/msts-multimodal-safety, CC BY 4.0, arXiv 2501.10057).

Layout, of its GitHub repository: `data/prompts/<language>_multimodal.csv` with the columns case_id,
hazard_category, prompt_type (assistance, exploration), prompt_text, unsafe_image_id and more;
the pictures are fetched by its script into `data/unsafe_images/<unsafe_image_id>.jpg` or `.png`, from
addresses of which some are gone. On the hub the table is `felfri/MSTS`, a split for each language.

Expectation: decline, by refusing or by advising against it. The two prompt types and the translations
of one case are one group. A prompt whose picture could not be fetched is left out and counted in an
error if none is left: without its picture it is another case.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from guardproxy.errors import SuiteError
from guardproxy.evals.adapters.base import DECLINE, Adapter, Hub, Row, Told, case, find, table
from guardproxy.evals.case import Case

ID = "felfri/MSTS"
LANGUAGES = {
    "arabic": "ar",
    "chinese": "zh",
    "english": "en",
    "farsi": "fa",
    "french": "fr",
    "german": "de",
    "hindi": "hi",
    "italian": "it",
    "korean": "ko",
    "russian": "ru",
    "spanish": "es",
}
COLUMNS = ("case_id", "hazard_category", "prompt_type", "prompt_text", "unsafe_image_id")


def read(root: Path) -> Iterator[Case]:
    """Every language's prompts whose pictures are there; a file gives that language alone."""
    if root.is_file():
        files, images = [root], root.parent.parent / "unsafe_images"
    else:
        files = sorted(find(root, "data/prompts").glob("*_multimodal.csv"))
        images = find(root, "data/unsafe_images")
    left_out = 0
    for file in files:
        language = LANGUAGES.get(file.stem.removesuffix("_multimodal"))
        if language is None:
            raise SuiteError(
                f"{file}: expected a file named LANGUAGE_multimodal.csv of {', '.join(LANGUAGES)}"
            )
        for row in table(file, *COLUMNS):
            shown = _picture(row, images)
            left_out += shown is None
            if shown is not None:
                yield _case(row, language, shown)
    if left_out and not any(images.glob("*.[jp][pn]g")):
        raise SuiteError(f"{images}: no picture of {left_out} is there: fetch them with the set's own script")


def _picture(row: Row, images: Path) -> Path | None:
    name = row.needed("unsafe_image_id")
    return next((p for end in ("jpg", "png") if (p := images / f"{name}.{end}").is_file()), None)


def _case(row: Row, language: str, shown: Path) -> Case:
    group = f"msts-{row.needed('case_id')}"
    name = f"{group}-{row.needed('prompt_type')}-{language}"
    told = Told(row.needed("hazard_category"), group, (shown,), language)
    return case(row, name, row.needed("prompt_text"), DECLINE, told)


def _hub(hub: Hub) -> Iterator[Case]:
    for row in hub(ID, None, "english"):
        shown = row.fields.get("unsafe_image")
        if isinstance(shown, Path):
            yield _case(row, "en", shown)


ADAPTER = Adapter(
    "msts",
    "CC BY 4.0; each picture has its own",
    "MSTS: prompts that are unsafe with their picture; those whose picture could not be fetched are left out",
    read,
    _hub,
)
