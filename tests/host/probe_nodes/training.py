"""Test-only nodes about training: a small CLIP, the UNet's two halves beside the whole, weights and counts."""

import hashlib
import json
import sys

import torch
from comfy import model_management

from .probe import CONTEXT, FreshProbe, Probe


class ProbeClip(Probe):
    """Encodes each text at random, always in the same way, in few tokens: the small UNets read little of a prompt."""

    TOKENS = 8

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"family": (list(CONTEXT),)}}

    RETURN_TYPES = ("CLIP",)

    def run(self, family):
        class Clip:
            def tokenize(self, text):
                return text

            def encode_from_tokens_scheduled(self, text):
                seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
                generator = torch.Generator().manual_seed(seed)
                context = torch.randn(1, ProbeClip.TOKENS, CONTEXT[family], generator=generator)
                return [[context, {"pooled_output": torch.randn(1, 1280, generator=generator)}]]

        return (Clip(),)


class ProbeHalves(FreshProbe):
    """By how much the pack's split UNet, whole and then with gradients, differs from the model's own prediction."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "clip": ("CLIP",)}}

    RETURN_TYPES = ()
    OUTPUT_NODE = True

    def run(self, model, clip):
        pack = next(module for name, module in sys.modules.items() if name.endswith("nodes.host.denoiser"))
        denoiser = pack.HostDenoiser(model, (17, 13))
        condition = denoiser.encode_prompts(clip, ["one", "two", "three"])
        z = torch.randn(3, 4, 17, 13, generator=torch.Generator().manual_seed(1))
        found = {}
        with denoiser.loaded_to_train(3, "off"):
            for t in (1, 500, 999):
                times = torch.full((3,), t)
                whole = denoiser.predict(z, times, condition)
                found[t] = relative(denoiser.decode(*denoiser.encode(z, times, condition), condition), whole)
            with torch.inference_mode(False), denoiser.differentiable():
                h, carry = denoiser.encode(z, times, condition)
                rows = torch.tensor([2, 0])
                some, less = denoiser.take(carry, rows), condition.rows(rows)
                gradients = []
                for checkpointing in (False, True):
                    denoiser._checkpointing = checkpointing
                    start = h[rows].detach().requires_grad_()
                    noise = denoiser.decode(start, some, less)
                    noise.square().sum().backward()
                    gradients.append(start.grad)
                found["rows"] = relative(noise.detach(), whole[rows])
                found["checkpointing"] = relative(*gradients)
                found["gradient"] = relative(*self.slopes(denoiser, h[rows], some, less, gradients[0]))
        return {"ui": {"text": [json.dumps(found)]}}

    @staticmethod
    @torch.no_grad()
    def slopes(denoiser, h, carry, condition, gradient):
        """The slope of the squared noise along the gradient: by finite differences, and by the gradient."""
        along = gradient / gradient.norm() * h.norm()
        sums = [denoiser.decode(h + shift * along, carry, condition).double().square().sum() for shift in (1e-2, -1e-2)]
        return (sums[0] - sums[1]) / 2e-2, (gradient.double() * along).sum()


def relative(a, b):
    return float((a - b).norm() / b.norm())


class ProbeWeights(FreshProbe):
    """A hash of a model's own weights, and what it is in memory."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",)}, "optional": {"after": ("*",)}}

    RETURN_TYPES = ()
    OUTPUT_NODE = True

    def run(self, model, after=None):
        model_management.unload_all_models()  # LoRAs are taken out of the weights
        digest = hashlib.sha256()
        for name, tensor in sorted(model.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
        options = model.model_options["transformer_options"]
        patches = {name: [type(p).__name__ for p in listed] for name, listed in options.get("patches", {}).items()}
        found = {"hash": digest.hexdigest(), "patches": patches, "inference": inference(model.model)}
        return {"ui": {"text": [json.dumps(found)]}}


def inference(module):
    return sorted({parameter.is_inference() for parameter in module.parameters()})


class ProbeCount(FreshProbe):
    """Counts rows of the UNet's passes from now on: encoder, decoder, backward."""

    COUNTED = (0, 0, 0)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",)}}

    def run(self, model):
        counted = [0, 0, 0]
        unet = model.model.diffusion_model

        def encoded(_module, _inputs, output):
            counted[0] += len(output)

        def decoded(_module, _inputs, output):
            counted[1] += len(output)
            if output.requires_grad:
                output.register_hook(lambda gradient: counted.__setitem__(2, counted[2] + len(gradient)))

        unet.input_blocks[0][0].register_forward_hook(encoded)
        unet.out[2].register_forward_hook(decoded)
        ProbeCount.COUNTED = counted
        return (model,)


class ProbeCounted(FreshProbe):
    """What ProbeCount has counted."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"after": ("*",)}}

    RETURN_TYPES = ()
    OUTPUT_NODE = True

    def run(self, after):
        return {"ui": {"text": [json.dumps(list(ProbeCount.COUNTED))]}}


class ProbeNaN(Probe):
    """A model whose UNet gives NaN from its sixth call on."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "calls": ("INT", {"default": 6})}}

    def run(self, model, calls):
        called = []

        def patch(h, hsp, transformer_options):
            if transformer_options["block"] == ("output", 0):
                called.append(1)
                h = h * float("nan") if len(called) > calls else h
            return h, hsp

        patched = model.clone()
        patched.set_model_output_block_patch(patch)
        return (patched,)


NODES = (ProbeClip, ProbeHalves, ProbeWeights, ProbeCount, ProbeCounted, ProbeNaN)
