"""Matplotlib's figures as SVG for papers and for the page: text as text, the same bytes each time, no style sheets.

Looks are written as attributes, since a page whose content security policy forbids all other styles shows those, and
its own style sheet can replace their colours where it is dark.
"""

import io
import re
from xml.etree import ElementTree

from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
FONTS = "'DejaVu Sans', Helvetica, Arial, sans-serif"  # the first is the one that the figure was laid out with
LINES = {"stroke-linejoin": "round", "stroke-linecap": "butt"}  # of matplotlib's own style sheet


def as_svg(figure: Figure, title: str) -> str:
    """The figure as an SVG document.

    Args:
        figure: The figure.
        title: What it shows, for those who do not see it.
    """
    file = io.BytesIO()
    FigureCanvasSVG(figure).print_figure(file, format="svg", facecolor="none", metadata={"Date": None, "Creator": None})
    for prefix, space in (("", SVG), ("xlink", XLINK)):
        ElementTree.register_namespace(prefix, space)
    root = ElementTree.fromstring(file.getvalue())
    text = file.getvalue().decode()
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style"):
                parent.remove(child)
    for element in root.iter():
        _as_attributes(element)
        if f"#{element.get('id', '')}" not in text:
            element.attrib.pop("id", None)
        if "d" in element.attrib:
            element.set("d", " ".join(element.attrib["d"].split()))
    root.attrib |= {"role": "img", "aria-label": title, "font-family": FONTS, **LINES}
    ElementTree.indent(root, " ")
    return ElementTree.tostring(root, "unicode") + "\n"


def _as_attributes(element: ElementTree.Element) -> None:
    """Write the element's style as attributes; its font family is that of the document."""
    for declaration in element.attrib.pop("style", "").split(";"):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if name == "font":  # before matplotlib 3.10
            size = re.search(r"[\d.]+px", value)
            element.set("font-size", size[0] if size else "10px")
        elif name and name != "font-family":
            element.set(name, value)
