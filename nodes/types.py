"""Connection types of the pack."""

from __future__ import annotations

from comfy_api.latest import io

AdapterType = io.Custom("RESPODIFF_ADAPTER")
CATEGORY = "RespoDiff"
