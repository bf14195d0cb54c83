"""Images in class folders: CLASS/IMAGE, or train/CLASS/IMAGE and perhaps val/CLASS/IMAGE and test/CLASS/IMAGE.

Images become uint8 [n, C, H, W]: one channel when every one is grey, else three. They are turned as their EXIF says; what is
transparent is put on white.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glr_dist.data.content import Features, Targets
from glr_dist.data.found import Found
from glr_dist.errors import UserError

VALIDATION = ("val", "valid", "validation", "dev")
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    VALIDATION, "validation"
)
ORDER = ("train", "validation", "test")
_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
_GREY_MODES = ("1", "L", "LA")
_COLOUR_MODES = ("P", "RGB", "RGBA", "CMYK", "YCbCr")
_BESIDE = ("__MACOSX", "__pycache__")

Pixels = NDArray[np.uint8]
Source = Path | bytes


@dataclass(frozen=True, kw_only=True)
class Look:
    """How images are shown: cut to their centred square, of so many pixels a side (0: as they are), grey."""

    resize: int = 0
    crop: bool = False
    grey: bool = False


def folders_in(path: Path) -> list[Path]:
    """The folders that may be classes or splits, sorted."""
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".") and p.name not in _BESIDE)


def split_folders(path: Path) -> dict[str, Path]:
    """The folders of a folder that are splits; {}: it has none called train."""
    found: dict[str, Path] = {}
    for folder in folders_in(path):
        split = SPLITS.get(folder.name.lower())
        if split is not None:
            if split in found:
                raise UserError(f"{folder} and {found[split]} are both the {split} split: keep one of them")
            found[split] = folder
    return {split: found[split] for split in ORDER if split in found} if "train" in found else {}


def read_image_folder(path: Path, look: Look) -> Found:
    """Read a folder of class folders, with or without splits above them.

    Raises:
        UserError: naming the file or folder that does not fit.
    """
    splits = split_folders(path)
    if splits:
        others = [folder.name for folder in folders_in(path) if folder not in splits.values()]
        if others:
            raise UserError(f"{path / others[0]} is neither a split nor in one: put it under train, or take it away")
    listed = {split: _list(folder) for split, folder in (splits or {"train": path}).items()}
    classes = tuple(listed["train"])
    for split, of_class in listed.items():
        strangers = sorted(set(of_class) - set(classes))
        if strangers:
            train = splits["train"]
            raise UserError(f"{splits[split] / strangers[0]} is a class that {train} has not: remove or rename it")
    sources = {split: [file for files in of_class.values() for file in files] for split, of_class in listed.items()}
    images, notes = decode(sources, look, str)
    labels = {
        split: np.repeat([classes.index(name) for name in of_class], [len(files) for files in of_class.values()])
        for split, of_class in listed.items()
    }
    kind = f"class folders of images in {'split' if len(splits) > 1 else 'one'} folder{'s' if len(splits) > 1 else ''}"
    pairs: dict[str, tuple[Features, Targets]] = {s: (images[s], labels[s].astype(np.int64)) for s in listed}
    return Found(kind=kind, splits=pairs, classes=classes, notes=notes)


def decode(
    sources: dict[str, list[Source]] | dict[str, list[Path]], look: Look, name: Callable[[Any], str]
) -> tuple[dict[str, Pixels], list[str]]:
    """Decode all images, files or their bytes, by split: uint8 [n, C, H, W], and notes of what was done to them.

    ``name``: what to call one in a message.
    """
    every = [source for group in sources.values() for source in group]
    modes = [_mode(source, name) for source in every]
    mode = "L" if look.grey or all(m in _GREY_MODES for m in modes) else "RGB"
    counts = {"transparent": 0, "turned": 0}
    decoded: dict[str, Pixels] = {}
    first: tuple[str, tuple[int, ...]] | None = None
    for split, group in sources.items():
        images = []
        for source in group:
            images.append(_decoded(source, mode, look, name, counts))
            first = first or (name(source), images[0].shape)
            if images[-1].shape != first[1]:
                raise UserError(
                    f"{name(source)} is {images[-1].shape[1:]} pixels (height, width) and {first[0]} is {first[1][1:]}:"
                    " make all images the same size, such as by --set data.resize=32"
                )
        decoded[split] = np.stack(images)
    notes = []
    if counts["transparent"]:
        notes.append(f"{counts['transparent']} of {len(every)} images are transparent in places; they are put on white")
    if counts["turned"]:
        notes.append(f"{counts['turned']} of {len(every)} images are turned as their EXIF says")
    return decoded, notes


def _list(folder: Path) -> dict[str, list[Path]]:
    """The images of each class folder, sorted; refuses one without any."""
    found = {}
    for each in folders_in(folder):
        files = sorted(f for f in each.rglob("*") if f.suffix.lower() in _SUFFIXES and not f.name.startswith("."))
        if not files:
            raise UserError(
                f"{each} holds no images ({', '.join(_SUFFIXES[:4])}, ...): take the folder away, or fill it"
            )
        found[each.name] = files
    if not found:
        raise UserError(f"{folder} has no class folders: put the images of each class into a folder of its name")
    return found


def _opened(source: Source) -> Any:
    from PIL import Image

    return Image.open(source if isinstance(source, Path) else io.BytesIO(source))


def _mode(source: Source, name: Callable[[Any], str]) -> str:
    from PIL import UnidentifiedImageError

    try:
        with _opened(source) as image:
            mode = str(image.mode)
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"{name(source)} is no readable image: remove or replace it") from error
    if mode not in (*_GREY_MODES, *_COLOUR_MODES):
        raise UserError(f"{name(source)} has pixels of mode {mode!r}: save it with 8 bits a channel, grey or RGB")
    return mode


def _decoded(source: Source, mode: str, look: Look, name: Callable[[Any], str], counts: dict[str, int]) -> Pixels:
    """uint8 [C, H, W]."""
    from PIL import Image, ImageOps

    try:
        with _opened(source) as image:
            turned = ImageOps.exif_transpose(image)
            counts["turned"] += turned.size != image.size or image.getexif().get(0x0112, 1) != 1
            if turned.has_transparency_data:
                layer = turned.convert("RGBA")
                counts["transparent"] += layer.getchannel("A").getextrema() != (255, 255)
                turned = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
            shown = turned.convert(mode)
            side = min(shown.size)
            if look.crop:
                shown = ImageOps.fit(shown, (side, side))
            if look.resize:
                shown = shown.resize((look.resize, look.resize), Image.Resampling.BILINEAR)
            pixels = np.asarray(shown)
    except (OSError, SyntaxError) as error:
        raise UserError(f"{name(source)} is cut short or damaged: remove or replace it") from error
    return pixels[None] if mode == "L" else pixels.transpose(2, 0, 1)


def is_image(file: Path) -> bool:
    """Whether a file is called like an image."""
    return file.suffix.lower() in _SUFFIXES


def named(sources: Sequence[Source]) -> Callable[[Source], str]:
    """Names for images that are no files: their row's number."""
    numbers = {id(source): number for number, source in enumerate(sources)}
    return lambda source: f"the image of row {numbers[id(source)]}"
