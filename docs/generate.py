"""Writes the tables and the plot of the documentation into docs/generated, from the project's own records.

    python docs/generate.py

Sources: the index of methods and their fields, claims/results/*.json, and the quality of the embedded models.
What has no record yet is said to be not run or not measured here. No figure is typed by hand.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from selfstudy.app.claiming import SIGNS
from selfstudy.app.fields import described_fields
from selfstudy.app.rows import difference_text, figure, percent
from selfstudy.core.files import read_json
from selfstudy.core.index import METHODS
from selfstudy.evaluation.statistics import paired_interval, share_interval

ROOT = Path(__file__).resolve().parents[1]
WORDS = "claims/results/mawps-gemma-3-270m.json"
GEMMA = "claims/results/gemma-3-270m.json"
REWARDS = "claims/results/reward-methods.json"
QUALITY = "src/selfstudy/models/language/weights/quality.json"
# Contestants of the search claim, with the colour each keeps (the palette of Okabe and Ito).
SEARCHERS = {
    "MCTS*": "#d55e00",
    "ToT-BFS": "#009e73",
    "SC by value": "#0072b2",
    "BoN+PRM": "#cc79a7",
    "self-consistency": "#777777",
}
LONG = 24  # rows of a table that is shown at once
AT = re.compile(r"(?P<name>.+?)(?:, (?P<branches>\d+) branches)?")
Claim = dict[str, Any]


def pages(root: Path) -> dict[str, str]:
    """Return the generated files by name, from the records under `root`."""
    results = {slug: _results(root, slug) for slug in METHODS}
    quality = root / QUALITY
    made = {
        "methods.md": methods_table(results),
        "quality.md": quality_tables(read_json(quality) if quality.exists() else {}),
    }
    words = root / WORDS
    made["mawps.md"] = words_table(read_json(words)) if words.exists() else "Not run here.\n"
    gemma = root / GEMMA
    made["gemma.md"] = gemma_tables(read_json(gemma)) if gemma.exists() else "Not run here.\n"
    rewards = root / REWARDS
    made["reward-methods.md"] = comparison(read_json(rewards)) if rewards.exists() else "Not run here.\n"
    for slug, claims in results.items():
        made[f"fields-{slug}.md"] = fields_table(slug)
        made[f"claims-{slug}.md"] = claims_text(slug, claims)
    search = next((claim for claim in results["rest-mcts"] if "MCTS*" in claim["values"]), None)
    made["tokens.md"] = tokens_text(search)
    if search:
        made["tokens.svg"] = tokens_plot(search)
    return made


def _results(root: Path, slug: str) -> list[Claim]:
    path = root / "claims" / "results" / f"{slug}.json"
    return read_json(path)["claims"] if path.exists() else []


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: int = 0) -> str:
    """Return a Markdown table; the last `numbers` columns are aligned to the right."""
    rule = ["---"] * (len(heads) - numbers) + ["---:"] * numbers
    lines = [heads, rule, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def methods_table(results: dict[str, list[Claim]]) -> str:
    """Return one line a method: what it needs and gives, and the verdicts on its claims."""
    rows = []
    for entry in METHODS.values():
        verdicts = [f"{claim['name']} {claim['verdict']}" for claim in results[entry.slug]]
        link = f"[`{entry.slug}`]({entry.slug}.md)"
        status = ", ".join(verdicts) or "not run here"
        rows.append((link, str(entry.year), entry.family, entry.needs, entry.gives, status))
    return table(("method", "year", "family", "needs", "gives", "claims"), rows)


def fields_table(slug: str) -> str:
    """Return all fields of a method with default and help."""
    rows = []
    for field in described_fields(METHODS[slug].load()()):
        option = f"`--{field.name.replace('_', '-')}`"
        rows.append((option, f"`{field.default}`", field.text.replace("|", "\\|").replace("*", "\\*")))
    return table(("option", "default", "what it is"), rows)


def quality_tables(quality: dict[str, Any]) -> str:
    """Return how often the embedded policy is right, and how well its value model knows a first error."""
    if not quality:
        return "Not measured here.\n"
    steps = list(quality.get("greedy", {}))
    right = [
        (f"{name}, {part} right", *(percent(quality[name][at][part]) for at in steps))
        for name in ("pass@1", "greedy")
        for part in ("lines", "answer")
    ]
    text = table(("chains of", *steps), right, len(steps))
    measured = quality.get("value model")
    if not measured:
        return f"{text}\nThe value model is not measured here.\n"
    rows = [
        (
            at,
            f"{found['first error']:.3f}",
            f"{found['lines']:,}",
            f"{found['errors']:,}",
            f"{found['finished']:.3f}",
            f"{found['solved']:,}",
        )
        for at, found in measured.items()
    ]
    heads = (
        "chains of",
        "AUC of first errors",
        "lines judged",
        "of them first errors",
        "AUC of finished solutions",
        "of them right",
    )
    return text + "\n" + table(heads, rows, 5)


def words_table(summary: dict[str, Any]) -> str:
    """Return the accuracy of a model before and after on real word problems, and of votes of the base."""
    votes = summary["self_consistency"]
    entries = {
        "base": summary["base"],
        "tuned policy": summary["trained"],
        "self-consistency of the base": votes,
    }
    round_, cores = summary["metrics"]["rounds"][0], summary["hardware"]["cores"]
    return (
        _accuracies(entries)
        + f"\nOne round on {round_['problems']} problems, of which {round_['solved']} were solved in search; "
        f"{summary['wall_seconds'] / 60:.0f} minutes on {cores} core{'s' * (cores > 1)}.\n"
    )


def gemma_tables(parts: dict[str, Any]) -> str:
    """Return, for each task, the accuracy of every way to answer and what the model was trained on."""
    return "\n".join(
        f"`{part['task']}`\n\n" + _accuracies(part["ways"]) + f"\n{_rounds_text(part)}\n"
        for part in parts.values()
    )


def comparison(result: dict[str, Any]) -> str:
    """Return what each method of a comparison gained over the base, best first, and what it spent on it."""
    base, metric = result["base"], result["metric"]["name"]
    rows = []
    for slug, found in sorted(result["results"].items(), key=lambda item: -item[1]["over_seeds"]["mean"]):
        spread, spent = found["over_seeds"], found["spent"]
        rows.append(
            (
                f"[`{slug}`](methods/{slug}.md)",
                METHODS[slug].needs,
                percent(spread["mean"]),
                f"{percent(spread['low'])} to {percent(spread['high'])}",
                f"{sum(one.get('verifier_calls', 0) for one in spent) / len(spent):,.0f}",
                f"{sum(one['seconds'] for one in spent) / len(spent):,.0f}",
            )
        )
    heads = ("method", "needs", metric, "95 % interval", "checks", "seconds")
    return (
        f"`{result['task']}`, `{result['model']}`, {result['budget']['generated_tokens']:,.0f} generated "
        f"tokens, {result['seeds']} seeds; the base has {percent(base[metric])} "
        f"({percent(base['low'])} to {percent(base['high'])} over its {base['count']:,} problems). "
        "`python claims/reported/reward_methods.py` has the settings and makes it again.\n\n"
        + table(heads, rows, 4)
    )


def _accuracies(entries: dict[str, Any]) -> str:
    rows = [
        (
            name.replace("*", "\\*")
            + (f", {found['samples']} samples" if found.get("samples", 1) > 1 else ""),
            percent(found["accuracy"]),
            f"{percent(found['low'])} to {percent(found['high'])}",
            f"{found['count']:,}",
            f"{found['generated_tokens']:,.0f}",
        )
        for name, found in entries.items()
    ]
    return table(("", "accuracy", "95 % interval", "problems", "generated tokens"), rows, 4)


def _rounds_text(part: dict[str, Any]) -> str:
    rounds = part["metrics"]["rounds"]
    solved = ", then ".join(f"{one['solved']} of {one['problems']}" for one in rounds)
    examples = ", then ".join(str(one["examples"]) for one in rounds)
    return f"Training problems solved in search: {solved}; solutions trained on: {examples}."


def claims_text(slug: str, claims: list[Claim]) -> str:
    """Return verdicts, paired differences and all figures of a method's claims."""
    if not claims:
        return "Not run here.\n"
    return "\n".join(map(_claim_text, claims))


def _claim_text(claim: Claim) -> str:
    relations = [
        (
            f"{_plain(one['a'])} {SIGNS[one['how']]} {_plain(str(one['b']))}",
            difference_text(one, claim["share"]),
            f"{one['n']} {one['pairs']}",
            f"**{one['verdict']}**",
        )
        for one in claim["relations"]
    ]
    made, versions = claim["hardware"], claim["versions"]
    return (
        f"**{claim['name']}: {claim['verdict']}.** {claim['statement']}\n\n"
        + table(("relation", "paired difference (95 % interval)", "pairs", "verdict"), relations)
        + "\n"
        + _folded(_figures(claim["values"], claim["share"]))
        + f"\n{len(claim['seeds'])} seeds, {claim['minutes']:.0f} minutes on {made['cores']} cores "
        f"({made['cpu']}), torch {versions['torch']}, transformers {versions['transformers']}.\n"
    )


def _folded(text: str) -> str:
    """Fold a table that is longer than a page; it opens on a click."""
    rows = text.count("\n") - 2
    if rows <= LONG:
        return text
    summary = f"<summary>All {rows} figures</summary>"
    return f'<details markdown="1">{summary}\n\n{text}\n</details>\n'


def _figures(values: dict[str, list[float]], share: bool) -> str:
    """Return the mean of every contestant with its interval over seeds, and the tokens it took, if any.

    Differences of shares, which are figures too where a claim compares them, may be below 0.
    """
    wrote = any(name.endswith(" tokens") for name in values)
    rows = []
    for name, seeds in values.items():
        if name.endswith(" tokens"):
            continue
        within = share_interval(seeds) if share and min(seeds) >= 0 else paired_interval(seeds)
        several = len(seeds) > 1
        low, high = (figure(bound if several else None, share) for bound in (within.low, within.high))
        tokens = [_tokens(values, f"{name}{kind} tokens") for kind in ("", " value")] if wrote else []
        rows.append((_plain(name), figure(within.mean, share), f"{low} to {high}", *tokens))
    if wrote:
        return table(
            ("contestant", "accuracy", "95 % over seeds", "generated tokens", "value tokens"), rows, 4
        )
    return table(("measured", "mean", "95 % over seeds"), rows, 2)


def _tokens(values: dict[str, list[float]], name: str) -> str:
    return f"{statistics.fmean(values[name]):,.0f}" if name in values else "\u2013"


def _plain(name: str) -> str:
    return name.replace("*", "\\*").replace("|", "\\|")


# Accuracy against tokens.


def curves(claim: Claim) -> dict[str, list[dict[str, Any]]]:
    """Return the points of each way to search in order of tokens: budget, tokens, mean, interval."""
    values = claim["values"]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in SEARCHERS}
    for full in values:
        parts = AT.fullmatch(full)
        if parts is None or parts["name"] not in found or f"{full} tokens" not in values:
            continue
        within = share_interval(values[full])
        found[parts["name"]].append(
            {
                "at": full.removeprefix(parts["name"]),  # one text for all contestants of one budget
                "tokens": statistics.fmean(values[f"{full} tokens"]),
                "mean": within.mean,
                "low": max(0.0, within.low),
                "high": min(1.0, within.high),
            }
        )
    return {name: sorted(points, key=lambda p: p["tokens"]) for name, points in found.items() if points}


def tokens_text(claim: Claim | None) -> str:
    """Return the accuracy of every way to search at every budget, and where MCTS* is not the best."""
    if claim is None:
        return "Not run here.\n"
    found = curves(claim)
    rows, lost = [], []
    for mine in found["MCTS*"]:
        at = {name: p["mean"] for name, points in found.items() for p in points if p["at"] == mine["at"]}
        best = max(at.values())
        cells = [f"**{percent(at[n])}**" if at.get(n) == best else percent(at.get(n)) for n in found]
        rows.append((f"{mine['tokens']:,.0f}", *cells))
        better = [name for name in at if at[name] > at["MCTS*"]]
        if better:
            lost.append(f"at about {mine['tokens']:,.0f} tokens: {', '.join(map(_plain, better))}")
    told = (
        "Better than MCTS\\* by the mean, " + "; ".join(lost) + "."
        if lost
        else "MCTS\\* has the highest mean at every budget here."
    )
    greedy = claim["values"].get("greedy")
    if greedy:
        tokens = statistics.fmean(claim["values"]["greedy tokens"])
        told += f" One greedy solution has {percent(statistics.fmean(greedy))} at {tokens:,.0f} tokens."
    names = ", ".join(found)
    return (
        f"![Accuracy against generated tokens per question, for {names}](../generated/tokens.svg)\n\n"
        + table(("tokens of MCTS\\*", *map(_plain, found)), rows, len(found))
        + f"\nThe highest mean of each budget is bold. {told}\n"
    )


WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 64, 560, 24, 360  # of the plotting area


def tokens_plot(claim: Claim) -> str:
    """Return an SVG of accuracy (95 % over seeds) against generated tokens per question, on a log scale."""
    found = curves(claim)
    all_points = [p for points in found.values() for p in points]
    first = math.log2(min(p["tokens"] for p in all_points)) - 0.2
    last = math.log2(max(p["tokens"] for p in all_points)) + 0.2
    top = min(1.0, math.ceil(10 * max(p["high"] for p in all_points)) / 10)

    def x(tokens: float) -> float:
        return LEFT + (RIGHT - LEFT) * (math.log2(tokens) - first) / (last - first)

    def y(share: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * share / top

    parts = [_frame(x, y, top, [2.0**n for n in range(math.ceil(first), math.floor(last) + 1)])]
    for name, points in found.items():
        colour = SEARCHERS[name]
        path = " ".join(f"{x(p['tokens']):.1f},{y(p['mean']):.1f}" for p in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for p in points:
            at = f"{x(p['tokens']):.1f}"
            parts.append(
                f'<line x1="{at}" x2="{at}" y1="{y(p["low"]):.1f}" y2="{y(p["high"]):.1f}" '
                f'stroke="{colour}" stroke-opacity="0.45"/>'
                f'<circle cx="{at}" cy="{y(p["mean"]):.1f}" r="3.5" fill="{colour}"/>'
            )
    ends = sorted((y(points[-1]["mean"]), name) for name, points in found.items())
    for place, (_, name) in zip(_apart([end for end, _ in ends]), ends, strict=True):
        parts.append(f'<text x="{RIGHT + 10}" y="{place:.1f}" fill="{SEARCHERS[name]}">{escape(name)}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'font-family="sans-serif" font-size="13">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="6" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _frame(x: Any, y: Any, top: float, ticks: list[float]) -> str:
    lines = []
    for n in range(round(top * 10) + 1):
        if n % 2 == 0 or top <= 0.5:
            at = y(n / 10)
            lines.append(f'<line x1="{LEFT}" x2="{RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="#e4e4e4"/>')
            lines.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{10 * n} %</text>')
    for tick in ticks:
        lines.append(f'<text x="{x(tick):.1f}" y="{BOTTOM + 20}" text-anchor="middle">{tick:,.0f}</text>')
    middle = (LEFT + RIGHT) / 2
    lines.append(f'<line x1="{LEFT}" x2="{RIGHT}" y1="{BOTTOM}" y2="{BOTTOM}" stroke="#555555"/>')
    lines.append(
        f'<text x="{middle}" y="{BOTTOM + 44}" text-anchor="middle">generated tokens per question</text>'
    )
    return "\n".join(lines)


def _apart(places: list[float], least: float = 16) -> list[float]:
    """Move labels down where they would overlap the one above."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place + 4, moved[-1] + least) if moved else place + 4)
    return moved


def main() -> None:
    """Write the files, and remove those that are made no longer."""
    folder = ROOT / "docs" / "generated"
    folder.mkdir(exist_ok=True)
    made = pages(ROOT)
    for old in folder.iterdir():
        if old.name not in made:
            old.unlink()
    for name, text in made.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
