"""The report's page: one file of HTML that loads nothing from anywhere."""

import base64
import hashlib
import io
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from string import Template

from PIL import Image

from onnxplain.contract.errors import OnnxplainError
from onnxplain.evaluation.metrics.metric import Metric
from onnxplain.evaluation.results import ImageResult, Results
from onnxplain.evaluation.statistics import RESAMPLES, Statistics

from .page_tables import metrics_table, score_tables, text, text_table, untold_tables
from .plots import Plot

PARTS = files("onnxplain.evaluation.report")
SUBSETS = {"all": "all images", "right": "rightly classified"}
OWN = ("model", "digest", "data", "target", "seed", "methods", "metrics", "baselines", "versions", "labels")
"""What `_run` and other parts of the page show of `Results.run`; it shows what else there is as it is."""
SHEETS = 3  # images at either end
WIDEST = 1800  # pixels of a sheet
FEW = 30  # images from which on percentiles of a bootstrap are about as wide as they should be


def page(
    results: Results,
    metrics: Mapping[str, Metric],
    found: Statistics,
    plots: Sequence[Plot],
    sheet: Callable[[str], Image.Image] | None,
) -> str:
    """Make the page.

    Args:
        results: What was measured.
        metrics: The metrics by name.
        found: The statistics.
        plots: The plots.
        sheet: From an image's name to its comparison sheet; None for a page without.
    """
    style, script = ((PARTS / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return Template((PARTS / "page.html").read_text(encoding="utf-8")).substitute(
        title=f"Which map to believe: {text(results.run['model'])}",
        subtitle=f"{len(found.methods)} methods on {len(results.images)} images: {text(results.run['data'])}",
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        run=_run(results, found),
        switch=_switch(found),
        scores=score_tables(found, metrics, results.costs),
        resamples=RESAMPLES,
        few=" With so few images, intervals are too narrow." if len(results.images) < FEW else "",
        untold=untold_tables(found, metrics),
        metrics=metrics_table(found, metrics, results.run["baselines"]),
        plots=_plots(plots),
        images=_images(results, len(found.methods), sheet),
        errors=_errors(results.errors),
        version=text(results.run["versions"].get("onnxplain", "")),
    )


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _run(results: Results, found: Statistics) -> str:
    """What was run, as a list of names and values."""
    run, images = results.run, results.images
    seconds, runs = sum(image.seconds for image in images), sum(image.runs for image in images)
    counts = [str(len(images))]
    if "right" in found.images:
        counts.append(f"{found.images['right']} of them rightly classified")
    if results.errors:
        counts.append(f"{len(results.errors)} more could not be evaluated")
    cases = len({(image.name, item.target) for image in images for item in image.measured})
    given = {name: arguments for name, arguments in run["methods"].items() if arguments}
    arguments = (f"{name} ({', '.join(f'{key}={value}' for key, value in of.items())})" for name, of in given.items())
    classes = {"true": "the true ones", "predicted": "the predicted one"}
    rows = {
        "model": run["model"],
        "digest": run["digest"],
        "data": run["data"],
        "images": ", ".join(counts),
        "classes": f"{classes.get(run['target'], run['target'])}; {cases} pairs of an image and a class",
        "arguments": "; ".join(arguments) or "the defaults",
        "seed": run["seed"],
        "time": f"{_duration(seconds)} of computing, with {runs} runs for logits only",
        "versions": ", ".join(f"{name} {version}" for name, version in run["versions"].items()),
        **{name: value for name, value in run.items() if name not in OWN},
    }
    return f"<dl>{''.join(f'<dt>{text(name)}</dt><dd>{text(value)}</dd>' for name, value in rows.items())}</dl>"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _switch(found: Statistics) -> str:
    """What chooses the subset, if there are two, and shows the maps of another class, if there are any."""
    choices = "".join(
        f'<label><input type="radio" name="subset" id="subset-{subset}"{" checked" if subset == "all" else ""}>'
        f"<span>{SUBSETS[subset]} ({count})</span></label>"
        for subset, count in found.images.items()
    )
    others = '<label class="check"><input type="checkbox" id="others">rows for maps of another class</label>'
    return f'<fieldset class="segments" aria-label="images">{choices}</fieldset>{others}'


def _plots(plots: Sequence[Plot]) -> str:
    """The curves, and the values against the costs; bars are in the table."""
    titles = {
        "curve": ("Curves", "Means over all images."),
        "cost": (
            "Cost and faithfulness",
            "On all images: values with 95 % intervals against the cost of a map. Lines across are yardsticks.",
        ),
    }
    sections = []
    for kind, (title, about) in titles.items():
        chosen = [plot for plot in plots if plot.kind == kind]
        if chosen:
            drawings = "".join(f"<figure>{_inline(plot.svg)}</figure>" for plot in chosen)
            sections.append(f'<section><h2>{title}</h2><p>{about}</p><div class="plots">{drawings}</div></section>')
    return "\n".join(sections)


def _inline(svg: str) -> str:
    """The drawing without a size of its own, which is that of its place on the page."""
    return re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)


def _images(results: Results, methods: int, sheet: Callable[[str], Image.Image] | None) -> str:
    """The images on which the methods' maps are most and least alike, with their comparison sheets."""
    known = sorted(
        ((image.agreement, image) for image in results.images if image.agreement is not None),
        key=lambda item: -item[0],
    )
    if not known:
        return ""
    most = known[: min(SHEETS, (len(known) + 1) // 2)]
    least = known[max(len(most), len(known) - SHEETS) :][::-1]
    parts = []
    for title, chosen in (("They agree most", most), ("They agree least", least)):
        figures = "".join(_sheet(image, value, methods, results.run["labels"], sheet) for value, image in chosen)
        parts.append(f"<h3>{title}</h3>{figures}" if figures else "")
    about = "By the mean of the correlations of the maps of all pairs of methods."
    return f"<section><h2>Where methods agree</h2><p>{about}</p>{''.join(parts)}</section>"


def _sheet(
    image: ImageResult,
    agreement: float,
    methods: int,
    labels: Sequence[str],
    sheet: Callable[[str], Image.Image] | None,
) -> str:
    name = text(image.name)
    judged = {None: "", True: ", rightly", False: ", wrongly"}[image.right]
    label = labels[image.predicted] if image.predicted < len(labels) else f"class {image.predicted}"
    caption = f"{name}: correlation {agreement:.2f}; classified as {text(label)}{judged}"
    drawing = ""
    if sheet is not None:
        try:
            address = _address(sheet(image.name))
            drawing = (
                f'<div class="sheet"><img src="{address}" alt="{name} and the heatmaps of {methods} methods"></div>'
            )
        except OnnxplainError as error:
            caption += f"; there is no sheet: {text(error)}"
    return f"<figure>{drawing}<figcaption>{caption}</figcaption></figure>"


def _address(drawing: Image.Image) -> str:
    """An image as an address that holds all of it."""
    drawing = drawing.convert("RGB")
    drawing.thumbnail((WIDEST, WIDEST * 10))
    file = io.BytesIO()
    drawing.save(file, "WEBP", quality=80)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def _errors(errors: Mapping[str, str]) -> str:
    if not errors:
        return ""
    rows = [[text(name), text(why)] for name, why in errors.items()]
    return (
        f"<section><h2>What could not be evaluated</h2><details{' open' if len(rows) <= 20 else ''}>"
        f"<summary>{len(rows)} {'image' if len(rows) == 1 else 'images'}</summary>"
        f'<div class="scroll">{text_table(["image", "why"], rows)}</div></details></section>'
    )
