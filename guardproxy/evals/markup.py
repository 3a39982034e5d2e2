"""Small pieces of HTML. Everything that comes from outside is escaped here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from guardproxy.evals.statistics import Change, Rate
from guardproxy.evals.wording import Wording, interval, p_value, percent, signed

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#a05195", "#7a5c00", "#444f5a", "#c2185b", "#00707a")
"""Told apart also with colour blindness (after Okabe and Ito); a number stands beside each."""

STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#57606a;--line:#d0d7de;--paper:#fff;--tint:#f6f8fa;--good:#116329;
--bad:#a40e26;--mark:#0072b2}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9da7b1;--line:#3d444d;--paper:#0d1117;--tint:#161b22;
--good:#56d364;--bad:#ff7b72;--mark:#58a6ff}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"Hiragino Sans","Noto Sans JP","Noto Sans CJK JP",sans-serif;overflow-wrap:anywhere}
main{max-width:70rem;margin:0 auto;padding:1.5rem 1rem 4rem}
h1{font-size:1.7rem;line-height:1.25;margin:.2rem 0 .6rem}
h2{font-size:1.2rem;margin:2.4rem 0 .5rem;padding-top:.9rem;border-top:1px solid var(--line)}
h3{font-size:1rem;margin:1.4rem 0 .3rem}
p{margin:.4rem 0;max-width:46rem}
.soft{color:var(--soft);font-size:.9rem}
table{border-collapse:collapse;width:100%;margin:.8rem 0;font-variant-numeric:tabular-nums}
th,td{text-align:left;vertical-align:top;padding:.45rem .7rem .45rem 0;border-bottom:1px solid var(--line)}
thead th{font-size:.82rem;color:var(--soft);font-weight:600}
tbody th{font-weight:600}
.rate b{font-size:1.05rem}
.bar{display:block;position:relative;height:.4rem;max-width:11rem;border-radius:.2rem;background:var(--tint);
border:1px solid var(--line);margin:.15rem 0}
.bar i{position:absolute;top:0;bottom:0;background:var(--mark);opacity:.35;border-radius:.2rem}
.bar u{position:absolute;top:-2px;bottom:-2px;width:2px;background:var(--mark)}
.dot{display:inline-block;min-width:1.5em;padding:0 .25em;border-radius:.75em;color:#fff;text-align:center;
font-size:.8rem;line-height:1.5em;font-weight:700;margin-right:.4em}
.verdict{border:1px solid var(--line);border-left:.4rem solid;border-radius:.4rem;padding:.6rem 1rem;margin:1rem 0}
.verdict h2{border:0;margin:0;padding:0}
.kept{color:var(--good)}.broken{color:var(--bad)}
.verdict p,.verdict table{color:var(--ink)}
ul.cautions{padding:0;list-style:none;max-width:52rem}
ul.cautions li{background:var(--tint);border-left:.3rem solid #d4a017;border-radius:.3rem;padding:.5rem .8rem;margin:.4rem 0}
figure{margin:1rem 0}
svg{width:100%;max-width:38rem;height:auto;display:block}
.no{white-space:nowrap}
ul.short{padding:0;list-style:none;margin:1rem 0}ul.short li{margin:.7rem 0}
svg text{fill:var(--ink);font:11px system-ui,sans-serif}
svg .axis{stroke:var(--line);fill:none}svg text.soft{fill:var(--soft);font-size:10px}
details{border:1px solid var(--line);border-radius:.4rem;padding:.4rem .8rem;margin:.5rem 0}
summary{cursor:pointer}
pre{white-space:pre-wrap;background:var(--tint);padding:.6rem .8rem;border-radius:.4rem;margin:.3rem 0;
font:.88rem/1.5 ui-monospace,Menlo,Consolas,"Noto Sans Mono CJK JP",monospace}
@media(min-width:60rem){.two{display:grid;grid-template-columns:minmax(0,1.1fr) minmax(0,1fr);gap:2rem;align-items:start}}
@media(max-width:44rem){
thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
table,tbody,tr,th,td{display:block;width:100%}
tr{padding:.6rem 0;border-bottom:1px solid var(--line)}
th,td{border:0;padding:.15rem 0}
td[data-l]{display:grid;grid-template-columns:8.5rem minmax(0,1fr);gap:.6rem}
td[data-l]::before{content:attr(data-l);color:var(--soft);font-size:.8rem;line-height:1.7}
.bar{max-width:none}}
@media print{details{break-inside:avoid}}
"""


def esc(text: object) -> str:
    """Text as HTML text or attribute."""
    return escape(str(text), quote=True)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str) -> str:
    """A table whose first column names the row; on a narrow screen each row becomes a block.

    Args:
        head: Plain texts.
        rows: HTML.
        caption: For those who hear the page; not shown.
    """
    top = "".join(f'<th scope="col">{esc(h)}</th>' for h in head)
    body = "".join(
        f'<tr><th scope="row">{first}</th>'
        + "".join(
            f'<td data-l="{esc(h)}"><span>{cell}</span></td>' for h, cell in zip(head[1:], rest, strict=True)
        )
        + "</tr>"
        for first, *rest in rows
    )
    return f'<table aria-label="{esc(caption)}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'


def dot(index: int) -> str:
    """An arm's number in its colour."""
    return f'<span class="dot" style="background:{colour(index)}" aria-hidden="true">{index + 1}</span>'


def colour(index: int) -> str:
    """Of an arm."""
    return COLOURS[index % len(COLOURS)]


def rate_cell(rate: Rate, words: Wording) -> str:
    """A rate with its interval, as a bar too."""
    if rate.rate is None:
        return f'<span class="soft">{esc(words("no_cases"))}</span>'
    low, high, middle = (round(100 * v, 1) for v in (rate.low, rate.high, rate.rate))
    bar = f'<span class="bar" aria-hidden="true"><i style="left:{low}%;width:{max(high - low, 0.5):.1f}%"></i><u style="left:{min(middle, 99)}%"></u></span>'
    of = esc(words("of", events=rate.events, n=rate.n))
    bounds = f'<span class="no">{interval(rate.low, rate.high)}</span>'
    return (
        f'<span class="rate"><b>{percent(rate.rate)}</b> {bounds}{bar}<span class="soft">{of}</span></span>'
    )


def change_cell(change: Change, words: Wording) -> str:
    """A paired change with its interval and p."""
    if change.difference is None:
        return f'<span class="soft">{esc(words("no_cases"))}</span>'
    value = esc(words("points", value=signed(change.difference)))
    bounds = f'<span class="no">[{signed(change.low)} … {signed(change.high)}]</span>'
    counts = f"+{change.gained} −{change.lost} n={change.n}"
    p = f"p={p_value(change.p)} ({p_value(change.p_holm)})".replace("=<", "<")
    return f'<span><b>{value}</b> {bounds}<br><span class="soft">{counts}, {esc(p)}</span></span>'
