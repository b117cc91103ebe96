"""A matplotlib figure as SVG that a strict content security policy shows: no style attributes, no style element."""

import io
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"
NO_TITLES: Mapping[str, str] = {}
DROPPED = ("metadata", "style")  # elements; what matplotlib's style says of lines is in the page's own


def inline_svg(figure: "Figure", name: str, description: str, titles: Mapping[str, str] = NO_TITLES) -> str:
    """Return a figure as an SVG element.

    Args:
        figure: the figure.
        name: from which its identifiers are made; another for every figure of a page.
        description: for those who cannot see it.
        titles: texts that a browser shows at the elements of these identifiers (matplotlib's `gid`).
    """
    import matplotlib as mpl

    stream = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    root = ElementTree.fromstring(stream.getvalue())  # matplotlib wrote it
    _make_plain(root)
    _add_titles(root, titles)
    _make_unique(root, name)
    root.set("role", "img")
    root.set("aria-label", description)
    for size in ("width", "height"):  # the page's style scales it by its viewBox
        root.attrib.pop(size, None)
    return ElementTree.tostring(root, encoding="unicode")


def _make_plain(root: ElementTree.Element) -> None:
    """Turn style attributes into attributes of their own, which SVG has for all that matplotlib styles."""
    for parent in root.iter():
        for child in list(parent):
            if child.tag.rpartition("}")[2] in DROPPED:
                parent.remove(child)
    for element in root.iter():
        style = element.attrib.pop("style", "")
        for declaration in filter(None, map(str.strip, style.split(";"))):
            key, _, value = declaration.partition(":")
            if key.strip() == "font":
                _set_font(element, value.strip())
            else:
                element.set(key.strip(), value.strip())


def _set_font(element: ElementTree.Element, font: str) -> None:
    """Set the size of `font: 10px 'DejaVu Sans', …`; the family is the page's."""
    size = re.search(r"([\d.]+)px", font)
    if size:
        element.set("font-size", size[1])


def _add_titles(root: ElementTree.Element, titles: Mapping[str, str]) -> None:
    for element in root.iter():
        if element.get("id") in titles:
            title = ElementTree.Element(f"{{{SVG}}}title")
            title.text = titles[element.attrib["id"]]
            element.insert(0, title)


def _make_unique(root: ElementTree.Element, name: str) -> None:
    """Put a name before the identifiers, which matplotlib numbers alike in every figure, and before their uses."""
    for element in root.iter():
        for key, value in element.attrib.items():
            if key == "id":
                element.set(key, f"{name}-{value}")
            elif key in ("href", f"{{{XLINK}}}href") and value.startswith("#"):
                element.set(key, f"#{name}-{value[1:]}")
            elif value.startswith("url(#"):
                element.set(key, f"url(#{name}-{value[5:]}")
