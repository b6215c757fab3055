"""The ComfyUI nodes: schemas and thin glue code. The computation is in respodiff_core."""

from __future__ import annotations

import logging

from comfy_api.latest import ComfyExtension, io

logger = logging.getLogger("respodiff")

COMFYUI_FLOOR = (0, 18)


def extension() -> ComfyExtension:
    """The pack's extension. On a ComfyUI older than COMFYUI_FLOOR it has no nodes, and the log says why."""
    version = _comfyui_version()
    if version and version < COMFYUI_FLOOR:
        floor, found = (".".join(map(str, v)) for v in (COMFYUI_FLOOR, version))
        logger.error(
            "ComfyUI-RespoDiff needs ComfyUI %s or newer; this is %s. Update ComfyUI. No nodes were loaded.",
            floor,
            found,
        )
        return _Empty()
    return RespoDiffExtension()


class _Empty(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return []


class RespoDiffExtension(ComfyExtension):
    """Registers models/respodiff and lists the nodes."""

    async def on_load(self) -> None:
        from .host import adapter_folder as folder

        folder.register()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        from .bias_meter import BiasMeter
        from .combine_adapters import CombineAdapters
        from .concept_mixer import ConceptMixer
        from .cross_groups import CrossGroups
        from .fair_batch import FairBatch
        from .fair_group import FairGroupNode
        from .fair_prompts import FairPrompts
        from .grid import Grid
        from .inspect_adapter import InspectAdapter
        from .instant_concept import InstantConcept
        from .load_adapter import LoadAdapter
        from .prompt_guard import PromptGuard
        from .safety import Safety
        from .save_adapter import SaveAdapter
        from .save_images import SaveImages
        from .steer import Steer
        from .strength_sweep import StrengthSweep
        from .train_concept import TrainConcept

        return [
            LoadAdapter,
            InstantConcept,
            TrainConcept,
            Steer,
            ConceptMixer,
            Safety,
            FairGroupNode,
            CrossGroups,
            FairBatch,
            FairPrompts,
            PromptGuard,
            StrengthSweep,
            Grid,
            BiasMeter,
            SaveImages,
            CombineAdapters,
            SaveAdapter,
            InspectAdapter,
        ]


def _comfyui_version() -> tuple[int, ...]:
    """ComfyUI's version as numbers; empty if it does not report one (a development checkout)."""
    try:
        from comfyui_version import __version__
    except ImportError:
        return ()
    numbers = []
    for part in __version__.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)
