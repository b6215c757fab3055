"""`respodiff pull` and `respodiff push`: their flags."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Force
from .report_errors import report_errors

_HUB_ID = "owner/name on the Hugging Face Hub"


def pull(
    hub_id: Annotated[str, typer.Argument(help=f"{_HUB_ID}, or owner/name@revision.")],
    file: Annotated[
        list[str] | None, typer.Option(help="Only this adapter of the repository; all of them if left out.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A folder, or the name of the file (.safetensors).")
    ] = None,
    comfyui: Annotated[
        Path | None, typer.Option(help="A ComfyUI, to put it into its models/respodiff; COMFYUI_PATH if left out.")
    ] = None,
    sha256: Annotated[str | None, typer.Option(help="What the file must have, or it is not kept.")] = None,
    force: Force = False,
) -> None:
    """Fetch adapters from the Hugging Face Hub.

    respodiff pull owner/name --comfyui ~/ComfyUI

    respodiff pull owner/name@revision -o gender.safetensors

    Each is checked before it appears. Commit and sha256 are noted beside it (gender.hub.json). For private and gated
    repositories log in with `hf auth login`.
    """
    from ...respodiff_core.adapter.families import family_title
    from ..sharing.destination import destination_of
    from ..sharing.hub import HubId
    from ..sharing.pull import pull as fetch
    from ..sharing.pull import record_of
    from ..support.untrusted_text import one_line

    with report_errors():
        from huggingface_hub import HfApi

        wanted = HubId.parse(hub_id)
        place = destination_of(output, comfyui)
        found, left_out = fetch(HfApi(), wanted, place, files=file or [], sha256=sha256, force=force)
        for one in found:
            origin = one.origin
            concepts = ", ".join(f"{name} ({held.info.category})" for name, held in one.adapter.concepts.items())
            typer.echo(f"{one.path}: {concepts}; for {one_line(family_title(one.adapter.family))}")
            if not one.is_new:
                typer.echo("  was here already, the same file")
            for note in one.adapter.notes:
                typer.echo(f"  note: {note}")
            typer.echo(f"  from {origin.hub}/{origin.repo}, {origin.file}")
            typer.echo(f"  revision {origin.revision}")
            typer.echo(f"  sha256   {origin.sha256}")
            typer.echo(f"  noted in {record_of(one.path)}")
        if left_out:
            typer.echo(f"Left out, as no adapters: {', '.join(map(one_line, left_out))}")
        typer.echo(f"This state again, whatever changes there: respodiff pull {found[0].origin.pinned}")


def push(
    file: Annotated[Path, typer.Argument(help="An adapter (.safetensors).")],
    hub_id: Annotated[str, typer.Argument(help=f"{_HUB_ID}; made if it is not there.")],
    evaluation: Annotated[
        list[Path] | None, typer.Option(help="The folder of a `respodiff eval` of this file, for the card.")
    ] = None,
    pictures: Annotated[
        bool,
        typer.Option("--pictures", help="Also publish some of its pictures, before and after (none of i2p)."),
    ] = False,
    license_: Annotated[
        str | None, typer.Option("--license", help="The Hub's id (mit, openrail, ...); the file's if left out.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write card and files to a folder to look at; nothing is uploaded.")
    ] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="That folder (out/push/NAME).")] = None,
    keep_readme: Annotated[
        bool, typer.Option("--keep-readme", help="Upload the adapter alone; the README there stays.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a README written by hand.")] = False,
) -> None:
    """Publish an adapter on the Hugging Face Hub, with a model card made from what the file and its evaluation say.

    respodiff push gender.safetensors owner/gender --evaluation out/gender --dry-run

    respodiff push gender.safetensors owner/gender --evaluation out/gender

    Log in first with `hf auth login`. Adapter, card and plots arrive in one commit.
    """
    from ...respodiff_core.errors import RespoDiffError
    from ..sharing.push import CARD, package
    from ..sharing.push import push as publish

    with report_errors():
        from huggingface_hub import HfApi

        if output and not dry_run:
            raise RespoDiffError("--output is the folder of a --dry-run.")
        if pictures and not evaluation:
            raise RespoDiffError("--pictures are those of an evaluation: name its folder with --evaluation.")
        ready = package(file, hub_id, license_, evaluation or [], pictures)
        if dry_run:
            folder = output or Path("out/push") / hub_id.rpartition("/")[2]
            ready.write(folder, force=force)
            typer.echo(f"Nothing was uploaded. The card: {folder / CARD}; {len(ready.files)} files in {folder}")
            return
        done = publish(HfApi(), ready, private=private, keep_readme=keep_readme, force=force)
        typer.echo(f"{done.url}: {ready.file}")
        typer.echo(f"  revision {done.revision}")
        typer.echo(f"  sha256   {ready.sha256}")
        typer.echo(f"Others get exactly this: respodiff pull {ready.repo}@{done.revision} --file {ready.file}")
