"""The results of a graph: outputs and errors, from ComfyUI's /prompt and /history responses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class NodeError:
    """The node that stopped a run, and its exception."""

    node_id: str
    node_type: str
    exception_type: str
    message: str


@dataclass(frozen=True)
class Result:
    """A finished run. `outputs` are by node id; older hosts omit cached nodes. `cached` are node ids.

    `seconds` is the server's time from start to end, without waiting in the queue.
    """

    prompt_id: str
    outputs: dict[str, dict[str, Any]]
    status: Literal["success", "error", "interrupted"]
    error: NodeError | None
    cached: frozenset[str]
    seconds: float

    @classmethod
    def from_history(cls, prompt_id: str, entry: dict[str, Any]) -> Result:
        """From one entry of GET /history/ID."""
        messages: dict[str, dict[str, Any]] = dict(entry["status"]["messages"])
        stamps = [m["timestamp"] for m in messages.values()]  # milliseconds
        error: NodeError | None = None
        status: Literal["success", "error", "interrupted"] = "success"
        if m := messages.get("execution_error"):
            status = "error"
            error = NodeError(m["node_id"], m["node_type"], m["exception_type"], m["exception_message"].strip())
        elif m := messages.get("execution_interrupted"):
            status = "interrupted"
            error = NodeError(m["node_id"], m["node_type"], "InterruptProcessingException", "interrupted")
        return cls(
            prompt_id=prompt_id,
            outputs=entry["outputs"],
            status=status,
            error=error,
            cached=frozenset(messages.get("execution_cached", {}).get("nodes", ())),
            seconds=(max(stamps) - min(stamps)) / 1000,
        )


class PromptRejected(RuntimeError):
    """ComfyUI rejected a graph. `node_errors` are its errors by node id, `message` is its summary."""

    def __init__(self, answer: dict[str, Any]) -> None:
        error = answer.get("error") or {}
        self.node_errors: dict[str, dict[str, Any]] = answer.get("node_errors") or {}
        self.message: str = error.get("message", "no reason given")
        details = [
            f"{node_id} {node.get('class_type', '')}: {e['message']} ({e['details']})"
            for node_id, node in self.node_errors.items()
            for e in node.get("errors", ())
        ]
        super().__init__("; ".join([self.message, *details]))


class NodeFailed(RuntimeError):
    """A node raised, or the run was interrupted; see `error`."""

    def __init__(self, error: NodeError) -> None:
        self.error = error
        super().__init__(f"node {error.node_id} {error.node_type}: {error.exception_type}: {error.message}")
