"""Drive a real, headless ComfyUI: where one comes from (`source`), a server process and its HTTP interface
(`server`, `results`) and small random checkpoints that its own loaders accept (`small_models`).
"""
