"""The model card: what an adapter steers, how it was trained and evaluated, and its limits."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ...respodiff_core.adapter.adapter import Adapter
from ...respodiff_core.adapter.contrast import ContrastConcept
from ...respodiff_core.adapter.families import family_title, pixels_per_latent
from ..base.spec import BUILT_IN, HubId
from ..support.table import Table
from ..support.untrusted_text import code, markdown, number, one_line
from .hub import SharingError

if TYPE_CHECKING:
    from .card_evaluation import Evaluation

_LICENCE_ID = re.compile(r"[a-z0-9][a-z0-9.+-]*")
_MARK = "\n<!-- Written by respodiff push; sha256 of the text above: {} -->\n"
_TAGS = {"sd15": ["stable-diffusion"], "sd2": ["stable-diffusion"], "sdxl": ["stable-diffusion-xl"]}
_FACTS = {
    "base_model": "base model",
    "base_sha256": "base model's sha256",
    "ram_rate": "RAM's learning rate",
    "sam_rate": "SAM's learning rate",
    "sam_weight": "weight of SAM's loss",
}
_MOST_FACTS = 40


@dataclass(frozen=True)
class Licence:
    """A licence by its id on the Hub; `name` is its name in the file's metadata."""

    id: str
    name: str


def licence_of(adapter: Adapter, chosen: str | None) -> Licence:
    """The chosen licence (an id of the Hub), or else the file's own. Raises SharingError if there is neither."""
    name = one_line(adapter.metadata.get("modelspec.license", ""))
    if chosen is not None:
        if not _LICENCE_ID.fullmatch(chosen.lower()):
            raise SharingError(f"{chosen!r} is not a licence id: the Hub accepts mit, openrail, cc-by-4.0, other, ...")
        return Licence(chosen.lower(), name)
    if not name:
        raise SharingError(
            "The file has no licence, and without one nobody may use it: name one with --license, by its id on the Hub "
            "(mit, openrail, cc-by-4.0, other, ...), or train with --license."
        )
    return Licence(name.lower() if _LICENCE_ID.fullmatch(name.lower()) else "other", name)


@dataclass(frozen=True)
class Subject:
    """The adapter file that a card describes, and its repository."""

    adapter: Adapter
    file: str
    size: int
    sha256: str
    repo: str


def card(subject: Subject, licence: Licence, evaluations: Sequence[Evaluation] = ()) -> str:
    """The text of README.md, ending in a marker with its sha256."""
    adapter = subject.adapter
    shared, own = _training(adapter)
    text = (
        _environment()
        .get_template("card.md")
        .render(
            front_matter=_front_matter(adapter, licence),
            subject=subject,
            title=adapter.metadata.get("modelspec.title") or subject.repo.partition("/")[2],
            about={key: adapter.metadata.get(f"modelspec.{key}") for key in ("author", "date", "description")},
            family=family_title(adapter.family),
            is_toy=adapter.family in BUILT_IN,
            prediction=adapter.prediction,
            categories={concept.info.category for concept in adapter.concepts.values()},
            sites={concept.site for concept in adapter.concepts.values()},
            concepts=_concepts(adapter),
            notes=adapter.notes,
            shared=shared,
            own=own,
            evaluations=evaluations,
            licence=licence,
            version=version("respodiff"),
        )
    )
    return text + _MARK.format(_digest(text))


def is_untouched(text: str) -> bool:
    """Whether a README was written by `card` and not changed since."""
    before, _, _ = text.rpartition(_MARK.partition("{}")[0])
    return text == before + _MARK.format(_digest(before))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("respodiff.trainer.sharing", "templates"),
        finalize=markdown,  # every value in a template is escaped, unless it is Markup
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(code=code, markup=Markup)  # markup: for values that cannot contain any
    return environment


def _front_matter(adapter: Adapter, licence: Licence) -> str:
    categories = sorted({concept.info.category for concept in adapter.concepts.values()} - {"other"})
    training = [concept.info.training.get("base_model") for concept in adapter.concepts.values()]
    bases = sorted({hub_id.repo for one in training if (hub_id := HubId.match(one))})
    data = ModelCardData(
        license=licence.id,
        license_name=_slug(licence.name) or "other" if licence.id == "other" else None,
        library_name="respodiff",
        pipeline_tag="text-to-image",
        tags=["respodiff", "comfyui", "text-to-image", *_TAGS.get(adapter.family or "", []), *categories],
        base_model=bases or None,
        base_model_relation="adapter" if bases else None,
    )
    return data.to_yaml()


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")[:60]


def _concepts(adapter: Adapter) -> Table:
    head = (
        "concept", "category", "axis", "target prompt", "neutral prompt", "negative prompt", "strength",
        "strength over the guidance scale", "gate", "kind",
    )  # fmt: skip
    rows = []
    for concept in adapter.concepts.values():
        info = concept.info
        texts = (info.name, info.category, info.axis, info.target, info.neutral, info.negative)
        over = ", ".join(f"{info.strength * factor:.3g} at CFG {scale:g}" for scale, factor in info.guidance)
        gate = "yes" if isinstance(concept, ContrastConcept) and concept.gate else ""
        rows.append((*texts, number(float(info.strength)), over, gate, concept.kind))
    return Table(head, rows).without_empty_columns()


def _training(adapter: Adapter) -> tuple[Table | None, Table | None]:
    """Training settings: those shared by all concepts, one per row, and those that differ, one concept per row."""
    facts = {concept.name: _facts_of(concept.info.training) for concept in adapter.concepts.values()}
    pixels = pixels_per_latent(adapter.family)
    for concept in adapter.concepts.values():
        if concept.info.latent_height and concept.info.latent_width:
            width, height = (side * pixels for side in (concept.info.latent_width, concept.info.latent_height))
            facts[concept.name]["pixels"] = f"{width} x {height}"
    keys = list(dict.fromkeys(key for own in facts.values() for key in own))[:_MOST_FACTS]
    same = [key for key in keys if len({own.get(key) for own in facts.values()}) == 1]
    first = next(iter(facts.values()))
    shared = Table(("setting", "value"), [(_title(key), first[key]) for key in same]) if same else None
    different = [key for key in keys if key not in same]
    rows = [(name, *(own.get(key, "") for key in different)) for name, own in facts.items()]
    return shared, Table(("concept", *map(_title, different)), rows) if different else None


def _facts_of(training: Any) -> dict[str, str]:
    """Training metadata as texts; a file may contain values of any type."""
    facts = {}
    for key, value in training.items():
        text = value if isinstance(value, str) else number(value)
        facts[key] = json.dumps(value) if isinstance(value, (dict, list)) else text
    return facts


def _title(key: str) -> str:
    return _FACTS.get(key, key.replace("_", " "))
