"""Files from strangers: nothing in them is believed that cannot be true, whatever they claim."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import peak_memory
import pytest
import torch
from adapters import random_adapter, rewrite_metadata
from respodiff.respodiff_core.adapter import tensor_file
from respodiff.respodiff_core.adapter.adapter import MOST_CONCEPTS, Adapter, peek, read, write
from respodiff.respodiff_core.adapter.concept import ConceptInfo, ModuleConcept
from respodiff.respodiff_core.adapter.importers import RAM_NAME, SAM_NAME, import_weights
from respodiff.respodiff_core.adapter.summary import summarise
from respodiff.respodiff_core.adapter.tensor_file import HEADER_LIMIT
from respodiff.respodiff_core.adapter.transforms import LARGEST_NATIVE_SIZE, Transform
from respodiff.respodiff_core.errors import AdapterFileError
from safetensors.torch import save_file

NOT_WHOLE = "is not a whole safetensors file"
ROWS = 1280 * 8 * 8


def with_header(header: object, tensors: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + tensors


def modules(**changes: object) -> dict[str, dict[str, object]]:
    """The header of a file of one concept: RAM and SAM of 4 bytes each; `changes` are to RAM's entry."""
    ram = {"dtype": "F32", "shape": [1, 1, 1], "data_offsets": [0, 4]}
    return {"w.ram": ram | changes, "w.sam": ram | {"data_offsets": [4, 8]}}


def refused(file: Path, said: dict[str, object], message: str) -> None:
    """A file that says this of its concept is refused with that message."""
    write(random_adapter("w"), file)
    rewrite_metadata(file, **{"respodiff.concepts": json.dumps([{"name": "w", **said}])})
    with pytest.raises(AdapterFileError, match=message):
        peek(file)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a.safetensors"


class TestHeaders:
    def test_the_file_that_the_others_differ_from_is_good(self, file):
        file.write_bytes(with_header(modules(), bytes(8)))
        assert list(read(file).concepts) == ["w"]

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"data_offsets": [4, 8]}, "overlap"),
            ({"data_offsets": [0, 8]}, "cannot take 8 bytes"),
            ({"data_offsets": [8, 12]}, "leave gaps or extend beyond its end"),
            ({"data_offsets": [-4, 0]}, "invalid offsets"),
            ({"data_offsets": [4, 0]}, "cannot take -4 bytes"),
            ({"data_offsets": [0]}, "invalid offsets"),
            ({"data_offsets": ["0", "4"]}, "invalid offsets"),
            ({"data_offsets": [0.0, 4.0]}, "invalid offsets"),
            ({"data_offsets": [False, 4]}, "invalid offsets"),
            ({"data_offsets": [2**62, 2**62 + 4]}, "extend beyond its end"),
            ({"shape": [2**31, 2**31, 2**31]}, "cannot take 4 bytes"),
            ({"shape": [2**40, 2**40], "data_offsets": [0, 2**82]}, "extend beyond its end"),
            ({"shape": [-1, -1, 1]}, "invalid shape"),
            ({"shape": [1] * 9}, "invalid shape"),
            ({"shape": "111"}, "invalid shape"),
            ({"shape": None}, "invalid shape"),
            ({"dtype": "F33"}, "unknown dtype 'F33'"),
            ({"dtype": []}, "unknown dtype"),
        ],
    )
    def test_shapes_and_places_that_cannot_be_are_refused(self, file, changes, message):
        file.write_bytes(with_header(modules(**changes), bytes(8)))
        for reader in (peek, read):
            with pytest.raises(AdapterFileError, match=rf"{NOT_WHOLE} \(.*{message}"):
                reader(file)

    def test_minus_zero_is_no_place(self, file):
        header = json.dumps(modules()).replace("[0, 4]", "[-0, 4]")
        file.write_bytes(with_header(header.encode(), bytes(8)))
        with pytest.raises(AdapterFileError, match="invalid offsets"):
            read(file)

    @pytest.mark.parametrize("shape", [[0, 1, 1], [1, 0, 0], [0, 2**62, 1]])
    def test_tensors_of_no_size_are_no_module(self, file, shape):
        header = modules(shape=shape, data_offsets=[0, 0])
        header["w.sam"]["data_offsets"] = [0, 4]
        file.write_bytes(with_header(header, bytes(4)))
        with pytest.raises(AdapterFileError, match=r"shapes .*; expected"):
            read(file)

    @pytest.mark.parametrize(
        ("header", "message"),
        [
            (b"[]", "not a JSON object"),
            (b'{"w.ram": 3}', "entry of 'w.ram' is not an object"),
            (b'{"__metadata__": {"a": 1}}', "metadata is not an object"),
            (b'{"__metadata__": []}', "metadata is not an object"),
            (b'{"w.ram": {}, "w.ram": {}}', "duplicate key"),
            (b'{"__metadata__": {"a": "1", "a": "2"}}', "duplicate key"),
            (b'{"__metadata__": {"a": "\\ud800"}}', "not JSON"),
            (b'{"a": "\xff"}', "not JSON"),
            (b'{"a":' * 100_000, "not JSON"),
            (b'{"a": NaN}', "NaN is not allowed"),
            (b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
        ],
    )
    def test_headers_that_are_none_are_refused(self, file, header, message):
        file.write_bytes(with_header(header))
        with pytest.raises(AdapterFileError, match=message):
            peek(file)

    def test_a_header_longer_than_any_adapters_is_not_even_parsed(self, file, monkeypatch):
        monkeypatch.setattr(tensor_file, "parse_json", lambda _: pytest.fail("parsed"))
        file.write_bytes(with_header({"__metadata__": {"thumbnail": "x" * (50 << 20)}}))
        with pytest.raises(AdapterFileError, match=f"header takes .* more than the maximum of {HEADER_LIMIT}"):
            peek(file)

    def test_a_header_longer_than_the_file_is_refused(self, file):
        file.write_bytes((2**63).to_bytes(8, "little") + b"{}")
        with pytest.raises(AdapterFileError, match="its header would take"):
            peek(file)

    def test_what_would_be_too_long_to_read_is_not_written(self, file):
        module = Transform.of({"": torch.ones(1, 1, 1)})
        concept = ModuleConcept(ConceptInfo("w", target="x" * HEADER_LIMIT), module, module)
        with pytest.raises(AdapterFileError, match="write fewer concepts into one file"):
            write(Adapter("sd15", {"w": concept}), file)
        assert not file.exists()

    def test_more_concepts_than_a_moment_allows_are_refused(self, file):
        header = {}
        for number in range(MOST_CONCEPTS + 1):
            for role in ("ram", "sam"):
                begin = 4 * len(header)
                header[f"{number}.{role}"] = {"dtype": "F32", "shape": [1, 1, 1], "data_offsets": [begin, begin + 4]}
        file.write_bytes(with_header(header, bytes(4 * len(header))))
        with pytest.raises(AdapterFileError, match="1001 concepts; at most 1000"):
            peek(file)
        module = Transform.of({"": torch.ones(1, 1, 1)})
        many = {
            str(number): ModuleConcept(ConceptInfo(str(number)), module, module) for number in range(MOST_CONCEPTS + 1)
        }
        with pytest.raises(AdapterFileError, match="at most 1000"):
            write(Adapter("sd15", many), file)
        del many["1"]
        assert len(read(write(Adapter("sd15", many), file)).concepts) == MOST_CONCEPTS

    @pytest.mark.parametrize("key", ["respodiff.family", "respodiff.prediction"])
    @pytest.mark.parametrize("value", ["x" * 65, "sd\n15", "\x1b[2J"])
    def test_names_of_families_are_names(self, file, key, value):
        write(random_adapter(), file)
        rewrite_metadata(file, **{key: value})
        with pytest.raises(AdapterFileError, match=f"{key} is .* which is not a valid name"):
            peek(file)

    @pytest.mark.parametrize("size", [0, -1, 10**9])
    def test_latent_sizes_are_sizes(self, file, size):
        refused(file, {"latent_width": size}, "latent_width")

    def test_what_is_said_of_training_can_be_written_again(self, file):
        deep: object = 1
        for _ in range(200):
            deep = [deep]
        refused(file, {"training": {"a": deep}}, "nested too deeply")

    @pytest.mark.parametrize("axis", ["\x1b]0;title\x07gender", "gen\nder", "\u202egender", "x" * 65])
    def test_an_axis_is_a_name(self, file, axis):
        refused(file, {"axis": axis}, "An axis must be at most 64 printable characters")
        refused(file, {"scales": {axis: 1.0}}, "An axis must be at most 64 printable characters")

    def test_a_number_too_large_for_a_computer_is_none(self, file):
        write(random_adapter("w"), file)
        rewrite_metadata(file, **{"respodiff.concepts": '[{"name": "w", "training": {"x": 1e999}}]'})
        with pytest.raises(AdapterFileError, match="'1e999' is too large a number"):
            peek(file)

    @pytest.mark.parametrize("shape", [(1, 1, LARGEST_NATIVE_SIZE + 1), (1, 10**6, 1)])
    def test_a_constant_larger_than_any_models_bottleneck_is_refused(self, file, shape):
        """To resample or to draw one would take memory for many times the file's size."""
        module = torch.zeros(shape)
        save_file({"w.ram": module, "w.sam": module.clone()}, file)
        with pytest.raises(AdapterFileError, match="must be at most 256 x 256"):
            peek(file)

    def test_what_would_not_be_read_again_is_not_written(self, file):
        module = Transform.of({"": torch.ones(1, 1, 1)})
        for wrong in ({"latent_width": 0}, {"axis": "\x1b"}, {"training": {"a": [[[[[[1]]]]]]}}, {"strength": 1e9}):
            with pytest.raises(AdapterFileError):
                write(Adapter("sd15", {"w": ModuleConcept(ConceptInfo("w", **wrong), module, module)}), file)
        for wrong in ({"training": {"a": 1e999}}, {"target": "\udcff"}, {"training": {1: 2, "1": 3}}):
            with pytest.raises(AdapterFileError, match="cannot be written as JSON"):
                write(Adapter("sd15", {"w": ModuleConcept(ConceptInfo("w", **wrong), module, module)}), file)
        with pytest.raises(AdapterFileError, match="which is not a valid name"):
            write(Adapter("x" * 65, {"w": ModuleConcept(ConceptInfo("w"), module, module)}), file)
        assert not file.exists()


class TestReading:
    def test_a_file_cut_short_while_it_is_read_is_refused(self, file, monkeypatch):
        """A file mapped into memory would end the process here."""
        module = Transform.of({"": torch.ones(1280, 32, 32)})
        write(Adapter("sdxl", {"w": ModuleConcept(ConceptInfo("w"), module, module)}), file)
        tensor = tensor_file.TensorFile.tensor

        def cut(self: tensor_file.TensorFile, name: str) -> torch.Tensor:
            os.truncate(file, 5000)
            return tensor(self, name)

        monkeypatch.setattr(tensor_file.TensorFile, "tensor", cut)
        with pytest.raises(AdapterFileError, match="it is truncated"):
            read(file)

    def test_a_file_written_to_while_it_is_read_is_refused(self, file, monkeypatch):
        write(random_adapter(), file)
        tensor = tensor_file.TensorFile.tensor

        def change(self: tensor_file.TensorFile, name: str) -> torch.Tensor:
            os.utime(file, ns=(1, 1))
            return tensor(self, name)

        monkeypatch.setattr(tensor_file.TensorFile, "tensor", change)
        with pytest.raises(AdapterFileError, match="it changed while it was read"):
            read(file)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are not everywhere")
    def test_nothing_waits_for_a_pipe(self, file):
        os.mkfifo(file)
        with pytest.raises(AdapterFileError, match="There is no adapter file"):
            read(file)
        with pytest.raises(tensor_file.TensorFileError, match="not a regular file"):
            tensor_file.TensorFile(file)

    def test_links_lead_to_files(self, file, tmp_path):
        file.symlink_to(tmp_path / "nowhere")
        with pytest.raises(AdapterFileError, match="There is no adapter file"):
            read(file)
        file.unlink()
        file.symlink_to(write(random_adapter(), tmp_path / "real.safetensors"))
        assert list(read(file).concepts) == ["woman"]

    def test_what_a_file_says_cannot_steer_the_terminal(self, file):
        clear = "\x1b[2J\x00\u202eevil\nwoman (safety"
        module = Transform.of({"": torch.ones(1, 1, 1)})
        info = ConceptInfo("w", target=clear, training={clear: clear})
        write(Adapter("sd15", {"w": ModuleConcept(info, module, module)}, metadata={"modelspec.title": clear}), file)
        shown = summarise(read(file))
        assert all(line.isprintable() for line in shown.splitlines())
        assert "\nwoman (safety" not in shown
        odd = file.with_name("odd\x1b[2J.safetensors")
        odd.write_bytes(b"")
        with pytest.raises(AdapterFileError) as refused:
            read(odd)
        assert str(refused.value).isprintable()


def memory_taken(code: str, *arguments: object) -> int:
    """By how many bytes a statement raises the most memory that a process has had."""
    script = (
        f"import sys; sys.path.append({str(Path(peak_memory.__file__).parent)!r}); import torch\n"
        "from peak_memory import peak_bytes\n"
        "from respodiff.respodiff_core.adapter import read, peek\n"
        "def refused(path):\n"
        "    try: peek(path)\n"
        "    except ValueError: return\n"
        "    raise SystemExit('was read')\n"
        "torch.ones(2).isfinite().all(); before = peak_bytes()\n"
        f"{code}\n"
        "print(peak_bytes() - before)"
    )
    done = subprocess.run([sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


class TestMemory:
    CONSTANT = 48 << 20

    def test_reading_takes_what_the_tensors_take(self, file):
        module = Transform.of({"": torch.ones(1280, 64, 64)})
        size = write(Adapter("sdxl", {"w": ModuleConcept(ConceptInfo("w"), module, module)}), file).stat().st_size
        assert memory_taken("kept = read(sys.argv[1])", file) < size + self.CONSTANT

    def test_headers_cannot_swell(self, tmp_path):
        for number, filling in enumerate((b"[],", b"{},", b"[[]],", b'"",', b"1,")):
            text = b'{"a":[' + filling * ((HEADER_LIMIT - 20) // len(filling)) + b"0]}"
            (tmp_path / f"{number}.safetensors").write_bytes(with_header(text))
        (tmp_path / "long.safetensors").write_bytes(with_header({"__metadata__": {"a": "x" * (50 << 20)}}))
        assert memory_taken("list(map(refused, sys.argv[1:]))", *tmp_path.iterdir()) < 3 * self.CONSTANT


RAM = torch.ones(ROWS, 10) * 0.1
RAM[:, 1] = 5


def saved(
    path: Path, change: Callable[[str, bytes], bytes] = lambda _, content: content, packing: int = zipfile.ZIP_STORED
) -> Path:
    """A reference file, each part of which (name, content) may be changed or packed."""
    whole = io.BytesIO()
    torch.save({RAM_NAME: RAM, SAM_NAME: RAM.clone()}, whole)
    with zipfile.ZipFile(whole) as before, zipfile.ZipFile(path, "w", packing) as after:
        for part in before.infolist():
            after.writestr(part.filename, change(part.filename, before.read(part)))
    return path


def with_part(path: Path, end: str, change: Callable[[bytes], bytes]) -> Path:
    """A reference file whose part of a name with that end was changed."""
    return saved(path, lambda name, content: change(content) if name.endswith(end) else content)


class TestPickles:
    @pytest.fixture
    def pickled(self, tmp_path) -> Path:
        return tmp_path / "unet.pth"

    def test_the_file_that_the_others_differ_from_is_good(self, pickled):
        assert list(import_weights(saved(pickled)).concepts) == ["man"]

    def test_numbers_that_are_not_there_are_not_read(self, pickled):
        with pytest.raises(AdapterFileError, match="should take 3276800 bytes, but has 8"):
            import_weights(with_part(pickled, "data/0", lambda _: bytes(8)))

    def test_a_storage_that_claims_more_than_it_has_is_refused(self, pickled):
        true, claimed = (b"J" + number.to_bytes(4, "little") for number in (ROWS * 10, 2**31 - 1))
        with pytest.raises(AdapterFileError, match="should take 8589934588 bytes"):
            import_weights(with_part(pickled, "data.pkl", lambda good: good.replace(true, claimed)))

    @pytest.mark.parametrize("tensor", [RAM.t().contiguous().t(), torch.ones(1, 1).expand(ROWS, 10)])
    def test_tensors_that_do_not_lie_as_they_look_are_refused(self, pickled, tensor):
        torch.save({RAM_NAME: tensor, SAM_NAME: tensor}, pickled)
        with pytest.raises(AdapterFileError, match="not contiguous"):
            import_weights(pickled)

    def test_a_file_packed_small_is_not_unpacked(self, pickled):
        with pytest.raises(AdapterFileError, match=r"data\.pkl' is compressed"):
            import_weights(saved(pickled, packing=zipfile.ZIP_DEFLATED))

    def test_a_flipped_bit_is_noticed(self, pickled):
        data = bytearray(saved(pickled).read_bytes())
        data[len(data) // 3] ^= 1
        pickled.write_bytes(data)
        with pytest.raises(AdapterFileError, match="CRC"):
            import_weights(pickled)

    def test_a_million_parts_are_not_listed(self, pickled):
        with zipfile.ZipFile(pickled, "w") as file:
            for number in range(30_000):
                file.writestr(f"{number:05d}", b"")
        with pytest.raises(AdapterFileError, match="too many parts"):
            import_weights(pickled)

    def test_a_list_of_parts_is_measured_where_zipfile_finds_it(self, pickled):
        """A locator of the larger form of a zip's end, that nothing stands before, is passed over by zipfile."""
        with zipfile.ZipFile(pickled, "w") as file:
            for number in range(30_000):
                file.writestr(f"{number:05d}", b"")
            file.infolist()[-1].comment = bytes(56) + b"PK\6\7" + bytes(16)
        with pytest.raises(AdapterFileError, match=r"is damaged|too many parts"):
            import_weights(pickled)

    @pytest.mark.parametrize(
        "pickle_of",
        [
            lambda _: pickle.dumps({"a": 1}, 2),
            lambda _: pickle.dumps(b"x" * 1000, 2),
            lambda _: b"\x80\x02" + b")" + b"\x85" * 60_000 + b"}" + b"h\x00s.",  # tuples in tuples in tuples
            lambda _: b"\x80\x02]r\xff\xff\xff\x7f.",  # a memo number that would fill the memory
            lambda _: b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f.",  # bytes that are not there
            lambda _: b"\x80\x02c__builtin__\neval\nX\x01\x00\x00\x001\x85R.",
            lambda good: good[:-1],
            lambda good: good.replace(b"FloatStorage", b"LongStorage\n"),
        ],
    )
    def test_pickles_of_other_things_are_refused(self, pickled, pickle_of):
        with pytest.raises(AdapterFileError, match="so it is not opened"):
            import_weights(with_part(pickled, "data.pkl", pickle_of))

    def test_two_names_for_one_column_are_refused(self, pickled):
        torch.save({RAM_NAME: RAM}, pickled)
        listing = pickled.with_name("concept_dict.json")
        for said, message in (
            (json.dumps({f"c{n}": 1 for n in range(1000)}), "two names to one column"),
            (json.dumps({"a": "1"}), "does not map names"),
            ("[" * 60_000, "cannot be read"),
            (json.dumps({"../a": 1}), "which is not allowed in names"),
        ):
            listing.write_text(said)
            with pytest.raises(AdapterFileError, match=message):
                import_weights(pickled)

    def test_a_long_config_beside_is_no_trouble(self, pickled):
        """Its lines are looked at one by one: no pattern that may take for ever."""
        saved(pickled).with_name("config.yaml").write_text("concept:" + "\n" * 60_000 + " - " * 20_000)
        assert list(import_weights(pickled).concepts) == ["man"]
