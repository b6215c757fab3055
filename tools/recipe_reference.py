"""Generate docs/recipe.toml from the settings: every setting of a training with its default and description.

Run it after a change of a setting: python tools/recipe_reference.py
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import tomli_w
from pydantic.fields import FieldInfo
from respodiff.trainer.recipes.strict import fields_of
from respodiff.trainer.recipes.training_recipe import SECTIONS, Recipe

FILE = Path(__file__).parents[1] / "docs" / "recipe.toml"
_OWN = {"name": "elderly", "target": "an old person"}  # the example concept; its other settings follow from these
_EXAMPLES = {"hidden": 320, "width": 512, "height": 512, "vae": '"vae.safetensors"'}  # of settings without a default
_CONCEPTS_STEPS = "# Training steps of the concepts that do not set them.\n# steps = 1200\n\n"
_HEAD = """# Every setting of a training, with its default. Only base, output and one concept are needed:
#
#   respodiff train recipe.toml              # flags override: --steps 400 --batch 2
#   respodiff train recipe.toml --dry-run    # shows all values, the cost and the memory

# Base model: a .safetensors checkpoint, a diffusers folder, a Hub id, or "toyworld".
base = "models/v1-5-pruned-emaonly.safetensors"

# Adapter file to write. Both are relative to the folder of this file.
output = "people.safetensors"

# Concepts are trained one after another into one file. A preset, or a group of presets ("gender"):
[[concepts]]
preset = "gender/woman"

# A concept of your own:
[[concepts]]
"""


def reference() -> str:
    """The text of the file."""
    recipe = Recipe.of({"base": "toyworld", "output": "a.safetensors", "concepts": [_OWN]})
    values = recipe.model_dump(mode="json")
    parts = [_HEAD + _table("concepts", values["concepts"][0])]
    for section in list(SECTIONS)[1:]:
        about = _comment(" ".join((SECTIONS[section].__doc__ or "").split()))
        own = _CONCEPTS_STEPS if section == "training" else ""
        parts.append(f"{about}\n[{section}]\n{own}{_table(section, values[section])}")
    return "\n\n".join(parts) + "\n"


def _table(section: str, values: Mapping[str, Any]) -> str:
    return "\n\n".join(_setting(name, field, values[name]) for name, field in fields_of(SECTIONS[section]).items())


def _setting(name: str, field: FieldInfo, value: Any) -> str:
    description = field.description or ""
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    if not all(choice in description for choice in choices):
        description += f" One of {', '.join(choices)}."
    line = f"# {name} = {_EXAMPLES[name]}" if value is None else tomli_w.dumps({name: value})
    line = re.sub(r",?\s*(?=])|(?<=\[)\s+", "", line)  # a list on one line, without spaces inside the brackets
    line = re.sub(r",\s+", ", ", line).strip()
    return f"{_comment(description)}\n{line}"


def _comment(text: str) -> str:
    return "\n".join(textwrap.wrap(text, 100, initial_indent="# ", subsequent_indent="# "))


def main() -> None:
    FILE.write_text(reference(), "utf-8")
    print(f"Wrote {FILE.relative_to(FILE.parents[1])}")


if __name__ == "__main__":
    main()
