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

# A proxy meant for the internet must not see calls to this machine.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ComfyClient:
    """Talks to the ComfyUI that listens on `port` of this machine."""

    def __init__(self, port: int) -> None:
        self.port = port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get_json(self, path: str) -> Any:
        """GET `path`; raises urllib.error.HTTPError for a status of 400 or more."""
        return self._call(urllib.request.Request(self.url + path))

    def post_json(self, path: str, obj: Any) -> Any:
        """POST `obj` as JSON; the answer, or None where it is empty. Raises urllib.error.HTTPError."""
        headers = {"Content-Type": "application/json"}
        return self._call(urllib.request.Request(self.url + path, json.dumps(obj).encode(), headers))

    def queue(self, graph: Mapping[str, Any]) -> str:
        """Queue a graph in API form and return its prompt id. Raises PromptRejected."""
        try:
            answer = self.post_json("/prompt", {"prompt": graph})
        except urllib.error.HTTPError as error:
            if error.code != 400:
                raise
            raise PromptRejected(json.load(error)) from None
        if answer["node_errors"]:  # ComfyUI runs the outputs that are valid and drops the others
            log.warning("ComfyUI runs only a part of the graph: %s", answer["node_errors"])
        return str(answer["prompt_id"])

    def wait(self, prompt_id: str, timeout: float = 600) -> Result:
        """Wait until a queued graph has ended, well or badly. Raises TimeoutError after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        pause = 0.02
        while True:
            if entry := self.get_json(f"/history/{prompt_id}").get(prompt_id):
                return Result.from_history(prompt_id, entry)
            if time.monotonic() > deadline:
                raise TimeoutError(f"graph {prompt_id} did not end within {timeout:.0f} s")
            time.sleep(pause)
            pause = min(pause * 1.3, 0.2)

    def run(self, graph: Mapping[str, Any], timeout: float = 600, check: bool = True) -> Result:
        """Queue and wait. Raises PromptRejected and TimeoutError and, with `check`, NodeFailed."""
        result = self.wait(self.queue(graph), timeout)
        if check and result.error is not None:
            raise NodeFailed(result.error)
        return result

    def interrupt(self) -> None:
        """Stop the graph that runs now."""
        self.post_json("/interrupt", {})

    def free_memory(self, results: bool = True) -> None:
        """Unload models and, with `results`, forget cached ones: done before the next graph runs.

        ComfyUI notes the two wishes one after the other, and may take the next graph before it follows the second.
        After a graph it always follows what it has noted, so a small one is run here.
        """
        self.post_json("/free", {"unload_models": True, "free_memory": results})
        self.run({"1": {"class_type": "PreviewAny", "inputs": {"source": "memory is freed after this"}}})

    def _call(self, request: urllib.request.Request) -> Any:
        with _opener.open(request, timeout=REQUEST_TIMEOUT) as response:
            body = response.read()
        return json.loads(body) if body else None
