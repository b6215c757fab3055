"""The adapter file: a safetensors file with one or more concepts (docs/adapter-file.md).

Tensors are named `<concept>.ram[.<parameter>]` and `<concept>.sam[.<parameter>]`, or for contrast concepts
`<concept>.<site>.<map>.<parameter>`. The metadata (all strings) contains format, family, prediction and the list of
concepts, and ModelSpec keys for model managers. `peek` reads only the header, `read` only the bytes of the requested
concepts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import save as to_safetensors

from ..atomic import replacing
from ..errors import AdapterFileError, UnknownConceptError
from ..names import MIDDLE, Operation, Site, check_name
from ..plain_text import listed, quoted
from .concept import ROLES, Concept, ConceptInfo, ModuleConcept, joint_kind
from .contrast import CONTRAST, ContrastConcept, check_placement, check_shapes, is_layer_tensor, sites_of
from .families import FAMILIES, family_title
from .tensor_file import DTYPES, HEADER_LIMIT, TensorFile, TensorFileError, parse_json
from .transforms import Transform, channels_of, is_finite, kind_of

FORMAT = "1"
_PICKLES = (".pth", ".pt", ".ckpt", ".bin", ".pkl")
_LABEL_LENGTH = 64
MOST_CONCEPTS = 1000
"""Maximum number of concepts in one file; reading a file with a hundred times as many would take a minute."""
_NO_METADATA = (
    "The file has no RespoDiff metadata: its concepts were read from tensor names and shapes, and only the "
    "channel count can be checked against a model."
)


@dataclass(frozen=True)
class ConceptHeader:
    """The description of a concept in the header of the file."""

    info: ConceptInfo
    kind: str
    sites: Mapping[str, int]
    operation: Operation = "add"
    sigmas: tuple[float, ...] = ()


@dataclass(frozen=True)
class AdapterHeader:
    """The result of `peek`. `notes` are sentences about what was missing in the file and assumed instead."""

    family: str | None
    prediction: str | None
    concepts: Mapping[str, ConceptHeader]
    metadata: Mapping[str, str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Adapter:
    """Concepts of one model family, their tensors in fp32 on the CPU.

    `prediction` is the prediction type of the base model ("epsilon" or "v"); `metadata` contains the other entries of
    the file, including those of ModelSpec; `source` is the file name for messages. `muted` are the concepts of axes
    that the current prompt already specifies (see prompt_guard): they are kept but must not be used to steer. `path` is
    the file it was read from, if any.
    """

    family: str | None
    concepts: Mapping[str, Concept]
    prediction: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    source: str = "adapter"
    muted: frozenset[str] = frozenset()
    path: Path | None = None

    def concept(self, name: object) -> Concept:
        """The concept with that name. Raises UnknownConceptError, which lists the concepts, for any other value."""
        if not isinstance(name, str) or name not in self.concepts:
            raise unknown_concept(name, self.source, self.concepts)
        return self.concepts[name]


def unknown_concept(name: object, source: str, known: Iterable[str]) -> UnknownConceptError:
    """The error for a name that is not among the known concepts of a source."""
    return UnknownConceptError(f"{source} has no concept {quoted(name)}. Its concepts are: {listed(known)}.")


def peek(path: str | os.PathLike[str]) -> AdapterHeader:
    """Read only the header: no tensor data is read, whatever the size of the file.

    Raises AdapterFileError like `read`, except for damage inside the tensors.
    """
    with _Opened(path) as opened:
        return opened.header()


def read(path: str | os.PathLike[str], concepts: Iterable[str] | None = None) -> Adapter:
    """Read and check all concepts, or only the given ones.

    Tensors are fp32 copies on the CPU, so the file may be replaced while the adapter is in use. Raises
    AdapterFileError for a file that is missing, a pickle, truncated or invalid, or contains NaN or infinity, and
    UnknownConceptError for a name that is not in the file.
    """
    with _Opened(path) as opened:
        header = opened.header()
        names = list(header.concepts) if concepts is None else list(concepts)
        for name in names:
            if name not in header.concepts:
                raise unknown_concept(name, opened.name, header.concepts)
        loaded = {name: opened.concept(header.concepts[name]).check_finite() for name in names}
        opened.check_unchanged()
        return Adapter(
            header.family, loaded, header.prediction, header.metadata, header.notes, opened.name, path=Path(path)
        )


def to_bytes(adapter: Adapter, dtype: torch.dtype = torch.float32) -> bytes:
    """The content of the adapter's file, with tensors in `dtype`; the same for equal adapters.

    Raises AdapterFileError for NaN and infinity, and for anything that `read` would refuse.
    """
    _check_count(len(adapter.concepts), adapter.source)
    tensors = {}
    for concept in adapter.concepts.values():
        concept.check_finite()
        for name, tensor in concept.tensors().items():
            key = f"{concept.name}.{name}"
            tensors[key] = tensor.detach().to("cpu", dtype, copy=True).contiguous()
            if not is_finite(tensors[key]):
                raise AdapterFileError(
                    f"Concept {concept.name!r} has values too large for {dtype}: save it as float32 or bfloat16."
                )
    return _with_sorted_metadata(to_safetensors(tensors, _metadata_of(adapter)))


def write(adapter: Adapter, path: str | os.PathLike[str], dtype: torch.dtype = torch.float32) -> Path:
    """Write the file atomically, with tensors in `dtype`, and return its path.

    Raises OSError from the file system (disk full, no permission) and leaves no partial file then. Raises
    AdapterFileError like `to_bytes`.
    """
    path = Path(path)
    data = to_bytes(adapter, dtype)
    with replacing(path) as partial:
        partial.write_bytes(data)
    return path


def merge(adapters: Iterable[Adapter]) -> Adapter:
    """One adapter with the concepts of all adapters, in their order.

    Raises AdapterFileError if families, prediction types or numbers of channels differ, or if two concepts have the
    same name.
    """
    parts = list(adapters)
    if not parts:
        raise AdapterFileError("There is nothing to merge: at least one adapter is needed.")
    check_same_model(parts)
    concepts: dict[str, Concept] = {}
    for part in parts:
        twice = concepts.keys() & part.concepts.keys()
        if twice:
            raise AdapterFileError(
                f"{part.source} contains {', '.join(map(repr, sorted(twice)))}, which another of these adapters also "
                "contains. Rename or leave out one of them."
            )
        concepts |= part.concepts
    notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
    muted = frozenset(name for part in parts for name in part.muted)
    first = parts[0]
    return Adapter(first.family, concepts, first.prediction, {}, notes, "merged adapter", muted)


def check_same_model(adapters: Sequence[Adapter]) -> None:
    """Raise AdapterFileError unless all adapters have the same family, prediction type and numbers of channels."""
    first = adapters[0]
    for adapter in adapters[1:]:
        for what, value, expected in _differences(adapter, first):
            if value != expected:
                raise AdapterFileError(
                    f"{adapter.source} and {first.source} cannot be combined into one adapter: their {what} differ "
                    f"({value} and {expected})."
                )


def _differences(adapter: Adapter, first: Adapter) -> Iterator[tuple[str, object, object]]:
    yield "families", family_title(adapter.family), family_title(first.family)
    yield "prediction types", adapter.prediction, first.prediction
    sites, expected = _sites_of(adapter), _sites_of(first)
    for site in sites.keys() & expected.keys():
        yield "channel counts", sites[site], expected[site]


def _sites_of(adapter: Adapter) -> dict[str, int]:
    return {site: channels for concept in adapter.concepts.values() for site, channels in concept.sites.items()}


def _check_count(concepts: int, source: str) -> None:
    if concepts > MOST_CONCEPTS:
        raise AdapterFileError(f"{source} has {concepts} concepts; at most {MOST_CONCEPTS} are allowed in one file.")


def _check_label(source: str, key: str, label: str | None) -> None:
    if label is not None and not (label.isprintable() and len(label) <= _LABEL_LENGTH):
        raise AdapterFileError(
            f"{source}: {key} is {quoted(label)}, which is not a valid name (at most {_LABEL_LENGTH} printable "
            "characters)."
        )


class _Opened:
    """An open adapter file. Low-level errors are converted to AdapterFileError."""

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self.name = self.path.name

    def __enter__(self) -> _Opened:
        if self.path.suffix.lower() in _PICKLES:
            raise AdapterFileError(
                f"{self.name} is a pickle file, which can run code when opened, so it is not loaded. "
                f"Convert it to an adapter with: respodiff import {self.name}"
            )
        if not self.path.is_file():
            raise AdapterFileError(
                f"There is no adapter file {self.name}: check the name and, in ComfyUI, that it is in models/respodiff."
            )
        with self._explaining():
            self._file = TensorFile(self.path)
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.__exit__(*exc)

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except (TensorFileError, OSError) as error:
            raise AdapterFileError(
                f"{self.name} is not a whole safetensors file ({error}): it is damaged, only partly downloaded, or "
                "a different kind of file. Download or train it again."
            ) from error

    def header(self) -> AdapterHeader:
        metadata = dict(self._file.metadata)
        self._placements: dict[str, tuple[Site, Operation, tuple[float, ...]]] = {}
        self._tensors = self._tensor_names()
        _check_count(len(self._tensors), self.name)
        notes: tuple[str, ...] = ()
        if "respodiff.format" in metadata:
            infos = self._infos(metadata)
        else:
            infos = [ConceptInfo(check_name(name)) for name in self._tensors]
            notes = (_NO_METADATA,)
        if not infos:
            raise AdapterFileError(f"{self.name} contains no concepts.")
        described = {info.name for info in infos}
        if described != self._tensors.keys():
            raise AdapterFileError(
                f"{self.name} describes the concepts {quoted(sorted(described))} but contains tensors of "
                f"{quoted(sorted(self._tensors))}: the file is damaged."
            )
        return AdapterHeader(
            concepts={info.name: self._concept_header(info) for info in infos},
            family=self._label(metadata, "respodiff.family"),
            prediction=self._label(metadata, "respodiff.prediction"),
            metadata={k: v for k, v in metadata.items() if not k.startswith("respodiff.")},
            notes=notes,
        )

    def _tensor_names(self) -> dict[str, dict[str, str]]:
        """Names of the tensors in the file, by concept and name in the concept."""
        concepts: dict[str, dict[str, str]] = {}
        for key, entry in self._file.entries.items():
            concept, _, name = key.partition(".")
            if not (name.partition(".")[0] in ROLES or is_layer_tensor(name)) or key.endswith("."):
                raise AdapterFileError(
                    f"{self.name} contains the tensor {quoted(key)}, which does not belong in a RespoDiff adapter "
                    "(<concept>.ram, <concept>.sam, <concept>.<layer>). Is it a LoRA or a checkpoint?"
                )
            if entry.dtype not in DTYPES:
                raise AdapterFileError(f"{self.name}: {quoted(key)} is {entry.dtype}; expected {', '.join(DTYPES)}.")
            concepts.setdefault(concept, {})[name] = key
        return concepts

    def _infos(self, metadata: Mapping[str, str]) -> list[ConceptInfo]:
        if metadata["respodiff.format"] != FORMAT:
            raise AdapterFileError(
                f"{self.name} has format {quoted(metadata['respodiff.format'])}, but this version reads format "
                f"{FORMAT!r}: update ComfyUI-RespoDiff."
            )
        try:
            entries = parse_json(metadata.get("respodiff.concepts", "null"))
        except TensorFileError as error:
            raise AdapterFileError(f"{self.name}: respodiff.concepts cannot be read: {error}.") from error
        if not isinstance(entries, list):
            raise AdapterFileError(f"{self.name}: respodiff.concepts is not a list of concepts.")
        infos = [ConceptInfo.from_metadata(entry) for entry in entries]
        self._placements = {
            info.name: check_placement(entry, info.name) for info, entry in zip(infos, entries, strict=True)
        }
        if len({info.name for info in infos}) < len(infos):
            raise AdapterFileError(f"{self.name} lists a concept twice.")
        return infos

    def _label(self, metadata: Mapping[str, str], key: str) -> str | None:
        label = metadata.get(key)
        _check_label(self.name, key, label)
        return label

    def _concept_header(self, info: ConceptInfo) -> ConceptHeader:
        shapes = {name: self._file.entries[key].shape for name, key in self._tensors[info.name].items()}
        site, operation, sigmas = self._placements.get(info.name, (MIDDLE, "add", ()))
        if any(map(is_layer_tensor, shapes)):
            owner = f"{self.name}: concept {info.name!r}"
            check_shapes(shapes, operation, sigmas, owner)
            sites = sites_of(shapes)
            if (MIDDLE in sites) != (site == MIDDLE) or (site == MIDDLE and len(sites) > 1):
                raise AdapterFileError(f"{owner} is described as acting at {site}, but has tensors of {listed(sites)}.")
            return ConceptHeader(info, CONTRAST, sites, operation, sigmas)
        if (site, operation, sigmas) != (MIDDLE, "add", ()):
            raise AdapterFileError(
                f"{self.name}: concept {info.name!r} has RAM and SAM, which are added at the middle block, but is "
                f"described as {operation} at {site}."
            )
        modules = {role: _of_role(shapes, role) for role in ROLES}
        missing = [role.upper() for role in ROLES if not modules[role]]
        if missing:
            raise AdapterFileError(f"{self.name}: concept {info.name!r} has no {' and no '.join(missing)}.")
        kinds = [kind_of(modules[role], self._owner(info, role)) for role in ROLES]
        return ConceptHeader(info, joint_kind(*kinds), {MIDDLE: channels_of(kinds[0], modules["ram"])})

    def _owner(self, info: ConceptInfo, role: str) -> str:
        return f"{self.name}: {info.name}.{role}"

    def concept(self, header: ConceptHeader) -> Concept:
        info = header.info
        with self._explaining():
            tensors = {name: self._file.tensor(key).float() for name, key in self._tensors[info.name].items()}
        if header.kind == CONTRAST:
            return ContrastConcept.of(info, tensors, header.operation, header.sigmas)
        return ModuleConcept(info, *(Transform.of(_of_role(tensors, role), self._owner(info, role)) for role in ROLES))

    def check_unchanged(self) -> None:
        with self._explaining():
            self._file.check_unchanged()


def _metadata_of(adapter: Adapter) -> dict[str, str]:
    names = ", ".join(adapter.concepts)
    # Refuse to write anything that `read` would refuse.
    try:
        concepts = json.dumps([_described(one) for one in adapter.concepts.values()], allow_nan=False)
        entries = parse_json(concepts)
    except ValueError as error:
        raise AdapterFileError(f"The metadata of {names} cannot be written as JSON ({error}).") from error
    for entry in entries:
        check_placement(entry, ConceptInfo.from_metadata(entry).name)
    for key, label in (("family", adapter.family), ("prediction", adapter.prediction)):
        _check_label(adapter.source, key, label)
    architecture = FAMILIES[adapter.family].modelspec_architecture if adapter.family in FAMILIES else adapter.family
    return {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": f"{architecture or 'unknown'}/respodiff",
        "modelspec.implementation": "respodiff",
        "modelspec.title": f"RespoDiff: {names}",
        **adapter.metadata,
        "respodiff.format": FORMAT,
        **({"respodiff.family": adapter.family} if adapter.family else {}),
        **({"respodiff.prediction": adapter.prediction} if adapter.prediction else {}),
        "respodiff.concepts": concepts,
    }


def _described(concept: Concept) -> dict[str, object]:
    entry = concept.info.to_metadata(concept.kind)
    if isinstance(concept, ContrastConcept):
        entry |= {"site": concept.site, "operation": concept.operation, "sigmas": list(concept.sigmas)}
    return entry


_Value = TypeVar("_Value")


def _of_role(named: Mapping[str, _Value], role: str) -> dict[str, _Value]:
    """Those of RAM or SAM, by parameter."""
    return {name.partition(".")[2]: value for name, value in named.items() if name.partition(".")[0] == role}


def _with_sorted_metadata(data: bytes) -> bytes:
    """The same file with sorted metadata; the safetensors library writes them in random order.

    Raises AdapterFileError if the header is larger than `read` accepts.
    """
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > HEADER_LIMIT:
        raise AdapterFileError(
            f"The names and metadata of these concepts take {len(text)} bytes, but at most {HEADER_LIMIT} can be read "
            "back: write fewer concepts into one file, or shorten their metadata."
        )
    return len(text).to_bytes(8, "little") + text + data[8 + length :]
