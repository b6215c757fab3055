"""`respodiff report`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ..support.output_file import refuse_to_replace
from .options import Force
from .report_errors import report_errors


def report(
    runs: Annotated[list[Path], typer.Argument(help="Output folders of evaluations.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="HTML file to write.")] = Path("out/report.html"),
    force: Force = False,
) -> None:
    """Compare evaluations side by side in one self-contained HTML page."""
    with report_errors():
        from ..evaluation.html_report import write_report
        from ..evaluation.image_folder import ImageFolder
        from ..evaluation.results import Results

        refuse_to_replace(output, force=force)
        found = {path: (Results.read(path), ImageFolder(path / "images")) for path in runs}
        write_report({name: found[path] for path, name in _names(list(found)).items()}, output)
        typer.echo(f"Wrote {output}: {', '.join(map(str, runs))}")


def _names(paths: Sequence[Path]) -> dict[Path, str]:
    """The name of each folder, or its path if several folders have the same name."""
    short = [path.resolve().name for path in paths]
    return {path: name if short.count(name) == 1 else str(path) for path, name in zip(paths, short, strict=True)}
