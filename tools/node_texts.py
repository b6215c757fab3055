"""Write the texts of the nodes in the format of ComfyUI's translations (locales/<language>/nodeDefs.json).

Run it after a change of a node's text: PYTHONPATH=tests python tools/node_texts.py writes the English file. The other
languages are translated by hand, and a test checks that no text is missing.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from comfy_hosts import NEWEST, PACK, make_server, source_of

LOCALES = PACK / "locales"
LANGUAGES = ("en", "ja", "zh")


def texts_of(object_info: dict[str, Any]) -> dict[str, Any]:
    """Names and tooltips of all RespoDiff nodes, from /object_info."""
    return {name: _node(info) for name, info in sorted(object_info.items()) if name.startswith("RespoDiff")}


def read(language: str) -> dict[str, Any]:
    return json.loads((LOCALES / language / "nodeDefs.json").read_text("utf-8"))


def _node(info: dict[str, Any]) -> dict[str, Any]:
    inputs = info["input"].get("required", {}) | info["input"].get("optional", {})
    outputs = zip(info["output_name"], info["output_tooltips"] or [], strict=True)
    return {
        "display_name": info["display_name"],
        "description": info["description"],
        "inputs": {
            name: {"name": options.get("display_name", name)}
            | ({"tooltip": options["tooltip"]} if "tooltip" in options else {})
            for name, (_, options) in inputs.items()
        },
        "outputs": {str(place): {"name": name, "tooltip": text} for place, (name, text) in enumerate(outputs)},
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, make_server(source_of(NEWEST), Path(folder)) as server:
        texts = texts_of(server.get_json("/object_info"))
    path = LOCALES / "en" / "nodeDefs.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(texts, indent=2, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
