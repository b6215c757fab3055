"""Create the subgraph blueprint that ComfyUI's node library offers: Instant Concept, Fair Group and Fair Batch as one.

Run from the repository's root after a change of these nodes' inputs: PYTHONPATH=tests python tools/make_blueprint.py
"""

from __future__ import annotations

import json
import tempfile
import uuid
from pathlib import Path

from comfy_hosts import NEWEST, PACK, make_server, source_of
from comfy_page import browser, open_page, prepare
from shipped_workflows import INSTANT_FAIRNESS
from workflow_drawing import WINDOW, draw
from workflow_models import put_models

NAME = "Instant fairness (RespoDiff)"
FILE = PACK / "subgraphs" / f"{NAME}.json"
INSIDE = ("instant", "group", "fair")
SHOWN = (("instant", "groups"), ("instant", "neutral"), ("instant", "axis"), ("group", "strength"))


def main() -> None:
    with tempfile.TemporaryDirectory() as tmp:
        server = make_server(source_of(NEWEST), Path(tmp))
        put_models(server)
        prepare(server)
        with server, browser() as chrome, open_page(chrome, server, WINDOW) as page:
            ids = draw(page, INSTANT_FAIRNESS)
            page.js(
                """(ids, title) => {
                    const nodes = new Set(ids.map((id) => app.graph.getNodeById(id)))
                    const { node } = app.graph.convertToSubgraph(nodes)
                    node.title = node.subgraph.name = title
                }""",
                [ids[key] for key in INSIDE],
                NAME,
            )
            workflow = page.save()
    (inner,) = workflow["definitions"]["subgraphs"]
    (outer,) = (one for one in workflow["nodes"] if one["type"] == inner["id"])
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps(blueprint(outer, inner), indent=2) + "\n", "utf-8")


def blueprint(outer: dict, inner: dict) -> dict:
    """A workflow of nothing but the subgraph's node, with the inputs that its users change."""
    inside = {one["type"]: str(one["id"]) for one in inner["nodes"]}
    types = {"instant": "RespoDiffInstantConcept", "group": "RespoDiffFairGroup", "fair": "RespoDiffFairBatch"}
    inner["id"] = outer["type"] = str(uuid.uuid5(uuid.NAMESPACE_URL, NAME))  # otherwise random each time
    for slot in outer["inputs"]:
        slot["link"] = None
    for slot in outer["outputs"]:
        slot["links"] = []
    outer |= {"pos": [0, 0], "order": 0}
    outer["properties"]["proxyWidgets"] = [[inside[types[key]], name] for key, name in SHOWN]
    return {
        "revision": 0,
        "last_node_id": outer["id"],
        "last_link_id": 0,
        "nodes": [outer],
        "links": [],
        "version": 0.4,
        "definitions": {"subgraphs": [inner]},
        "extra": {},
    }


if __name__ == "__main__":
    main()
