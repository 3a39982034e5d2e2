"""Policies: errors name file, line, field and what was meant; the store swaps whole revisions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from guardproxy import cli
from guardproxy.core.policy import GateMode, Slot
from guardproxy.detectors.registry import DETECTORS
from guardproxy.errors import PolicyError, SettingsError
from guardproxy.inforce import load_policies
from guardproxy.policyfile import parse_policy, parse_routing
from guardproxy.policystore import fingerprint, shipped_dir
from guardproxy.settings import Settings, load, read_secret
from guardproxy.yamldoc import Document

HEAD = "schema: 1\nname: x\n"
GUARD = "guards:\n  - name: a\n    stage: output\n    detector: patterns\n    patterns: [{id: p, text: w}]\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("guards:\n  - {name: a, stage: input, detector: patern}\n", "p.yaml:4: guards[0].detector: unknown detector 'patern'; did you mean 'patterns'?"),
        ("guards:\n  - {name: a, stage: input, detector: zzz}\n", "harmful_answer, harmful_request"),
        ("guards:\n  - name: a\n    stage: input\n    detector: patterns\n    treshold: 0.3\n", "p.yaml:7: guards[0].treshold: unknown key for detector patterns; did you mean 'threshold'?"),
        ("images: {max_cout: 3}\n", "p.yaml:3: images.max_cout: unknown key; did you mean 'max_count'?"),
        (GUARD + "    threshold: 1.5\n", "p.yaml:8: guards[0].threshold: input should be less than or equal to 1, got 1.5"),
        (GUARD + "    debounce: {windows: 1, threshold: 0.1}\n", "guards[0].debounce.windows"),
        (GUARD + "    looks_at: [user]\n", "looks_at: 'user' is not one of"),
        (GUARD + "    on_hit: mend\n", "guards[0].on_hit"),
        (GUARD + "    repair: rewrite\n", "needs on_hit: repair, got block"),
        (GUARD.replace("output", "input") + "    on_hit: repair\n", "on_hit: repair is for output guards"),
        (GUARD + "    concurrent: true\n", "concurrent is for input guards"),
        (GUARD + "combine: [{name: c, of: [a, b]}]\n", "p.yaml:8: combine: b is no guard"),
        ("guards:\n  - {name: a, stage: output, detector: jailbreak}\n", "detector jailbreak does not suit stage output"),
        ("guards:\n  - {name: a, stage: input, detector: jailbreak, patterns: []}\n", "unknown key for detector jailbreak"),
        ("guards:\n  - {name: a, stage: input, detector: jailbreak, on_hit: redact}\n", "on_hit: redact needs"),
        (GUARD + GUARD.replace("guards:\n", ""), "guard names must be unique"),
        ("hardening: [{slot: system}]\n", "p.yaml:3: hardening[0]: expected either use or text"),
        ("name: y\n", "p.yaml:3: name: given twice"),
        ("guards: [\n", "not valid YAML"),
        ("guards: \x00\n", "not valid YAML"),
        ("mode: 3\n", "p.yaml:3: mode: input should be 'enforce' or 'monitor', got 3"),
    ],
)  # fmt: skip
def test_a_wrong_policy_is_told_where_and_why(text: str, said: str) -> None:
    with pytest.raises(PolicyError) as error:
        parse_policy(HEAD + text, Path("p.yaml"), DETECTORS)
    assert said in str(error.value)


def test_what_is_missing_and_what_is_no_mapping_is_told() -> None:
    for text, said in (
        ("name: x\n", "schema: required"),
        ("[]", "expected a mapping"),
        ("x" * 4_000_001, "at most"),
    ):
        with pytest.raises(PolicyError, match=said):
            parse_policy(text, Path("p.yaml"), DETECTORS)


def test_a_whole_policy_is_read() -> None:
    text = HEAD + GUARD + (
        "    debounce: {threshold: 0.3, windows: 2}\ngate: full\nunjudged: refuse\n"
        "hardening:\n  - {use: vision_caution, slot: sandwich, per_model: {'a*': {slot: none}, 'b*': {slot: user_prefix}}}\n"
    )  # fmt: skip
    policy = parse_policy(text, Path("p.yaml"), DETECTORS)
    assert policy.gate is GateMode.FULL
    assert policy.unjudged_refused
    assert policy.hardening[0].slot is Slot.SANDWICH
    assert policy.hardening[0].per_model == {"a*": None, "b*": Slot.USER_PREFIX}
    assert policy.guards[0].debounce is not None


def test_routing_needs_known_policies_and_a_rule_for_everybody() -> None:
    for text, said in (
        ("rules: [{match: {}, policy: defalt}]", "no policy named 'defalt'; did you mean 'default'"),
        ("rules: [{match: {model: a}, policy: default}]", "the last rule must match everybody"),
        ("rules: []", "rules"),
    ):
        with pytest.raises(PolicyError, match=said):
            parse_routing(text, Path("routing.yaml"), {"default": None})
    rules = parse_routing(
        "rules: [{match: {model: 'q*'}, policy: a}, {policy: b}]", Path("r"), {"a": 1, "b": 2}
    )
    assert rules == (("*", "q*", "a"), ("*", "*", "b"))


def directory(folder: Path, *policies: str, routing: str = "rules: [{policy: x}]") -> Path:
    for index, text in enumerate(policies):
        (folder / f"{index}.yaml").write_text(text)
    if routing:
        (folder / "routing.yaml").write_text(routing)
    return folder


def test_the_store_says_what_is_wrong_with_a_directory(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="no such directory"):
        load_policies(tmp_path / "none")
    with pytest.raises(PolicyError, match="missing: it says which policy"):
        load_policies(directory(tmp_path, HEAD, routing=""))
    with pytest.raises(PolicyError, match="another file has a policy named 'x'"):
        load_policies(directory(tmp_path, HEAD, HEAD))
    (tmp_path / "1.yaml").write_bytes(b"\xff")
    with pytest.raises(PolicyError, match="cannot be read"):
        load_policies(tmp_path)


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("{id: p}", "expected either text or regex"),
        ("{id: p, text: ' '}", "holds nothing to look for"),
        ("{id: p, regex: '(a'}", "not valid RE2 syntax"),
        ("{id: p, regex: 'a+'}", "no bound on its length"),
        (r"{id: p, regex: '\pN'}", "no bound on its length"),
    ],
)
def test_patterns_that_cannot_be_held_for_are_refused(tmp_path: Path, pattern: str, said: str) -> None:
    text = HEAD + GUARD.replace("{id: p, text: w}", pattern)
    with pytest.raises(PolicyError, match=said):
        load_policies(directory(tmp_path, text))
    if "bound" in said:
        assert load_policies(directory(tmp_path, text + "gate: full\n")).policies


def test_routes_and_versions_follow_the_content(tmp_path: Path) -> None:
    one = load_policies(
        directory(
            tmp_path,
            HEAD + GUARD,
            HEAD.replace("x", "y"),
            routing="rules: [{match: {model: 'q*'}, policy: y}, {policy: x}]",
        )
    )
    assert one.route("qwen", "anonymous").policy.name == "y"
    assert one.route("other", "anonymous").policy.name == "x"
    before = fingerprint(tmp_path)
    (tmp_path / "0.yaml").write_text(HEAD + GUARD.replace("text: w", "text: ww"))
    assert fingerprint(tmp_path) != before
    two = load_policies(tmp_path)
    assert two.digest != one.digest
    assert two.policies["x"].policy.version != one.policies["x"].policy.version
    assert two.policies["y"].policy.version == one.policies["y"].policy.version


def test_the_shipped_policies_are_sound_and_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["policy", "check"]) == 0
    assert cli.main(["policy", "explain", "default"]) == 0
    said = capsys.readouterr().out
    for words in ("default", "observe", "strict", "a stream is held back", "no guard looks at image"):
        assert words in said
    assert cli.main(["policy", "explain"]) == 0
    assert "watches only" in capsys.readouterr().out
    assert cli.main(["policy", "schema"]) == 0
    assert "guards" in json.loads(capsys.readouterr().out)["properties"]


def test_what_looks_at_pictures_stops_few_benign_ones_by_its_own_page() -> None:
    """At most 3 %, and at least 90 % of the published attacks: docs/quality/images.md."""
    page = (Path(shipped_dir()).parent / "docs/quality/images.md").read_text("utf-8")

    def share(line: str) -> float:
        return float(line.split("|")[3].strip().rstrip("%"))

    benign = next(x for x in page[page.index("## Benign") :].splitlines() if x.startswith("| **all**"))
    attacks = next(x for x in page.splitlines() if x.startswith("| **all seven**"))
    assert share(benign) <= 3.0
    assert share(attacks) >= 90.0


def test_the_default_policy_stops_little_ordinary_work() -> None:
    """By the quality page, on sources kept apart: one look-alike in ten at most, one everyday text in fifty."""
    page = (Path(shipped_dir()).parent / "docs/quality/audit.md").read_text("utf-8")
    rates = {}
    for section in page.split("\n## ")[1:]:
        for line in section.splitlines():
            if line.startswith("| 0.") and "(shipped)" in line:
                threshold, look_alikes, everyday = (c.split()[0] for c in line.strip("| ").split(" | ")[:3])
                rates[section.split("\n")[0], float(threshold)] = (look_alikes, everyday)
    blocking = [
        g
        for g in load_policies(shipped_dir()).policies["default"].policy.guards
        if g.on_hit.label == "block" and g.detector != "patterns" and g.looks_at != ("image_text",)
    ]
    assert len(blocking) == 3
    for guard in blocking:
        look_alikes, everyday = rates[guard.detector, guard.threshold]
        assert float(look_alikes.rstrip("%")) <= 10
        assert float(everyday.rstrip("%")) <= 2


def test_a_command_that_cannot_run_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["policy", "check", "--policies", str(tmp_path)]) == 1
    assert cli.main(["policy", "check", "nome"]) == 1
    assert cli.main(["serve"]) == 1
    assert cli.main(["serve", "--upstream", "http://x", "--host", "0.0.0.0"]) == 1
    assert cli.main(["serve", "--upstream", "http://x", "--config", str(tmp_path / "none")]) == 1
    said = capsys.readouterr().err
    for words in (
        "routing.yaml: missing",
        "no policy named 'nome'",
        "upstream: required",
        "not loopback",
        "cannot be read",
    ):
        assert words in said


def test_settings_come_from_flags_environment_and_file(tmp_path: Path) -> None:
    file = tmp_path / "guardproxy.yaml"
    file.write_text("upstream: {url: 'http://file', key: 'env:KEY'}\nport: 1\nworkers: 2\n")
    environ = {
        "GUARDPROXY_PORT": "2",
        "GUARDPROXY_LIMITS__MAX_BODY_BYTES": "7",
        "GUARDPROXY_UPSTREAM": "http://env",
        "HOME": "/",
    }
    read = load(file, {"workers": 3}, environ)
    assert (read.upstream.url, read.upstream.key, read.port, read.workers) == ("http://env", "env:KEY", 2, 3)
    assert read.limits.max_body_bytes == 7
    assert load(None, {"upstream": {"url": "u"}}, {}) == Settings.model_validate({"upstream": {"url": "u"}})
    for text, said in (("prot: 1", "did you mean 'port'"), ("port: x", "guardproxy.yaml:1: port:")):
        file.write_text(text)
        with pytest.raises(SettingsError, match=said):
            load(file, {}, {})


def test_secrets_are_references_never_themselves(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("s3cret\n")
    assert read_secret(None) is None
    assert read_secret("env:K", {"K": "v"}) == "v"
    assert read_secret(f"file:{tmp_path}/key") == "s3cret"
    for wrong in ("env:NONE", "plain-secret", f"file:{tmp_path}/none"):
        with pytest.raises(SettingsError) as error:
            read_secret(wrong, {})
        assert "plain-secret" not in str(error.value)


def test_lines_are_found_even_in_odd_documents() -> None:
    document = Document("a: &x [1, {b: 2}]\nc: *x\n", "f")
    assert document.line(("a", 1, "b")) == 1
    assert document.line(("zzz",)) == 1
