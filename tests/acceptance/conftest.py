"""What the project promises, on models trained here and in a real ComfyUI; RESPODIFF_HOSTS=none leaves these out."""

from __future__ import annotations

from comfy_hosts import hosts

collect_ignore_glob = [] if hosts() else ["*"]
