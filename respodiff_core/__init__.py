"""RespoDiff without a host: adapter files and what they add to a UNet's h-space.

Pure torch, safetensors and numpy. Neither ComfyUI nor diffusers is imported here, so the nodes and the
trainer share one meaning of a file and of a strength.
"""
