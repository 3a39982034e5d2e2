"""What a report says, in English and Japanese."""

from __future__ import annotations

from collections.abc import Mapping

from guardproxy.core.policy import Bilingual

_TEXTS: Mapping[str, tuple[str, str]] = {
    "title": ("Evaluation: {suite}", "評価レポート: {suite}"),
    "about": (
        "Model {model} at {target}, asked {planned} times, begun {started}. Suite version {version}.",
        "モデル {model}({target})に{planned}回質問、開始 {started}。スイートの版 {version}。",
    ),
    "licence": ("Licence of the cases: {licence}.", "ケースのライセンス: {licence}。"),
    "gates_kept": ("All bounds are kept", "すべての基準を満たしています"),
    "gates_broken": (
        "{broken} of {all} bounds are broken",
        "{all}件の基準のうち{broken}件を満たしていません",
    ),
    "gates": ("Bounds", "基準"),
    "gates_note": (
        "Unreadable answers and errors count against every bound. “upper” compares the upper end of the 95 % interval.",
        "判定できない回答とエラーは、どの基準でも不利に数えます。upper は95 %区間の上端を比べます。",
    ),
    "bound": ("Bound", "基準"),
    "value": ("Measured", "測定値"),
    "most": ("At most", "上限"),
    "kept": ("kept", "達成"),
    "broken": ("broken", "未達"),
    "verdict": ("Verdict", "結果"),
    "nothing": ("nothing measured", "測定なし"),
    "both": ("Both sides", "両面の結果"),
    "both_note": (
        "Attack success: how often the model did what an attack asked. Over-refusal: how often a benign request was "
        "refused by the model or blocked by the proxy. Lower left is better. Bars are 95 % intervals.",
        "攻撃成功率: 攻撃の依頼にモデルが応じた割合。過剰拒否率: 問題のない依頼をモデルが断った、またはプロキシが遮断した割合。"
        "左下ほど良好です。棒は95 %区間です。",
    ),
    "plot": (
        "Attack success against over-refusal: {points}",
        "攻撃成功率と過剰拒否率: {points}",
    ),
    "short": ("{what}: {now}", "{what}: {now}"),
    "short_change": ("{what}: {was} → {now}", "{what}: {was} → {now}"),
    "short_attack_success": ("attacks that succeed", "成功する攻撃"),
    "short_over_refusal": ("benign requests declined", "断られる問題のない依頼"),
    "attack_success": ("Attack success", "攻撃成功率"),
    "over_refusal": ("Over-refusal", "過剰拒否率"),
    "added_refusals": ("Added refusals", "拒否の増加"),
    "errors": ("Errors", "エラー"),
    "arm": ("Arm", "条件"),
    "of": ("{events} of {n}", "{n}件中{events}件"),
    "no_cases": ("no cases", "ケースなし"),
    "unknown": ("No answer or unreadable", "回答なし・判定不能"),
    "at_worst": (
        "if all that is unknown were bad: {attacks} / {benign}",
        "不明をすべて不利に数えた場合: {attacks} / {benign}",
    ),
    "trust": ("How far to trust this", "この数字をどこまで信用できるか"),
    "trust_none": (
        "Nothing was found that puts these figures in doubt.",
        "数字を疑わせる点は見つかりませんでした。",
    ),
    "single_judge": (
        "All rates come from one judge ({about}) that no person checked. Judges of the same answers have differed as "
        "13 % and 88 % attack success: label a sample with `guardproxy eval label`, or add a second judge.",
        "すべての率は、人が確認していない一つの判定器({about})によるものです。同じ回答でも判定器により攻撃成功率が13 %と88 %に"
        "分かれた例があります。`guardproxy eval label` で一部を自分で確認するか、別の判定器を加えてください。",
    ),
    "unchecked_judges": (
        "No person checked these judges ({about}) on these answers: label a sample with `guardproxy eval label`.",
        "これらの判定器({about})は、この回答について人の確認を受けていません。`guardproxy eval label` で一部を確認してください。",
    ),
    "judges_disagree": (
        "{about}: agree little beyond chance on {count} answers. See the figures of each judge.",
        "{about}: {count}件の回答で、偶然をわずかに上回る一致しかありません。判定器ごとの数字を見てください。",
    ),
    "judge_flips": (
        "{about}: this judge gave {count} of {of} probes a verdict that it must not give. Its rates are as weak.",
        "{about}: この判定器は、{of}件の試験のうち{count}件で、してはならない判定をしました。率も同じ程度に不確かです。",
    ),
    "missing": (
        "{about}: {count} of {of} answers are errors or unreadable, and stand in no rate.",
        "{about}: {of}件中{count}件がエラーまたは判定不能で、率に入っていません。",
    ),
    "policy_changed": (
        "{about}: was served by {count} versions of its policy: it was changed during the run.",
        "{about}: 実行中にポリシーが変更され、{count}個の版で処理されました。",
    ),
    "incomplete": (
        "The run is not complete: {count} questions have not been asked. Run the same command again to resume.",
        "実行は途中です。{count}件の質問がまだです。同じコマンドをもう一度実行すると再開します。",
    ),
    "adds": ("What each arm changes", "各条件による変化"),
    "adds_note": (
        "On the same cases, in percentage points, with 95 % intervals. p: exact McNemar test; in brackets adjusted by "
        "Holm for all comparisons here. “Only here” counts what the baseline arm answered.",
        "同じケースでの差(ポイント)と95 %区間。p は正確なマクネマー検定、括弧内はこの表の全比較について Holm 法で補正した値。"
        "「ここだけ」は、比較元では回答されたものを数えます。",
    ),
    "against": ("{arm} against {baseline}", "{arm}({baseline} と比較)"),
    "points": ("{value} points", "{value}ポイント"),
    "only_here": ("Benign, only here", "問題のない依頼(ここだけ)"),
    "attacks_only_here": ("Attacks, only here", "攻撃(ここだけ)"),
    "refused_blocked": ("{refused} refused, {blocked} blocked", "拒否{refused}件、遮断{blocked}件"),
    "outcomes": ("Outcomes", "結果の内訳"),
    "outcomes_note": (
        "A refusal is the model's own; a block is the proxy's.",
        "拒否はモデル自身によるもの、遮断はプロキシによるものです。",
    ),
    "refuse_or_block": ("Attacks", "攻撃"),
    "comply": ("Benign requests", "問題のない依頼"),
    "either": ("Either is right", "どちらでもよい依頼"),
    "complied": ("complied", "応答"),
    "refused": ("refused", "拒否"),
    "blocked": ("blocked", "遮断"),
    "repaired": ("repaired", "修復"),
    "error": ("error", "エラー"),
    "unreadable": ("unreadable", "判定不能"),
    "by_category": ("By category", "カテゴリー別"),
    "by_language": ("By language", "言語別"),
    "slices_note": (
        "Small groups have wide intervals: read the interval, not the rate.",
        "件数の少ない区分は区間が広くなります。率ではなく区間を見てください。",
    ),
    "judges": ("Judges", "判定器"),
    "judges_note": (
        "The figures above use {judge}. Each judge's own, and the share of answers that it could read:",
        "上の数字は {judge} によるものです。判定器ごとの数字と、判定できた回答の割合:",
    ),
    "judge": ("Judge", "判定器"),
    "coverage": ("Could read", "判定できた割合"),
    "agreement": ("Agreement", "一致"),
    "agreement_note": (
        "Kappa is agreement beyond chance; the shares of each label bound how large it can be. People: {human} answers.",
        "κ は偶然を超える一致です。各ラベルの割合により、取りうる最大値が決まります。人による確認: {human}件。",
    ),
    "pair": ("Judges", "判定器の組"),
    "same": ("Same label", "同じ判定"),
    "kappa": ("Kappa", "κ"),
    "kappa_max": ("Largest possible", "最大値"),
    "marginals": ("Shares of the labels", "ラベルの割合"),
    "human": ("people", "人"),
    "probes": ("Probes", "判定器の試験"),
    "probes_note": (
        "Answers of this run, changed in ways that must not change the verdict (or that can be no help at all).",
        "判定が変わってはならない(または役に立ちようがない)形に変えた、この実行の回答。",
    ),
    "probe": ("Probe", "試験"),
    "flips": ("Wrong", "誤り"),
    "sorry_appended": ("“I'm sorry” at the end of help", "応答の末尾に「申し訳ありません」"),
    "sorry_prepended": ("“I'm sorry” before help", "応答の冒頭に「申し訳ありません」"),
    "warm_opening": ("a friendly opening", "親しみのある書き出し"),
    "upper_case": ("in capitals", "大文字"),
    "as_list": ("as a list", "箇条書き"),
    "off_topic": ("about something else", "無関係な内容"),
    "nothing_said": ("nothing said", "内容なし"),
    "wordings": ("Wordings and sample size", "言い回しと件数"),
    "wordings_note": (
        "Flip: an item whose outcome depends on its wording. More cases: for ±2 points at about this rate.",
        "反転: 言い回しにより結果が変わる項目。追加件数: この率で±2ポイントにするために必要な数。",
    ),
    "attack_flips": ("Attacks that flip", "反転する攻撃"),
    "benign_flips": ("Benign that flip", "反転する問題のない依頼"),
    "more_attacks": ("More attacks needed", "必要な追加攻撃数"),
    "more_benign": ("More benign needed", "必要な追加依頼数"),
    "enough": ("enough", "十分"),
    "costs": ("Time and tokens", "時間とトークン"),
    "median": ("Median", "中央値"),
    "p95": ("95th percentile", "95パーセンタイル"),
    "prompt_tokens": ("Tokens in", "入力トークン"),
    "completion_tokens": ("Tokens out", "出力トークン"),
    "change": ("Change", "変化"),
    "answers": ("Answers", "回答数"),
    "examples": ("Examples", "例"),
    "examples_note": (
        "Texts may be harmful or upsetting; open what you want to read.",
        "有害または不快な文章を含むことがあります。読むものだけを開いてください。",
    ),
    "example_attack_success": ("attack that succeeded", "成功した攻撃"),
    "example_over_refusal": ("benign request that was declined", "断られた問題のない依頼"),
    "asked": ("Asked", "依頼"),
    "answered": ("Answered", "回答"),
    "how": ("How this was measured", "測定の方法"),
    "how_note": (
        "Every case was asked over HTTP as an application would, in every arm. Rates have Wilson intervals; where "
        "several answers belong to one item (wordings, repeats), the interval is the wider of Wilson's and a bootstrap "
        "over items. Errors and unreadable answers stand in no rate, but count against every bound. Judges are "
        "programs and err: see above.",
        "すべてのケースを、アプリケーションと同じように HTTP で、各条件について質問しました。率には Wilson の区間を付けています。"
        "一つの項目に複数の回答(言い回し、繰り返し)がある場合は、Wilson の区間と項目単位のブートストラップ区間の広い方です。"
        "エラーと判定不能は率に入れず、基準では不利に数えます。判定器はプログラムであり、誤ります(上記参照)。",
    ),
}


class Wording:
    """The texts in one language.

    Args:
        language: `en` or `ja`.
    """

    def __init__(self, language: str) -> None:
        self.language = language

    def __call__(self, name: str, **fields: object) -> str:
        """A text, with its fields filled in."""
        return Bilingual(*_TEXTS[name]).get(self.language).format(**fields)


NAMES = frozenset(_TEXTS)
"""Of all texts."""


def percent(share: float | None) -> str:
    """`12.3%`."""
    return "–" if share is None else f"{100 * share:.1f}%"


def interval(low: float, high: float) -> str:
    """`[7.0–20.1]`, in per cent."""
    return f"[{100 * low:.1f}–{100 * high:.1f}]"


def signed(share: float | None) -> str:
    """`+1.2` or `−7.5`, in points."""
    return "–" if share is None else f"{100 * share:+.1f}".replace("-", "−")


def p_value(p: float) -> str:
    """`0.031`; `<0.001` below it."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def number(value: float | None, digits: int = 2) -> str:
    """A figure, or a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")
