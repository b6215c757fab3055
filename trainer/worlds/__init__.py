"""Worlds, the kinds of images that base models generate: image specs by protocol, axes and metrics. There are two:
photographs (Stable Diffusion), and the images of the built-in base model.
"""
