"""All code that uses ComfyUI's internals."""
