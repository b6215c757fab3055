"""A graph in ComfyUI's API form, written as calls."""

from __future__ import annotations

from typing import Any

Link = list[Any]


class Graph(dict[str, dict[str, Any]]):
    """`graph.add("KSampler", model=link, seed=1)` adds a node and returns a link to its first output."""

    def add(self, class_type: str, **inputs: Any) -> Link:
        node_id = str(len(self) + 1)
        self[node_id] = {"class_type": class_type, "inputs": inputs}
        return [node_id, 0]

    def id_of(self, class_type: str) -> str:
        """The id of the only node of that type."""
        (node_id,) = (i for i, node in self.items() if node["class_type"] == class_type)
        return node_id


def output(link: Link, index: int) -> Link:
    """Another output of the node a link points to."""
    return [link[0], index]
