"""Real ComfyUI servers with the pack linked in, small checkpoints, and a bench to run graphs on them.

`comfy_hosts` says which ComfyUI; RESPODIFF_HOSTS=none leaves these tests out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from comfy_bench import Bench
from comfy_hosts import hosts, make_server, models_folder, source_of
from respodiff.trainer.comfyui.source import ComfySource

PROBES = Path(__file__).parent / "probe_nodes"
FAMILIES = ("sd15", "sdxl")

collect_ignore_glob = [] if hosts() else ["*"]


@pytest.fixture(scope="session", params=hosts())
def host(request: pytest.FixtureRequest) -> ComfySource:
    return source_of(request.param)


@pytest.fixture(scope="session")
def models() -> Path:
    """A models folder with small checkpoints, the same for all hosts, kept between runs."""
    return models_folder(source_of(hosts()[0]))


@pytest.fixture(scope="session")
def bench(host: ComfySource, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    server = make_server(host, tmp_path_factory.mktemp(f"comfyui-{host.version}"), models)
    server.link_node_pack(PROBES, "probe_nodes")
    with server:
        yield Bench(server)


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param
