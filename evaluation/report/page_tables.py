"""The tables of the report's page, as HTML."""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from onnxplain.evaluation.metrics.metric import Metric
from onnxplain.evaluation.results import OTHER_CLASS
from onnxplain.evaluation.statistics import Score, Statistics, Subset, Verdict

from .numbers import ARROWS, NONE, SIGNS, cost_text, formatter, half_width

YARDSTICK_NAMES = {
    "random": "a random map",
    "constant": "a constant map",
    "gaussian": "a centred Gaussian",
    OTHER_CLASS: "its own map for another class",
}
MARKS: dict[Verdict, tuple[str, str, str]] = {
    "cannot be told": (SIGNS["cannot be told"], "mark", "cannot be told from"),
    "worse": (SIGNS["worse"], "mark worse", "worse than"),
}


def text(value: object) -> str:
    """A value from data, labels or files, made safe to stand in HTML; halves of letters as escapes."""
    return escape(str(value).encode("utf-8", "backslashreplace").decode())


def breakable(name: str) -> str:
    """A name that may be broken behind its underscores."""
    return text(name).replace("_", "_<wbr>").replace(":", ":<wbr>")


def score_tables(found: Statistics, metrics: Mapping[str, Metric], costs: Mapping[str, float]) -> str:
    """For each subset a table with methods and yardsticks as rows, metrics as columns."""
    return "\n".join(
        f'<div class="scroll" data-subset="{subset}">{_score_table(found, subset, metrics, costs)}</div>'
        for subset in found.images
    )


def _score_table(found: Statistics, subset: Subset, metrics: Mapping[str, Metric], costs: Mapping[str, float]) -> str:
    columns = {name: _column(found, subset, metrics[name]) for name in found.metrics}
    heads = "".join(_head(metrics[name]) for name in columns)
    bodies = []
    for names in (found.methods, found.yardsticks):
        rows = []
        for name in names:
            kind = ' class="other"' if name.startswith(OTHER_CLASS) else ""
            cells = "".join(column[name] for column in columns.values())
            first = f'<th scope="row" data-value="{text(name)}">{breakable(name)}</th>'
            rows.append(f"<tr{kind}>{first}{_cost(costs.get(name))}{cells}</tr>")
        bodies.append(f"<tbody>{''.join(rows)}</tbody>" if rows else "")
    return (
        '<table class="scores"><thead><tr><th scope="col" data-first="ascending">method</th>'
        f'<th scope="col" data-first="ascending">cost</th>{heads}</tr></thead>\n' + "\n".join(bodies) + "</table>"
    )


def _head(metric: Metric) -> str:
    first = "ascending" if metric.better == "lower" else "descending"
    arrow = ARROWS[metric.better]
    which = f"{metric.better} is better" if arrow else "neither way is better"
    return (
        f'<th scope="col" data-first="{first}" title="{text(metric.summary)}; {which}">{breakable(metric.name)}'
        f"{f'&nbsp;{arrow}' if arrow else ''}</th>"
    )


def _cost(cost: float | None) -> str:
    return f'<td class="cost" data-value="{"" if cost is None else f"{cost:g}"}">{cost_text(cost)}</td>'


def _column(found: Statistics, subset: Subset, metric: Metric) -> dict[str, str]:
    """The cells of a metric, by method and yardstick."""
    scores = {name: found.scores.get((subset, metric.name, name)) for name in (*found.methods, *found.yardsticks)}
    known = [score for score in scores.values() if score and math.isfinite(score.value)]
    write = formatter(known)
    ends = [end for score in known for end in (score.low, score.high, score.value) if math.isfinite(end)]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    cells = {}
    for name, score in scores.items():
        if score is None or not math.isfinite(score.value):
            cells[name] = f'<td data-value="">{NONE}</td>'
            continue
        top = name in found.methods and found.is_top(subset, metric.name, name)
        value = write(score.value)
        half = f" <small>±{write(half_width(score))}</small>" if math.isfinite(score.low) else ""
        marks = "".join(
            f' <abbr class="{style}" title="{about} {", ".join(YARDSTICK_NAMES[key] for key in keys)}">'
            f"{sign}{''.join(key[0] for key in keys)}</abbr>"
            for verdict, (sign, style, about) in MARKS.items()
            if (keys := [key for key, told in found.verdicts(subset, metric.name, name).items() if told == verdict])
        )
        shown = f"<b>{value}</b>{half}<b>*</b>" if top else f"{value}{half}"
        bar = _bar(score, scores.get(OTHER_CLASS + name), low, high)
        cells[name] = f'<td data-value="{score.value:.9g}">{shown}{marks}{bar}</td>'
    return cells


def _bar(score: Score, own: Score | None, low: float, high: float) -> str:
    """A bar from 0 to the value with its interval, on the scale of its column, and a line at the method's own other."""
    if high == low:
        return ""

    def place(value: float) -> str:
        return f"{100 * (value - low) / (high - low):.1f}"

    left, right = sorted((float(place(0)), float(place(score.value))))
    interval = f'<path d="M{place(score.low)} 4H{place(score.high)}"/>' if math.isfinite(score.low) else ""
    line = f'<path class="own" d="M{place(own.value)} 0V8"/>' if own and math.isfinite(own.value) else ""
    return (
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect x="{left:.1f}" width="{right - left:.1f}" y="0" height="8"/>{interval}{line}</svg>'
    )


def untold_tables(found: Statistics, metrics: Mapping[str, Metric]) -> str:
    """For each subset a table with metrics as rows, yardsticks as columns, and in it the methods not better than it."""
    names = [name for name in found.metrics if metrics[name].better != "neither"]
    return "\n".join(
        f'<div class="scroll" data-subset="{subset}">{_untold(found, subset, names)}</div>' for subset in found.images
    )


def _untold(found: Statistics, subset: Subset, names: Sequence[str]) -> str:
    rows = []
    for metric in names:
        verdicts = {method: found.verdicts(subset, metric, method) for method in found.methods}
        cells = []
        for key in YARDSTICK_NAMES:
            told = {method: of_method[key] for method, of_method in verdicts.items() if key in of_method}
            parts = [
                f'<p><b class="{style}">{sign} {about}:</b> {text(", ".join(those))}</p>'
                for verdict, (sign, style, about) in MARKS.items()
                if (those := [method for method, given in told.items() if given == verdict])
            ]
            everything = f'<span class="told">all {len(told)} are better</span>' if told else NONE
            cells.append("".join(parts) or everything)
        rows.append([breakable(metric), *cells])
    return text_table(["metric", *(text(name) for name in YARDSTICK_NAMES.values())], rows)


def metrics_table(found: Statistics, metrics: Mapping[str, Metric], baselines: Mapping[str, str]) -> str:
    """What each metric is."""
    rows = []
    for name in found.metrics:
        metric = metrics[name]
        better = f"{metric.better} {ARROWS[metric.better]}".strip()
        cells = (better, metric.summary, baselines.get(name) or "", metric.reference)
        rows.append([breakable(name), *map(text, cells)])
    heads = ["metric", "better", "what it measures", "removed pixels become", "reference"]
    return f'<div class="scroll">{text_table(heads, rows)}</div>'


def text_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of text, from HTML; each cell knows its head, as narrow windows show cells below each other."""
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    body = "\n".join(
        f'<tr><th scope="row">{first}</th>'
        + "".join(f'<td data-head="{name}">{cell}</td>' for name, cell in zip(heads[1:], rest, strict=True))
        + "</tr>"
        for first, *rest in rows
    )
    return f'<table class="text"><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>'
