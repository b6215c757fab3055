"""What the Comfy Registry asks of the pack's metadata and archive (docs.comfy.org/registry/specifications)."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest
from comfy_hosts import PACK
from node_texts import read
from PIL import Image
from registry_archive import archived_files
from respodiff.trainer.recipes.strict import parse_toml

METADATA = parse_toml((PACK / "pyproject.toml").read_text("utf-8"))
PROJECT, COMFY = METADATA["project"], METADATA["tool"]["comfy"]
REPOSITORY = PROJECT["urls"]["Repository"]
# Words at which the Registry's scan flags an archive, whatever they mean there.
FLAGGED = (
    "pickletools",
    ".eval(",
    " eval(",
    " exec(",
    "pickle.load",
    "__import__",
    "os.system",
    "subprocess",
    "marshal",
)
SUSPICIOUS = {"pickle", "pickletools", "zipfile", "tarfile", "marshal", "shelve", "subprocess", "ctypes", "importlib",
              "runpy", "pty", "http", "socket", "urllib", "base64"}  # fmt: skip
RAW = REPOSITORY.replace("https://github.com/", "https://raw.githubusercontent.com/") + "/main/"


def picture(key: str) -> Image.Image:
    """The file that a URL of [tool.comfy] will be, once the repository is where its metadata says."""
    assert COMFY[key].startswith(RAW)
    return Image.open(PACK / COMFY[key].removeprefix(RAW))


def test_the_name_is_one_that_the_registry_takes():
    assert re.fullmatch(r"[a-z](?:[a-z0-9]|[-_.](?=[a-z0-9])){0,98}", PROJECT["name"])
    assert "comfy" not in PROJECT["name"]


def test_the_version_has_three_numbers():
    assert re.fullmatch(r"\d+\.\d+\.\d+", PROJECT["version"])


def test_the_fields_that_are_shown_are_filled_in():
    assert PROJECT["license"] == {"file": "LICENSE"}
    assert (PACK / "LICENSE").is_file()
    assert 20 < len(PROJECT["description"]) < 150
    assert re.fullmatch(r"https://github\.com/[\w-]+/[\w-]+", REPOSITORY)
    assert all(PROJECT["urls"][key].startswith(REPOSITORY) for key in ("Documentation", "Issues"))
    assert re.fullmatch(r"[a-z0-9-]+", COMFY["PublisherId"])
    assert COMFY["DisplayName"] == REPOSITORY.rpartition("/")[2]


def test_the_lowest_comfyui_is_the_one_that_the_nodes_check():
    (numbers,) = re.findall(r"COMFYUI_FLOOR = \((\d+), (\d+)\)", (PACK / "nodes" / "__init__.py").read_text("utf-8"))
    assert COMFY["requires-comfyui"] == f">={'.'.join(numbers)}.0"


def test_operating_systems_and_accelerators_are_in_words_that_the_registry_knows():
    systems = [c for c in PROJECT["classifiers"] if c.startswith("Operating System ::")]
    assert systems == ["Operating System :: OS Independent"]
    known = {"NVIDIA CUDA", "AMD ROCm", "Intel Arc", "Apple Metal"}
    accelerators = {c.rpartition(" :: ")[2] for c in PROJECT["classifiers"] if c.startswith("Environment :: GPU")}
    assert accelerators <= known


def test_the_icon_is_square_and_at_most_400_pixels_wide():
    width, height = picture("Icon").size
    assert width == height <= 400


def test_the_banner_is_21_to_9():
    width, height = picture("Banner").size
    assert width * 9 == height * 21


@pytest.mark.parametrize("key", ["Icon", "Banner"])
def test_pictures_are_of_a_kind_that_the_registry_shows(key):
    assert picture(key).format == "PNG"


def test_the_archive_holds_all_that_the_nodes_need():
    archived = set(archived_files())
    code = {path.relative_to(PACK) for room in ("nodes", "respodiff_core") for path in (PACK / room).rglob("*.py")}
    page = {
        path.relative_to(PACK)
        for room in ("web", "locales", "workflows", "subgraphs")
        for path in (PACK / room).rglob("*.*")
    }
    assert len(page) > len(read("en"))
    assert code | page <= archived
    assert {"__init__.py", "pyproject.toml", "LICENSE", "README.md"} <= {str(path) for path in archived}


def test_the_archive_holds_nothing_else_and_stays_small():
    archived = list(archived_files())
    rooms = {path.parts[0] for path in archived if len(path.parts) > 1}
    assert rooms == {"nodes", "respodiff_core", "web", "locales", "workflows", "subgraphs"}
    assert sum((PACK / path).stat().st_size for path in archived) < 3_000_000


def test_the_archive_imports_nothing_that_a_scan_for_attacks_stops_at():
    code = [path for path in archived_files() if path.suffix == ".py"]
    assert code
    for path in code:
        imports = re.findall(r"^ *(?:import|from) (\w+)", (PACK / path).read_text("utf-8"), re.MULTILINE)
        assert not SUSPICIOUS & set(imports), path


def test_the_archive_has_no_word_that_the_registry_flags():
    for path in archived_files():
        if path.suffix == ".py":
            text = (PACK / path).read_text("utf-8")
            found = [word for word in FLAGGED if word in text]
            assert not found, f"{path} has {found}"


def test_the_core_of_the_archive_needs_nothing_that_is_left_out(tmp_path):
    archived = [path for path in archived_files() if path.parts[0] == "respodiff_core"]
    for path in archived:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PACK / path, tmp_path / path)
    modules = [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in archived]
    subprocess.run([sys.executable, "-c", "import " + ", ".join(modules)], cwd=tmp_path, check=True)
