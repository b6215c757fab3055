"""Generate docs/nodes.md from the schemas of the nodes and from the limits on their help pages.

Run it after a change of a node or a help page: PYTHONPATH=tests python tools/node_reference.py. Tests compare the page
with both.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from comfy_hosts import NEWEST, PACK, make_server, source_of

PAGE = PACK / "docs" / "nodes.md"
_HELP = PACK / "web" / "docs"
_LIMITS = ("What it refuses", "What it cannot promise")
_HEAD = """# Node reference

All nodes and their inputs and outputs. `tools/node_reference.py` generates this page from the nodes and their help
pages. For a first start see the [tour](tour.md). Defaults are in bold. *Advanced* inputs are hidden in Nodes 2.0 until
you expand them; *optional* inputs need not be connected. All nodes are in the category RespoDiff.
"""
_KINDS = {"FLOAT": "number", "INT": "whole number", "BOOLEAN": "on or off", "STRING": "text"}
_LARGEST = 2**32  # a larger maximum is not shown


def reference(object_info: dict[str, Any]) -> str:
    """The page for the nodes in /object_info, in the order of the pack."""
    nodes = {name: info for name, info in object_info.items() if name.startswith("RespoDiff")}
    listed = "\n".join(f"- [{info['display_name']}](#{anchor(info['display_name'])})" for info in nodes.values())
    return "\n".join([_HEAD, listed, *(_node(name, info) for name, info in nodes.items()), ""])


def anchor(heading: str) -> str:
    """GitHub's anchor of a heading of letters, digits and spaces."""
    return heading.lower().replace(" ", "-")


def limits(node: str) -> list[str]:
    """The sections on limits from the node's help page, each as a paragraph or list."""
    sections = {
        title: body.strip()
        for title, _, body in (
            part.partition("\n") for part in (_HELP / node / "en.md").read_text("utf-8").split("\n## ")[1:]
        )
    }
    return [sections[title] for title in _LIMITS]


def _node(name: str, info: dict[str, Any]) -> str:
    sections = [f"\n## {info['display_name']}\n", f"{info['description']} [Help page](../web/docs/{name}/en.md).\n"]
    sections += ["| input | type and default | description |", "|---|---|---|"]
    for section in ("required", "optional"):
        for input_, (kind, options) in info["input"].get(section, {}).items():
            marked = {"optional": section == "optional", "advanced": options.get("advanced")}
            takes = ", ".join([_takes(kind, options), *(f"*{mark}*" for mark, on in marked.items() if on)])
            sections.append(f"| **{input_}** | {takes} | {options['tooltip']} |")
    if info["output"]:
        sections += ["", "| output | type | description |", "|---|---|---|"]
        outputs = zip(info["output_name"], info["output"], info["output_is_list"], info["output_tooltips"], strict=True)
        for output, kind, is_list, tooltip in outputs:
            gives = f"{_kind(kind)}, a list" if is_list else _kind(kind)
            sections.append(f"| **{output}** | {gives} | {tooltip} |")
    notes = (f"\n**{title}**\n\n{body}" for title, body in zip(_LIMITS, limits(name), strict=True))
    return "\n".join([*sections, *notes])


def _takes(kind: str, options: dict[str, Any]) -> str:
    if kind == "COMFY_AUTOGROW_V3":
        template = options["template"]
        ((inner, _),) = template["input"]["required"].values()
        return f"{template['min']} to {template['max']} {_kind(inner)}"
    if kind == "COMFY_DYNAMICCOMBO_V3":
        return "one of your files, with a slider for each of its concepts"
    default = options.get("default")
    if kind == "COMBO":
        if default is None or default.startswith("("):  # the options depend on the files of the user
            return f"depends on your files (**{default.strip('()')}**)" if default else "depends on your files"
        return ", ".join(f"**{option}**" if option == default else option for option in options["options"])
    if kind in ("FLOAT", "INT"):
        most = options["max"]
        bounds = f"from {options['min']:g}" + (f" to {most:g}" if most < _LARGEST - 1 else "")
        return f"{_kind(kind)} {bounds} (**{default:g}**)"
    if kind == "BOOLEAN":
        return f"on or off (**{'on' if default else 'off'}**)"
    if options.get("forceInput"):
        return "text, connected"
    if default:
        shown = "; ".join(f"`{line}`" for line in default.splitlines())
        return f"{_kind(kind)} (**{shown}**)"
    return _kind(kind)


def _kind(kind: str) -> str:
    return _KINDS.get(kind, kind.removeprefix("RESPODIFF_"))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, make_server(source_of(NEWEST), Path(folder)) as server:
        PAGE.write_text(reference(server.get_json("/object_info")), "utf-8")


if __name__ == "__main__":
    main()
