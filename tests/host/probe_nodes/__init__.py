"""Test-only nodes: known conditions, a look at h before and after steering, a reference by hand, half a CLIP.

Nothing here uses the pack under test, so that it can be measured against them.
"""

from __future__ import annotations

import copy
import gc
import json
import os

import folder_paths
import torch
from comfy import model_management
from comfy.ldm.modules.diffusionmodules.openaimodel import TimestepEmbedSequential
from comfy.patcher_extension import WrappersMP
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode

from . import families, training
from .probe import CONTEXT, FreshProbe, Probe


class ProbeCondition(Probe):
    """A random condition whose first number is its own seed, by which it is known again inside the UNet."""

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "seed": ("INT", {"default": 1}),
                "family": (list(CONTEXT),),
                "tokens": ("INT", {"default": 77}),
            }
        }

    RETURN_TYPES = ("CONDITIONING",)

    def run(self, seed, family, tokens):
        generator = torch.Generator().manual_seed(seed)
        context = torch.randn(1, tokens, CONTEXT[family], generator=generator)
        context[0, 0, 0] = seed
        return ([[context, {"pooled_output": torch.randn(1, 1280, generator=generator)}]],)


class ProbeRecord(FreshProbe):
    """Put after Steer: saves h, and what the first cross-attention layer adds, before and after all of Steer's work,
    with whose condition each row had.
    """

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "name": ("STRING", {"default": "record"})}}

    def run(self, model, name):
        calls = []

        def at_h(position):
            def patch(h, hsp, transformer_options):
                if transformer_options["block"] == ("output", 0):
                    calls[-1][position] = h.detach().float().cpu().clone()
                return h, hsp

            return patch

        def at_layer(position):
            def patch(added, extra_options):
                calls[-1].setdefault(f"layer_{position}", added.detach().float().cpu().clone())
                return added

            return patch

        def diffusion_model(executor, x, timesteps, context, y, control, transformer_options, **kwargs):
            condition = context[:, 0, 0].float().cpu()
            sigma = transformer_options["sigmas"].float().cpu().clone()
            calls.append({"condition": condition, "sigma": sigma, "timestep": timesteps.float().cpu()})
            return executor(x, timesteps, context, y, control, transformer_options, **kwargs)

        def calc_cond_batch(executor, model, conds, x_in, *args):
            predictions = executor(model, conds, x_in, *args)
            calls[-1]["latent"] = x_in.float().cpu().clone()
            calls[-1].update({f"prediction{i}": p.float().cpu().clone() for i, p in enumerate(predictions)})
            return predictions

        def outer_sample(executor, *args, **kwargs):
            calls.clear()
            result = executor(*args, **kwargs)
            tensors = {f"{i:04d}.{k}": v.contiguous() for i, call in enumerate(calls) for k, v in call.items()}
            save_file(tensors, os.path.join(folder_paths.get_output_directory(), name + ".safetensors"))
            return result

        recorded = model.clone()
        patches = recorded.model_options["transformer_options"].setdefault("patches", {})
        patches["output_block_patch"] = [at_h("before"), *patches.get("output_block_patch", []), at_h("after")]
        layers = patches.get("attn2_output_patch", [])
        patches["attn2_output_patch"] = [at_layer("before"), *layers, at_layer("after")]
        recorded.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "probe", diffusion_model)
        recorded.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "probe", calc_cond_batch)
        recorded.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "probe", outer_sample)
        return (recorded,)


class ProbeReference(Probe):
    """Steering by hand: one more layer at the end of the middle block adds a tensor to the positive rows."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "tensor_file": ("STRING", {"default": ""})}}

    def run(self, model, tensor_file):
        vector = load_file(os.path.join(folder_paths.get_input_directory(), tensor_file))["vector"]
        rows = []

        class Add(torch.nn.Module):
            def forward(self, h):
                chunks = [
                    c + vector.to(c) if index == 0 else c for index, c in zip(rows, h.chunk(len(rows)), strict=True)
                ]
                return torch.cat(chunks)

        def diffusion_model(executor, x, timesteps, context, y, control, transformer_options, **kwargs):
            rows[:] = transformer_options["cond_or_uncond"]
            return executor(x, timesteps, context, y, control, transformer_options, **kwargs)

        patched = model.clone()
        middle = model.get_model_object("diffusion_model.middle_block")
        patched.add_object_patch("diffusion_model.middle_block", TimestepEmbedSequential(*middle, Add()))
        patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "reference", diffusion_model)
        return (patched,)


class ProbeMiddlePatch(Probe):
    """Another pack's patch of the middle block's output: scales h."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",)}}

    def run(self, model):
        def patch(h, hsp, transformer_options):
            if transformer_options["block"] == ("output", 0):
                h = h * 1.5
            return h, hsp

        patched = model.clone()
        patched.set_model_output_block_patch(patch)
        return (patched,)


class ProbeOperations(FreshProbe):
    """Put after Steer: lists what its patches ask of the device at h in each UNet call, and at each cross-attention
    layer.
    """

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",)}}

    def run(self, model):
        calls, layers = [], []

        class Count(TorchDispatchMode):
            def __init__(self, found):
                super().__init__()
                found.append([])
                self.found = found[-1]

            def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
                self.found.append(str(operation))
                return operation(*args, **(kwargs or {}))

        def counted(patch):
            def at_h(h, hsp, transformer_options):
                if transformer_options["block"] != ("output", 0):
                    return patch(h, hsp, transformer_options)
                with Count(calls):
                    return patch(h, hsp, transformer_options)

            return at_h

        def counted_in_layers(patch):
            """Of a class of its own, since in a run a copy of the patch takes its place."""

            def at_layer(self, x, extra_options):
                with Count(layers):
                    return type(patch).__call__(self, x, extra_options)

            counted = copy.copy(patch)
            counted.__class__ = type("Counted", (type(patch),), {"__call__": at_layer})
            return counted

        def outer_sample(executor, *args, **kwargs):
            calls.clear()
            layers.clear()
            result = executor(*args, **kwargs)
            with open(os.path.join(folder_paths.get_output_directory(), "operations.json"), "w") as file:
                json.dump({"h": calls, "layers": layers}, file)
            return result

        counting = model.clone()
        patches = counting.model_options["transformer_options"]["patches"]
        patches["output_block_patch"] = [counted(patch) for patch in patches["output_block_patch"]]
        patches["attn2_output_patch"] = [counted_in_layers(patch) for patch in patches.get("attn2_output_patch", [])]
        counting.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "operations", outer_sample)
        return (counting,)


class ProbeSteps(Probe):
    """Writes a byte into output/<name>.steps at each call of the UNet, so that a test sees how far sampling is.

    The call `wait_at` (from 1) opens the pipe output/<name>.there, and waits until the test, which has made it, opens
    output/<name>.go, so that it can act in the middle.
    """

    @classmethod
    def INPUT_TYPES(cls):
        required = {"model": ("MODEL",), "name": ("STRING", {"default": "steps"})}
        return {"required": required, "optional": {"wait_at": ("INT", {"default": 0})}}

    def run(self, model, name, wait_at=0):
        path = os.path.join(folder_paths.get_output_directory(), name)

        def diffusion_model(executor, *args, **kwargs):
            with open(path + ".steps", "ab") as file:
                file.write(b".")
                call = file.tell()
            if call == wait_at:
                open(path + ".there", "wb").close()
                open(path + ".go", "rb").close()
            return executor(*args, **kwargs)

        counted = model.clone()
        counted.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "steps", diffusion_model)
        return (counted,)


class ProbeUnload(FreshProbe):
    """Unloads every model in the middle of a graph, as memory pressure does."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",)}, "optional": {"after": ("LATENT",)}}

    def run(self, model, after=None):
        model_management.unload_all_models()
        return (model,)


class ProbeAlive(FreshProbe):
    """How many objects of a class are alive after a garbage collection."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"class_name": ("STRING", {"default": ""})}, "optional": {"after": ("LATENT",)}}

    RETURN_TYPES = ()
    OUTPUT_NODE = True

    def run(self, class_name, after=None):
        gc.collect()
        return {"ui": {"text": [str(sum(type(o).__name__ == class_name for o in gc.get_objects()))]}}


class ProbeDescribe(FreshProbe):
    """Says what a MODEL object carries, so that a test sees whether it was left as it was."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",)}}

    RETURN_TYPES = ()
    OUTPUT_NODE = True

    def run(self, model):
        options = model.model_options["transformer_options"]
        patches = {name: [type(p).__name__ for p in listed] for name, listed in options.get("patches", {}).items()}
        wrappers = {kind: sorted(map(str, keys)) for kind, keys in options.get("wrappers", {}).items()}
        return {"ui": {"text": [json.dumps({"id": id(model), "patches": patches, "wrappers": wrappers})]}}


class ProbeClipVision(Probe):
    """The vision half of a CLIP of any width: the colours of 4 x 4 places, mapped at random."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"width": ("INT", {"default": 768}), "model_type": ("STRING", {"default": ""})}}

    RETURN_TYPES = ("CLIP_VISION",)

    def run(self, width, model_type):
        class Vision:
            def encode_image(self, image):
                colours = torch.nn.functional.adaptive_avg_pool2d(image.movedim(-1, 1), 4).flatten(1) - 0.5
                return {"image_embeds": colours @ torch.randn(48, width, generator=torch.Generator().manual_seed(0))}

        vision = Vision()
        vision.model_type = model_type
        return (vision,)


class ProbePooled(FreshProbe):
    """Saves the pooled text embedding that ComfyUI itself makes."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"conditioning": ("CONDITIONING",), "name": ("STRING", {"default": "pooled"})}}

    RETURN_TYPES = ()
    OUTPUT_NODE = True

    def run(self, conditioning, name):
        path = os.path.join(folder_paths.get_output_directory(), name + ".safetensors")
        save_file({"pooled": conditioning[0][1]["pooled_output"].float().contiguous()}, path)
        return {}


class ProbeBrokenImage(Probe):
    """The second picture of a batch as a VAE in fp16 may give it: all NaN."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"images": ("IMAGE",)}}

    RETURN_TYPES = ("IMAGE",)

    def run(self, images):
        images = images.clone()
        images[1] = float("nan")
        return (images,)


NODE_CLASS_MAPPINGS = {
    cls.__name__: cls
    for cls in (
        ProbeCondition,
        ProbeRecord,
        ProbeReference,
        ProbeMiddlePatch,
        ProbeOperations,
        ProbeSteps,
        ProbeUnload,
        ProbeAlive,
        ProbeDescribe,
        ProbeClipVision,
        ProbePooled,
        ProbeBrokenImage,
        *families.NODES,
        *training.NODES,
    )
}
