"""`respodiff pull`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Force
from .report_errors import report_errors


def pull(
    hub_id: Annotated[
        str, typer.Argument(help="Repository on the Hugging Face Hub: owner/name, or owner/name@revision.")
    ],
    file: Annotated[
        list[str] | None,
        typer.Option(
            metavar="<str>", help="Adapter file in the repository to download; all if left out. May be repeated."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder or file (.safetensors) to write; models/respodiff of the ComfyUI folder if left out, or the "
            "current folder if there is none.",
        ),
    ] = None,
    comfyui: Annotated[
        Path | None, typer.Option(help="ComfyUI folder; the environment variable COMFYUI_PATH if left out.")
    ] = None,
    sha256: Annotated[
        str | None, typer.Option(help="Expected SHA-256 of the file; a file with another hash is refused.")
    ] = None,
    force: Force = False,
) -> None:
    """Download adapters from the Hugging Face Hub.

    respodiff pull owner/name --comfyui ~/ComfyUI

    respodiff pull owner/name@revision -o gender.safetensors

    Each file is checked before it is saved. Its commit and sha256 are recorded next to it (gender.hub.json). For
    private and gated repositories, log in with `hf auth login`.
    """
    from ...respodiff_core.adapter.families import family_title
    from ..sharing.destination import destination_of
    from ..sharing.download import pull as fetch
    from ..sharing.download import record_of
    from ..sharing.hub import parse_hub_id
    from ..support.untrusted_text import one_line

    with report_errors():
        from huggingface_hub import HfApi

        wanted = parse_hub_id(hub_id)
        place = destination_of(output, comfyui)
        found, left_out = fetch(HfApi(), wanted, place, files=file or [], sha256=sha256, force=force)
        for one in found:
            origin = one.origin
            concepts = ", ".join(f"{name} ({held.info.category})" for name, held in one.adapter.concepts.items())
            typer.echo(f"{one.path}: {concepts}; for {one_line(family_title(one.adapter.family))}")
            if not one.is_new:
                typer.echo("  already exists with the same content")
            for note in one.adapter.notes:
                typer.echo(f"  note: {note}")
            typer.echo(f"  from {origin.hub}/{origin.repo}, {origin.file}")
            typer.echo(f"  revision {origin.revision}")
            typer.echo(f"  sha256   {origin.sha256}")
            typer.echo(f"  recorded in {record_of(one.path)}")
        if left_out:
            typer.echo(f"Skipped, not an adapter: {', '.join(map(one_line, left_out))}")
        typer.echo(f"To download this version again: respodiff pull {found[0].origin.pinned}")
