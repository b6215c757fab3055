"""What base models show: image specs by protocol, axes to tell apart, and which metrics apply. There are two worlds:
photographs (whatever Stable Diffusion draws) and the built-in base model's own.
"""
