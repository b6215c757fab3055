"""What the test-only nodes have in common."""

CONTEXT = {"sd15": 768, "sd2": 1024, "sdxl": 2048}


class Probe:
    """What ComfyUI asks of every node; most of these give a MODEL on."""

    RETURN_TYPES = ("MODEL",)
    FUNCTION = "run"
    CATEGORY = "test"


class FreshProbe(Probe):
    """Runs in every graph, also where nothing changed."""

    @classmethod
    def IS_CHANGED(cls, **_):
        return float("nan")
