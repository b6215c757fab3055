"""A ComfyUI below the floor: one line at load, no nodes, and the server as it was."""

from __future__ import annotations

import dataclasses
import shutil

from comfy_hosts import PACK, hosts, source_of
from respodiff.trainer.comfyui.server import PACK_NAME, ComfyServer


def test_an_older_comfyui_says_in_one_line_what_to_do(tmp_path):
    source = source_of(hosts()[-1])
    older = tmp_path / "comfyui"
    shutil.copytree(source.path, older)
    (older / "comfyui_version.py").write_text('__version__ = "0.17.9"\n')
    with ComfyServer(dataclasses.replace(source, path=older, version="0.17.9"), tmp_path / "base", PACK) as server:
        assert not [node for node in server.get_json("/object_info") if node.startswith("RespoDiff")]
        log = server.log_text().splitlines()
        pack = str(server.base_directory / "custom_nodes" / PACK_NAME)
    (line,) = (line for line in log if "ComfyUI-RespoDiff needs" in line)
    assert "needs ComfyUI 0.18 or newer; this is 0.17.9. Update ComfyUI" in line
    # A frame of a traceback would name the pack once more; what else ComfyUI cannot import here is its own matter.
    (timing,) = (line for line in log if pack in line)
    assert "seconds" in timing
    assert "IMPORT FAILED" not in timing
