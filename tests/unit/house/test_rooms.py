"""The rooms of the house: who may import whom, without circles, and what each may load."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TOPS = ("nodes", "respodiff_core", "trainer")

CORE = {"core", "core.adapter", "core.steering", "core.measuring", "core.learning"}
# What each room imports of the others; what is left out, none may. Two modules stand above the folder they lie in, and
# are rooms by themselves: the lookup knows every world, and ToyWorld's demo trains and evaluates.
MAY_IMPORT = {
    "core": set(),
    "core.adapter": {"core"},
    "core.steering": {"core", "core.adapter"},
    "core.measuring": {"core", "core.steering"},
    "core.learning": {"core", "core.adapter"},
    "nodes": {*CORE, "nodes.host", "nodes.pictures"},
    "nodes.host": {*CORE, "nodes.pictures"},
    "nodes.pictures": CORE - {"core.learning"},
    "trainer": {"trainer.commands", "trainer.support"},
    "trainer.support": {"core", "core.adapter"},
    "trainer.recipes": CORE,
    "trainer.comfyui": {*CORE, "trainer.support"},
    "trainer.base": {*CORE, "trainer.support", "trainer.recipes"},
    "trainer.worlds": {*CORE, "trainer.support", "trainer.base", "trainer.recipes"},
    "trainer.toyworld": {
        *CORE, "trainer.support", "trainer.base", "trainer.recipes", "trainer.comfyui", "trainer.worlds",
    },
    "trainer.worlds.lookup": {"trainer.worlds", "trainer.toyworld"},
    "trainer.run": {*CORE, "trainer.support", "trainer.base", "trainer.recipes", "trainer.worlds.lookup"},
    "trainer.evaluation": {
        *CORE, "trainer.support", "trainer.base", "trainer.recipes", "trainer.worlds", "trainer.worlds.lookup",
    },
    "trainer.experiments": {
        *CORE, "trainer.support", "trainer.base", "trainer.recipes", "trainer.worlds", "trainer.worlds.lookup",
        "trainer.run", "trainer.evaluation",
    },
    "trainer.sharing": {
        *CORE, "trainer.support", "trainer.base", "trainer.recipes", "trainer.comfyui", "trainer.worlds.lookup",
        "trainer.evaluation",
    },
    "trainer.toyworld.demonstration": {
        *CORE, "trainer.support", "trainer.base", "trainer.recipes", "trainer.comfyui", "trainer.worlds",
        "trainer.toyworld", "trainer.run", "trainer.evaluation",
    },
    "trainer.commands": {
        *CORE, "trainer.support", "trainer.base", "trainer.recipes", "trainer.comfyui",
        "trainer.toyworld.demonstration", "trainer.worlds.lookup",
        "trainer.run", "trainer.evaluation", "trainer.experiments", "trainer.sharing",
    },
}  # fmt: skip


TERMINAL_AND_CHARTS = {"typer", "rich", "matplotlib", "respodiff.trainer.comfyui", "respodiff.trainer.commands"}


def modules() -> Iterator[tuple[tuple[str, ...], Path]]:
    for top in TOPS:
        for path in (ROOT / top).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield parts[:-1] if parts[-1] == "__init__" else parts, path


MODULES = dict(modules())


def room_of(module: tuple[str, ...]) -> str:
    top = module[0].removeprefix("respodiff_")
    name = ".".join((top, *module[1:]))
    if name in MAY_IMPORT:
        return name
    return f"{top}.{module[1]}" if len(module) > 1 and (ROOT / module[0] / module[1]).is_dir() else top


def imports(module: tuple[str, ...], path: Path, *, when_loaded: bool = False) -> Iterator[tuple[str, ...]]:
    """The project's modules that this one imports: anywhere, or only as it is loaded itself."""
    package = module if path.name == "__init__.py" else module[:-1]
    tree = ast.parse(path.read_text("utf-8"))
    for node in tree.body if when_loaded else ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            source = (*package[: len(package) - node.level + 1], *(node.module or "").split("."))
            source = tuple(part for part in source if part)
            for alias in node.names:
                named = (*source, alias.name)
                yield named if named in MODULES else source


def test_each_room_imports_only_what_it_may():
    assert {room_of(module) for module in MODULES} == set(MAY_IMPORT)
    wrong = [
        f"{'.'.join(module)} imports {'.'.join(other)}"
        for module, path in MODULES.items()
        for other in imports(module, path)
        if room_of(other) not in {room_of(module), *MAY_IMPORT[room_of(module)]}
    ]
    assert wrong == []


def test_toyworld_is_named_only_where_names_of_models_are_and_by_the_lookup():
    """What is special about it is in its folder; elsewhere a `World` answers. Commands name it in their help."""
    named = {
        path.relative_to(ROOT).as_posix()
        for module, path in MODULES.items()
        if room_of(module) not in ("trainer.toyworld", "trainer.toyworld.demonstration", "trainer.commands")
        and "toyworld" in path.read_text("utf-8").casefold()
    }
    assert named == {
        "respodiff_core/adapter/families.py",
        "respodiff_core/learning/contrast_presets.py",
        "respodiff_core/learning/presets.py",
        "trainer/base/conventions.py",
        "trainer/base/spec.py",
        "trainer/recipes/evaluation_recipe.py",
        "trainer/worlds/lookup.py",
    }


def test_rooms_and_modules_have_no_circles():
    list(TopologicalSorter(MAY_IMPORT).static_order())
    list(
        TopologicalSorter(
            {m: set(imports(m, path, when_loaded=True)) - {m} for m, path in MODULES.items()}
        ).static_order()
    )


@pytest.mark.parametrize(
    ("module", "not_loaded"),
    [
        ("respodiff_core.learning.learner", {"respodiff.trainer", "respodiff.nodes", "diffusers"}),
        ("trainer.run.training", TERMINAL_AND_CHARTS),
        ("trainer.worlds.lookup", {"diffusers", "transformers", "datasets", "respodiff.trainer.evaluation"}),
        ("trainer.evaluation.run", TERMINAL_AND_CHARTS),
        ("trainer.commands.app", {"torch", "diffusers", "transformers", "matplotlib"}),
    ],
)
def test_a_room_loads_only_what_it_needs(module, not_loaded):
    script = f"import sys, respodiff.{module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not_loaded & set(done.stdout.split()) == set()
