"""The core of RespoDiff: adapter files, and the steering that they add to a UNet's h-space.

It uses torch, safetensors and numpy, but neither ComfyUI nor diffusers, so that the nodes and the trainer share one
definition of the file format and of strength. The method is that of arXiv 2509.15257 ("the paper").
"""
