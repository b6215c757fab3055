"""The Comfy Registry's archive, without the command line and all else that is left out, is a whole node pack."""

from __future__ import annotations

import shutil
from urllib.request import urlopen

from comfy_hosts import PACK
from node_texts import read
from registry_archive import archived_files
from respodiff.trainer.comfyui.server import ComfyServer


def test_the_archive_alone_brings_nodes_texts_help_and_templates(host, tmp_path):
    pack = tmp_path / "archive"
    for path in archived_files():
        (pack / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PACK / path, pack / path)
    server = ComfyServer(host, tmp_path / "base")
    server.link_node_pack(pack, "respodiff")  # the Registry's name for it is that of the folder
    with server:
        assert {node for node in server.get_json("/object_info") if node.startswith("RespoDiff")} == set(read("en"))
        assert set(read("ja")) <= set(server.get_json("/i18n")["ja"]["nodeDefs"])
        workflows = server.get_json("/workflow_templates")["respodiff"]
        assert set(workflows) == {path.stem for path in (PACK / "workflows").glob("*.json")}
        for node in read("en"):
            with urlopen(f"{server.url}/extensions/respodiff/docs/{node}/en.md") as page:
                assert page.read().startswith(b"# ")
