"""All that touches ComfyUI's insides."""
