"""The evaluation's report in a real browser: whole in itself, wide and narrow, light and dark, on paper."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from comfy_page import SCREENSHOTS
from playwright.sync_api import Browser
from respodiff.trainer.evaluation.run import evaluate
from respodiff.trainer.recipes.evaluation_recipe import EvalRecipe
from toyworld_adapters import shape_adapter

HOSTILE = "<script>alert('group')</script>"


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """Three strengths beside none, on professions one of which has a name that wants to be a script."""
    folder = tmp_path_factory.mktemp("report")
    adapter = str(shape_adapter(folder / "shape.safetensors"))
    rows = [{"prompt": f"a photo of a {who}", "group": who} for who in ("doctor", "nurse", "guard", "farmer", "tailor")]
    rows[0]["group"] = HOSTILE
    (folder / "prompts.json").write_text(json.dumps(rows))
    steered = [
        {"name": f"shape at {strength:g}", "adapters": [adapter], "strength": strength} for strength in (0.5, 1.0, 1.5)
    ]
    recipe = {
        "protocol": "prompts",
        "prompts": str(folder / "prompts.json"),
        "base": "toyworld",
        "output": str(folder / "evaluation"),
        "images": 8,
        "variants": [{"name": "unsteered"}, *steered],
        "sampling": {"schedule_steps": 5, "batch": 32, "device": "cpu"},
    }
    evaluate(EvalRecipe.of(recipe), shown=False)
    return folder / "evaluation" / "report.html"


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "light"), (1280, "dark")])
def test_it_is_whole_in_itself_and_fits(report, chrome: Browser, width, scheme):
    page = chrome.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()], "nothing is fetched"
    assert page.evaluate("document.documentElement.scrollWidth") <= width

    assert page.get_by_text(HOSTILE, exact=True).count() >= 2, "as text, in the table and the chart"
    pictures = page.locator(".tiles img")
    assert pictures.count() == 5 * 4 * 4
    assert pictures.evaluate_all("all => all.every(one => one.complete && one.naturalWidth > 0)")
    headings = page.locator("h2").all_inner_texts()
    assert headings == [
        "Figures", "Curves", "Images", "By group", "Further figures", "How to read this", "What was measured",
    ]  # fmt: skip
    assert page.locator("svg").count() >= 4
    # Each value stands on its own line, readable: nothing is laid over it.
    assert page.locator("td.number").first.is_visible()
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"report-{width}-{scheme}.png", full_page=True)
    page.close()


def test_it_prints(report, chrome: Browser, tmp_path):
    page = chrome.new_page()
    page.goto(report.as_uri())
    page.pdf(path=tmp_path / "report.pdf", format="A4")
    page.close()
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
