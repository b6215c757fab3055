"""A text on a node in the page, while and after it runs."""

from __future__ import annotations

from server import PromptServer


def show(node: str | None, text: str) -> None:
    """Show the text on the node with this id; nothing happens without an id."""
    if node is not None:
        PromptServer.instance.send_progress_text(text, node)
