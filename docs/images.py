"""The images of the documentation, all of the demo model and its scenes.

    python docs/images.py readme      # docs/demo.png and docs/methods.jpg, which are kept in the repository
    python docs/images.py gallery     # docs/gallery/, which is not: `make docs` makes it

The gallery has two files for each row of METHODS: the image, and what its row and which-method.md say of the method.
docs/gallery.md includes both.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from onnxplain.demo import ARTIFACT
from onnxplain.demo.samples import samples
from onnxplain.runtime import METHODS, Explainer, Explanation, Method, comparison_sheet
from onnxplain.runtime.figures.figure import fitted, resized

DOCS = Path(__file__).parent
GALLERY = DOCS / "gallery"
TABLE = DOCS / "which-method.md"
SCENES = [samples()[number].path for number in (0, 1, 3)]
"""The three images of the gallery."""
CLASSES = [-1, -2]
"""Of each the class that the model finds most probable, and the next one: where a class matters, the maps differ."""
GAP, PAPER, INK, FAINT = 12, "#ffffff", "#1f2328", "#6a737d"


def drawn(result: Explanation, side: int) -> Image.Image:
    """The map over the image, enlarged to that side before it is drawn, so that the map's edges stay smooth."""
    return resized(result, fitted(result.image.size, side, side)).overlay()


def enlarged(image: Image.Image, side: int) -> Image.Image:
    """The image, whose longer side becomes that."""
    scale = side / max(image.size)
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)


def strip(panels: Sequence[tuple[Image.Image, str, str]], size: int) -> Image.Image:
    """Panels side by side, under each its name and, fainter, what is to be said of it, in letters of that size."""
    font, side = ImageFont.load_default(size=size), panels[0][0].height
    line = Image.new("RGB", (sum(panel.width + GAP for panel, *_ in panels) - GAP, side + round(size * 1.8)), PAPER)
    draw, left = ImageDraw.Draw(line), 0
    for panel, name, rest in panels:
        line.paste(panel, (left, 0))
        draw.text((left, side + size * 1.4), name, INK, font, anchor="ls")
        draw.text((left + font.getlength(f"{name}  "), side + size * 1.4), rest, FAINT, font, anchor="ls")
        left += panel.width + GAP
    return line


def write_readme(explainer: Explainer) -> None:
    """One scene, and the map of each of its digits; every method's map of two digits."""
    scene = samples()[3]
    results = explainer.explain(scene.path, target=list(scene.labels))
    panels = [(enlarged(results[0].image, 288), "image", "")]
    panels += [(drawn(result, 288), result.label, f"{result.probability:.1%}") for result in results]
    strip(panels, 20).save(DOCS / "demo.png", optimize=True)
    sheet = comparison_sheet(explainer.explain_all(scene.path, target=list(scene.labels[:2])))
    enlarged(sheet, 1721).save(DOCS / "methods.jpg", quality=85)


def write_gallery(explainer: Explainer) -> None:
    """Each method's maps of the same images and classes, and its facts."""
    GALLERY.mkdir(exist_ok=True)
    explained = [explainer.explain_all(path, target=CLASSES) for path in SCENES]
    first = [results[next(iter(results))][0] for results in explained]
    panels = [(enlarged(result.image, 150), f"image {number}", "") for number, result in enumerate(first, 1)]
    strip(panels, 15).save(GALLERY / "images.webp", quality=85)
    (GALLERY / "images.md").write_text("![The three images](gallery/images.webp)\n")
    costs = measured_costs()
    for method in METHODS.values():
        results = [result for of_scene in explained for result in of_scene[method.name]]
        panels = [(drawn(result, 150), result.label, f"{result.probability:.1%}") for result in results]
        strip(panels, 15).save(GALLERY / f"{method.name}.webp", quality=85)
        (GALLERY / f"{method.name}.md").write_text(facts(method, costs.get(method.name)))


def measured_costs() -> dict[str, str]:
    """What a map of the demo model costs by each method, from the table of which-method.md."""
    return dict(re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", TABLE.read_text().partition("## Measured")[2], re.MULTILINE))


def facts(method: Method, cost: str | None) -> str:
    """The method's image and its row of the table, in Markdown; a cost of None has not been measured."""
    values = "each pixel" if method.pixel_level else "each patch"
    rows = {
        "What it is": method.summary,
        "Map": f"a value for {values}; " + ("of one class" if method.per_target else "the same for every class"),
        "Cost": "not measured" if cost is None else f"{cost} runs for logits only, of the demo model",
        "Passes": ", ".join(f"`{name}`" for name in method.passes) or "none",
        "Parameters": "; ".join(f"`{each.name}` = {each.default}: {each.summary}" for each in method.parameters)
        or "none",
        "In a plain artifact": "yes" if method.in_graph else "no",
        "Source": method.reference,
    }
    if method.extra is not None:
        rows["Needs"] = f"`pip install 'onnxplain[{method.extra[1]}]'`, for {method.extra[0]}"
    lines = [f"| {name} | {text} |" for name, text in rows.items()]
    image = f"![{method.name}, two classes of each of three images](gallery/{method.name}.webp)"
    return "\n".join([image, "", "| | |", "|---|---|", *lines, ""])


def main() -> None:
    """Write what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["readme", "gallery"])
    given = parser.parse_args()
    write = {"readme": write_readme, "gallery": write_gallery}[given.what]
    write(Explainer(ARTIFACT, "cpu"))


if __name__ == "__main__":
    main()
