"""Create the shipped workflows in ComfyUI's page and save them.

Run from the repository's root after a change of the nodes' inputs: PYTHONPATH=tests python tools/make_workflows.py
With part of a name as argument, only that workflow is created. make_thumbnails creates the thumbnails.
"""

from __future__ import annotations

import json
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

from comfy_frontend import newest_frontend
from comfy_hosts import NEWEST, PACK, make_server, source_of
from comfy_page import ComfyPage, adapters_of, browser, open_page, prepare
from respodiff.trainer.toyworld.host import TOYWORLD_PACK, TOYWORLD_PACK_NAME
from shipped_workflows import DOWNLOADS, WORKFLOWS
from shipped_workflows.on_toyworld import WITHOUT_CHECKPOINT
from workflow_drawing import WINDOW, draw, node_heights
from workflow_models import put_adapters, put_models

FOLDER = PACK / "workflows"


def save(page: ComfyPage, path: Path, app: dict[str, Any] | None = None) -> None:
    workflow = page.save()
    if app is not None:
        workflow["extra"] |= {"linearData": app, "linearMode": True}
    for node in workflow["nodes"]:
        if wanted := DOWNLOADS.keys() & {value for value in node.get("widgets_values", ()) if isinstance(value, str)}:
            models = [dict(zip(("name", "directory", "url"), (name, *DOWNLOADS[name]), strict=True)) for name in wanted]
            node["properties"]["models"] = models
    workflow["id"] = str(uuid.uuid5(uuid.NAMESPACE_URL, path.stem))  # otherwise random at each save
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(workflow, indent=2) + "\n", "utf-8")


def main() -> None:
    words = " ".join(sys.argv[1:]).lower()
    wanted = [workflow for workflow in (*WORKFLOWS, WITHOUT_CHECKPOINT) if words in workflow.name.lower()]
    with tempfile.TemporaryDirectory() as tmp:
        own, newest = (make_server(source_of(NEWEST), Path(tmp, name)) for name in ("own", "newest"))
        newest.extra_args += ("--front-end-root", str(newest_frontend()))
        for server in (own, newest):
            server.link_node_pack(TOYWORLD_PACK, TOYWORLD_PACK_NAME)
            put_models(server)
            put_adapters(adapters_of(server))
            prepare(server, **{"Comfy.Graph.CanvasMenu": False})
        with own, newest, browser() as chrome:
            # Created on the canvas, with space for Nodes 2.0 of both pages, where nodes are higher.
            heights: dict[str, dict[str, float]] = {workflow.name: {} for workflow in wanted}
            for server in (own, newest):
                with open_page(chrome, server, WINDOW, nodes_2=True) as page:
                    for workflow in wanted:
                        highest = heights[workflow.name]
                        for key, height in node_heights(page, workflow).items():
                            highest[key] = max(height, highest.get(key, 0))
            with open_page(chrome, own, WINDOW) as page:
                for workflow in wanted:
                    print(workflow.name)
                    page.clear()
                    ids = draw(page, workflow, heights[workflow.name])
                    page.fit()
                    folder = TOYWORLD_PACK / "workflows" if workflow is WITHOUT_CHECKPOINT else FOLDER
                    app = workflow.app.linear_data(ids) if workflow.app else None
                    save(page, folder / f"{workflow.name}.json", app)


if __name__ == "__main__":
    main()
