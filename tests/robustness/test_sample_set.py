"""Stored adversarial samples: what is in the files, and what is refused on reading."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from small_nets import digits, network
from torch.nn.functional import cross_entropy

from glr_dist.attacks.attack import named_attack
from glr_dist.data.arrays import ArrayDataset
from glr_dist.errors import UserError
from glr_dist.robustness.making import attack_set
from glr_dist.robustness.sample_set import open_set, sets_at
from glr_dist.robustness.selection import Selection

FGSM = named_attack("fgsm", epsilon=0.1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """FGSM of 150 digits: two files."""
    attack_set(network(), digits(), FGSM, str(tmp_path / "set"), selection=Selection(count=150))
    return tmp_path / "set"


def test_the_files_hold_fgsm_of_the_chosen_samples(folder: Path) -> None:
    files = sorted(folder.glob("*.parquet"))
    assert [file.name for file in files] == ["samples-00000.parquet", "samples-00001.parquet"]
    table = pa.concat_tables([pq.read_table(file) for file in files])
    assert table.schema.field("x_adv").type == pa.list_(pa.float32(), 64)
    ((x, labels),) = digits().batches("test", 10_000)
    index = torch.from_numpy(table["index"].to_numpy().copy())
    clean, truth = x[index].requires_grad_(), labels[index]
    model = network().model
    (gradient,) = torch.autograd.grad(cross_entropy(model(clean), truth), clean)
    expected = (clean.detach() + 0.1 * gradient.sign()).clamp(0, 1)
    found = np.stack(table["x_adv"].to_pylist()).astype(np.float32)
    np.testing.assert_allclose(found, expected.flatten(1).numpy(), atol=1e-6)
    assert np.array_equal(table["label"].to_numpy(), truth.numpy())
    assert np.array_equal(table["before"].to_numpy(), model(x[index]).argmax(1).numpy())
    assert np.array_equal(table["after"].to_numpy(), model(expected).argmax(1).numpy())


def test_the_metadata_say_what_was_made_of_what(folder: Path) -> None:
    meta = json.loads((folder / "meta.json").read_text())
    assert (meta["attack"]["name"], meta["norm"], meta["eps"], meta["count"]) == ("fgsm", "L-infinity", 0.1, 150)
    assert meta["surrogate"]["sha256"] == network().sha256
    assert (meta["data"]["fingerprint"], meta["data"]["split"]) == (digits().fingerprint, "test")
    assert (meta["shape"], meta["seed"], meta["without_gradient"]) == ([1, 8, 8], 0, 0)
    assert {"glr_dist", "torch", "numpy"} <= set(meta["versions"])
    for file in meta["files"]:
        assert hashlib.sha256((folder / file["name"]).read_bytes()).hexdigest() == file["sha256"]
    assert [file["rows"] for file in meta["files"]] == [100, 50]


def test_any_samples_can_be_fetched_across_files(folder: Path) -> None:
    stored = open_set(str(folder), digits(), "test")
    assert np.array_equal(stored.indices, Selection(count=150).of(digits()))
    table = pa.concat_tables([pq.read_table(file) for file in sorted(folder.glob("*.parquet"))])
    batch = stored.batch(stored.indices[[3, 99, 100, 149]])
    assert np.array_equal(batch.x.reshape(4, 64), np.stack(table["x_adv"].to_pylist())[[3, 99, 100, 149]])
    assert stored.attack == FGSM


def test_a_set_of_an_older_version_whose_draws_were_left_open_has_the_usual_number(tmp_path: Path) -> None:
    signs = named_attack("random-signs", epsilon=0.1)
    attack_set(network(), digits(), signs, str(tmp_path), selection=Selection(count=5))
    meta = json.loads((tmp_path / "meta.json").read_text())
    meta["attack"] |= {"draws": 0, "steps": 40, "queries": 5000}  # it wrote the settings of all attacks
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    found = open_set(str(tmp_path), digits(), "test").attack
    assert (found.words, found.settings()) == ("1000 draws", {"draws": 1000})
    assert found.seed_text() == signs.seed_text()


def test_a_set_that_is_whole_is_not_made_again_and_a_harmed_one_is(folder: Path) -> None:
    before = {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in folder.iterdir()}
    meta = json.loads((folder / "meta.json").read_text())
    said: list[str] = []
    made: list[int] = []

    def again(count: int = 150) -> dict[str, Any]:
        return attack_set(
            *(network(), digits(), FGSM, str(folder)),
            selection=Selection(count=count),
            say=said.append,
            show=lambda done, jobs, last: made.append(done),
        )

    assert again() == meta
    assert (said, made) == ([f"note: {folder} holds these samples already, all of them; nothing to do"], [])
    assert {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in folder.iterdir()} == before
    flipped_bit(folder)
    assert again() == meta
    assert made == [1, 2]
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {
        name: data for name, (data, _) in before.items()
    }
    with pytest.raises(UserError, match="holds another set of samples"):
        again(140)
    (folder / "meta.json").unlink()  # as after an interruption
    again(90)
    assert len(list(folder.glob("*.parquet"))) == 1


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("do not lose me")
    with pytest.raises(UserError, match=r"is not empty \(it holds thesis.tex\)"):
        attack_set(network(), digits(), FGSM, str(tmp_path))
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_attacks_that_make_no_set_and_surrogates_without_a_gradient_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--attack exact: makes no set"):
        attack_set(network(), digits(), named_attack("exact", epsilon=0.1), str(tmp_path / "set"))
    with pytest.raises(UserError, match="nets/heaviside-12-0: the network has no gradient"):
        attack_set(network("heaviside"), digits(), FGSM, str(tmp_path / "set"))
    assert not (tmp_path / "set").exists()


def rewritten(folder: Path, **columns: Callable[[np.ndarray], pa.Array]) -> None:
    """Change columns of the first file, and its hash in the metadata."""
    file = folder / "samples-00000.parquet"
    table = pq.read_table(file)
    for name, change in columns.items():
        values = table[name].combine_chunks()
        flat = values.flatten() if name == "x_adv" else values
        place = table.column_names.index(name)
        table = table.set_column(place, name, change(flat.to_numpy(zero_copy_only=False).copy()))
    pq.write_table(table, file)
    edited(folder, lambda meta: meta["files"][0].update(sha256=hashlib.sha256(file.read_bytes()).hexdigest()))


def edited(folder: Path, change: Callable[[dict], object]) -> None:
    meta = json.loads((folder / "meta.json").read_text())
    change(meta)
    (folder / "meta.json").write_text(json.dumps(meta))


def pixels(values: np.ndarray, kind: pa.DataType | None = None, size: int = 64) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values, kind or pa.float32()), size)


def with_first(value: float) -> Callable[[np.ndarray], pa.Array]:
    def change(values: np.ndarray) -> pa.Array:
        values[0] = value
        return pixels(values)

    return change


def flipped_bit(folder: Path) -> None:
    file = folder / "samples-00001.parquet"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("harm", "mention"),
    [
        (lambda f: (f / "meta.json").unlink(), "there is no meta.json"),
        (lambda f: (f / "meta.json").write_text("{"), "meta.json is damaged"),
        (lambda f: edited(f, lambda m: m.update(format=99)), "none of this version's"),
        (lambda f: edited(f, lambda m: m["attack"].update(epsilon=float("nan"))), "none of this version's"),
        (lambda f: edited(f, lambda m: m["attack"].update(name="exact")), "what a file claims is no proof"),
        (lambda f: edited(f, lambda m: m["files"].clear()), "holds no samples"),
        (lambda f: edited(f, lambda m: m["files"].reverse()), "not in the order of their index"),
        (lambda f: edited(f, lambda m: m.update(shape=[1, 4, 16])), r"shape \[1, 4, 16\], arrays has \[1, 8, 8\]"),
        (lambda f: edited(f, lambda m: m["data"].update(fingerprint="f")), "made of other data"),
        (lambda f: edited(f, lambda m: m["data"].update(split="train")), "give --split train"),
        (lambda f: (f / "samples-00001.parquet").unlink(), "samples-00001.parquet is missing"),
        (flipped_bit, "does not match its SHA-256"),
        (lambda f: rewritten(f, x_adv=lambda v: pixels((v * 255).astype(np.uint8), pa.uint8())), "uint8"),
        (lambda f: rewritten(f, x_adv=lambda v: pixels(v[: 32 * 100], size=32)), r"\[32\]"),
        (lambda f: rewritten(f, x_adv=lambda v: pixels(v * 255)), r"not in \[0, 1\] \(divide bytes by 255\)"),
        (lambda f: rewritten(f, x_adv=with_first(float("nan"))), "not finite"),
        (lambda f: rewritten(f, x_adv=with_first(0.9)), "more than eps = 0.1"),
        (lambda f: rewritten(f, index=lambda v: pa.array(v + 1000)), "outside 0..358"),
        (lambda f: rewritten(f, label=lambda v: pa.array((v + 1) % 10)), "labels are not those"),
    ],
)
def test_a_harmed_set_is_refused_in_one_line(folder: Path, harm: Callable[[Path], object], mention: str) -> None:
    harm(folder)
    with pytest.raises(UserError, match=mention) as caught:
        open_set(str(folder), digits(), "test")
    assert str(caught.value).startswith(f"--samples {folder}")
    assert "\n" not in str(caught.value)


def test_the_same_data_in_other_shards_are_other_data(folder: Path) -> None:
    with pytest.raises(UserError, match="other shards"):
        open_set(str(folder), digits(5), "test")


def test_data_of_another_shape_are_refused(folder: Path) -> None:
    wide = ArrayDataset((np.zeros((20, 1, 8, 16), np.uint8), np.zeros(20, np.int64)))
    with pytest.raises(UserError, match=r"shape \[1, 8, 8\], arrays has \[1, 8, 16\]"):
        open_set(str(folder), wide, "test")


def test_several_sizes_are_named_by_the_folder_that_holds_them(tmp_path: Path) -> None:
    for size in (0.2, 0.05, 0.1):
        attack = named_attack("fgsm", epsilon=size)
        attack_set(network(), digits(), attack, str(tmp_path / f"eps-{size:g}"), selection=Selection(count=10))
    (tmp_path / "notes.txt").write_text("mine")
    assert sets_at(str(tmp_path)) == [str(tmp_path / f"eps-{size:g}") for size in (0.05, 0.1, 0.2)]
    assert sets_at(str(tmp_path / "eps-0.1")) == [str(tmp_path / "eps-0.1")]
    assert sets_at(str(tmp_path / "none")) == [str(tmp_path / "none")]  # of which `open_set` says what it lacks


def test_a_small_file_of_many_samples_is_refused_before_it_is_read(folder: Path) -> None:
    rows = 2_000_000
    columns = {"x_adv": pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(rows * 64, np.float32)), 64)}
    columns |= {name: pa.array(np.zeros(rows, np.int64)) for name in ("index", "label", "before", "after")}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    data = sink.getvalue().to_pybytes()
    assert len(data) < 500_000
    (folder / "samples-00000.parquet").write_bytes(data)
    meta = json.loads((folder / "meta.json").read_text())
    meta["files"][0]["sha256"] = hashlib.sha256(data).hexdigest()
    (folder / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(UserError, match=r"has 2,000,000 samples that take .* bytes of memory, and 359 can be in it"):
        open_set(str(folder), digits(), "test")


VALUES = [None, True, -1, 2.5, "", "x", [], [1], {}, {"a": 1}]


def test_malformed_metadata_are_told_in_a_line(folder: Path) -> None:
    """Each value in the place of each other one, and each left out."""
    file = folder / "meta.json"
    whole = json.loads(file.read_text())
    for key, said in whole.items():
        inner = [(key, name) for name in said] if isinstance(said, dict) else []
        for place in [(key,), *inner]:
            for value in [*VALUES, ...]:
                meta = json.loads(json.dumps(whole))
                table = meta if len(place) == 1 else meta[place[0]]
                if value is ...:
                    del table[place[-1]]
                else:
                    table[place[-1]] = value
                file.write_text(json.dumps(meta))
                with suppress(UserError):  # and nothing else
                    open_set(str(folder), digits(), "test")
    for text in ("", "[]", "null", "{", "[" * 100_000, "\xff"):
        file.write_text(text, encoding="latin-1")
        with pytest.raises(UserError, match="--samples"):
            open_set(str(folder), digits(), "test")
