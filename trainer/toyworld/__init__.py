"""ToyWorld: the small base model that comes with the trainer, and the images it was trained on.

They show figures with a profession (their outfit), a head shape (two groups) and a hue (three groups), both abstract,
in a place, some next to a hazard mark. Professions are biased towards a shape and a hue, and some places towards the
mark, as images on the web are. So the model is biased, in a known way.
"""

from ..base.spec import BUILT_IN

TOYWORLD = "toyworld"
"""Its name in recipes and adapters."""
TOYWORLD_FOLDER = BUILT_IN[TOYWORLD]
