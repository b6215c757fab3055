"""`respodiff base`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ..base.spec import BASES
from .report_errors import report_errors

if TYPE_CHECKING:
    from ..base.model import Description


def base(
    model: Annotated[str, typer.Argument(help=f"Base model: {BASES}.")],
    text_encoder: Annotated[
        list[str] | None, typer.Option(help="Text encoder file, if the base model is a UNet's file. May be repeated.")
    ] = None,
    vae: Annotated[str | None, typer.Option(help="VAE file, for a base model without one.")] = None,
) -> None:
    """Show what a base model is: family, prediction, noise schedule, text encoders, VAE, precision, SHA-256; or why it
    cannot be used. No network is computed. For bug reports.
    """
    from ...respodiff_core.hashes import sha256_of
    from ..base.model import describe

    with report_errors():
        described = describe(model, text_encoders=text_encoder or (), vae=vae)
        typer.echo(_summary(described))
        typer.echo(f"  sha256: {sha256_of(*described.weights)}")


def _summary(base: Description) -> str:
    from ...respodiff_core.adapter.families import family_title, pixels_per_latent

    pixels = pixels_per_latent(base.family)
    height, width = (size * pixels for size in base.latent_size)
    schedule = base.scheduler_config
    noise = (
        f"{len(schedule['trained_betas'])} betas of its own"
        if schedule.get("trained_betas")
        else f"{schedule.get('beta_schedule', 'linear')}, beta {schedule.get('beta_start', 0.0001)} to "
        f"{schedule.get('beta_end', 0.02)} in {schedule.get('num_train_timesteps', 1000)} timesteps"
    )
    if schedule.get("rescale_betas_zero_snr"):
        noise += ", zero terminal SNR"
    widths = base.unet_config["block_out_channels"]
    lines = [
        f"{base.name}: {family_title(base.family)}, {base.prediction} prediction",
        f"  UNet: {' / '.join(map(str, widths))} channels, {', '.join(base.dtypes)}"
        + (", distilled (its guidance input is left out)" if base.is_distilled else ""),
        *(
            f"  text encoder: CLIP of width {wide}, {layers} layers, {tokens} tokens"
            for wide, layers, tokens in base.texts
        ),
        f"  VAE: {'yes' if base.no_pictures is None else f'no previews and evaluations: {base.no_pictures}'}",
        f"  noise schedule: {noise}",
        f"  native size: {width} x {height} pixels",
    ]
    return "\n".join(lines)
