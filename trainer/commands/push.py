"""`respodiff push`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import switch
from .report_errors import report_errors


def push(
    file: Annotated[Path, typer.Argument(help="Adapter file (.safetensors).")],
    hub_id: Annotated[
        str, typer.Argument(help="Repository on the Hugging Face Hub: owner/name; created if it does not exist.")
    ],
    evaluation: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="<path>",
            help="Output folder of a `respodiff eval` of this file, for the model card. May be repeated.",
        ),
    ] = None,
    images: Annotated[
        bool,
        switch("--images", help="Also publish some images of the evaluation, before and after (never those of i2p)."),
    ] = False,
    license_: Annotated[
        str | None,
        typer.Option("--license", help="License id of the Hub (mit, openrail, ...); the file's license if left out."),
    ] = None,
    private: Annotated[bool, switch("--private", help="Create a new repository as private.")] = False,
    dry_run: Annotated[
        bool,
        switch("--dry-run", help="Write the model card and files to a folder for inspection; upload nothing."),
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Output folder of the dry run (out/push/NAME if left out).")
    ] = None,
    keep_readme: Annotated[
        bool, switch("--keep-readme", help="Upload only the adapter and keep the repository's README.")
    ] = False,
    force: Annotated[bool, switch("--force", help="Replace a README that this command did not write.")] = False,
) -> None:
    """Publish an adapter on the Hugging Face Hub, with a model card generated from the file and its evaluation.

    respodiff push gender.safetensors owner/gender --evaluation out/gender --dry-run

    respodiff push gender.safetensors owner/gender --evaluation out/gender

    Log in first with `hf auth login`. Adapter, card and plots are uploaded in one commit.
    """
    from ...respodiff_core.errors import RespoDiffError
    from ..sharing.upload import CARD, package
    from ..sharing.upload import push as publish

    with report_errors():
        from huggingface_hub import HfApi

        if output and not dry_run:
            raise RespoDiffError("--output is the folder of a dry run: add --dry-run, or leave --output out.")
        if images and not evaluation:
            raise RespoDiffError("--images needs an evaluation: name its output folder with --evaluation.")
        ready = package(file, hub_id, license_, evaluation or [], images)
        if dry_run:
            folder = output or Path("out/push") / hub_id.rpartition("/")[2]
            ready.write(folder, force=force)
            typer.echo(f"Nothing was uploaded. Model card: {folder / CARD}; {len(ready.files)} files in {folder}")
            return
        done = publish(HfApi(), ready, private=private, keep_readme=keep_readme, force=force)
        typer.echo(f"{done.url}: {ready.file}")
        typer.echo(f"  revision {done.revision}")
        typer.echo(f"  sha256   {ready.sha256}")
        typer.echo(f"To download this version: respodiff pull {ready.repo}@{done.revision} --file {ready.file}")
