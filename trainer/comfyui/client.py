"""The part of ComfyUI's HTTP interface that tests and benchmarks need: queue a graph, wait for its result."""

from __future__ import annotations

import json
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from .outputs import NodeFailed, PromptRejected, Result

log = logging.getLogger(__name__)

REQUEST_TIMEOUT = 60.0  # seconds; ComfyUI answers from its own thread while a graph runs

# Requests to this machine must not go through a proxy.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ComfyClient:
    """Client of a ComfyUI server that listens on `port` of this machine."""

    def __init__(self, port: int) -> None:
        self.port = port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get_json(self, path: str) -> Any:
        """GET `path`; raises urllib.error.HTTPError for a status of 400 or more."""
        return self._call(urllib.request.Request(self.url + path))

    def post_json(self, path: str, obj: Any) -> Any:
        """POST `obj` as JSON and return the response, or None if it is empty. Raises urllib.error.HTTPError."""
        headers = {"Content-Type": "application/json"}
        return self._call(urllib.request.Request(self.url + path, json.dumps(obj).encode(), headers))

    def queue(self, graph: Mapping[str, Any]) -> str:
        """Queue a graph in API format and return its prompt id. Raises PromptRejected."""
        try:
            answer = self.post_json("/prompt", {"prompt": graph})
        except urllib.error.HTTPError as error:
            if error.code != 400:
                raise
            raise PromptRejected(json.load(error)) from None
        if answer["node_errors"]:  # ComfyUI runs the valid outputs and drops the others
            log.warning("ComfyUI runs only part of the graph: %s", answer["node_errors"])
        return str(answer["prompt_id"])

    def wait(self, prompt_id: str, timeout: float = 600) -> Result:
        """Wait until a queued graph has succeeded or failed. Raises TimeoutError after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        pause = 0.02
        while True:
            if entry := self.get_json(f"/history/{prompt_id}").get(prompt_id):
                return Result.from_history(prompt_id, entry)
            if time.monotonic() > deadline:
                raise TimeoutError(f"graph {prompt_id} did not finish within {timeout:.0f} s")
            time.sleep(pause)
            pause = min(pause * 1.3, 0.2)

    def run(self, graph: Mapping[str, Any], timeout: float = 600, check: bool = True) -> Result:
        """Queue a graph and wait. Raises PromptRejected, TimeoutError and, with `check`, NodeFailed."""
        result = self.wait(self.queue(graph), timeout)
        if check and result.error is not None:
            raise NodeFailed(result.error)
        return result

    def interrupt(self) -> None:
        """Interrupt the running graph."""
        self.post_json("/interrupt", {})

    def free_memory(self, results: bool = True) -> None:
        """Unload models and, with `results`, drop cached results, before the next graph runs.

        ComfyUI sets two flags one after the other, and may start the next graph in between. It always acts on them
        after a graph, so a small one is run here.
        """
        self.post_json("/free", {"unload_models": True, "free_memory": results})
        self.run({"1": {"class_type": "PreviewAny", "inputs": {"source": "memory is freed after this"}}})

    def _call(self, request: urllib.request.Request) -> Any:
        with _opener.open(request, timeout=REQUEST_TIMEOUT) as response:
            body = response.read()
        return json.loads(body) if body else None
