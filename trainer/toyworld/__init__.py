"""ToyWorld: the small base model that comes with the trainer, and the world of pictures it was trained on.

Figures with a profession (their outfit), a head shape (a group of two) and a hue (a group of three), both
abstract, in a place, some beside a hazard mark. Professions are biased towards a shape and a hue, and some
places towards the mark, as pictures on the web are; so the model is biased, and how it was biased is known.
"""

from ..base.spec import BUILT_IN

TOYWORLD = "toyworld"
"""What recipes and adapters call it."""
TOYWORLD_FOLDER = BUILT_IN[TOYWORLD]
