"""The settings of the data."""

from __future__ import annotations

from dataclasses import dataclass

from glr_dist.errors import UserError, check_known, nearest

NAMES = ("digits", "mnist", "fashion-mnist", "cifar10")  # named data sets
OTHERS = ("parquet", "files", "factory")
TARGETS = ("classes", "numbers")
_READ_BY = {  # keys that not every kind of data looks at
    "factory": ("factory",),
    "label": ("files",),
    "drop": ("files",),
    "targets": ("files",),
    "test": ("files",),
    "crop": ("files",),
    "grey": ("files",),
    "standardize": ("files",),
}


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which data set, and how it is cut and shown.

    Attributes:
        name: digits, mnist, fashion-mnist, cifar10; ``files``: what ``root`` is (``--data PATH`` sets both); ``parquet``: a
            folder of shards that ``glr-dist data prepare`` wrote; ``factory``: what ``factory`` makes.
        root: of a named set the folder in torchvision's layout ("": downloaded), of ``parquet`` that of the shards, of
            ``files`` a folder of images in class folders, or .npz, .csv, .tsv, .parquet, .arff, .libsvm.
        factory: for ``factory``: a function of your own, ``FILE.py:NAME`` or ``MODULE:NAME``, called with nothing; it
            returns a torch Dataset, a glr_dist.ArrayDataset, or a pair (train, test) of torch Datasets or of pairs (x, y).
        label: of a table the column to predict, or several of numbers; "": one called like a label, else the last.
        drop: columns of a table to leave out.
        targets: ``classes`` or ``numbers``; "": numbers where the column holds fractions, or several are predicted.
        test: of ``files``: share of the rows that becomes the test split, where there is none.
        resize: side of the images in pixels, 0: as stored. Of ``files`` with antialiasing; else bilinear without, so that
            half the size is the 2x2 mean.
        crop: of ``files``: cut images to their centred square first.
        grey: of ``files``: make images grey.
        standardize: of a table's columns: subtract the training rows' mean and divide by their standard deviation.
        validation: share of each training shard held out, where the data bring no validation rows; the same for every run.
        shards: number of training shards; of ``files`` fewer where they would have less than 1,024 rows each.
        cache: where prepared shards of named data sets live; "" = $XDG_CACHE_HOME/glr_dist or ~/.cache/glr_dist.
    """

    name: str = "digits"
    root: str = ""
    factory: str = ""
    label: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    targets: str = ""
    test: float = 0.2
    resize: int = 0
    crop: bool = False
    grey: bool = False
    standardize: bool = True
    validation: float = 0.1
    shards: int = 8
    cache: str = ""

    def check(self) -> None:
        """Raise UserError naming the first field whose value can't be."""
        names = (*NAMES, *OTHERS)
        if self.name not in names:
            raise UserError(f"data.name is {self.name!r}: {nearest(self.name, names)}; or give --data PATH")
        if self.name == "parquet" and not self.root:
            raise UserError("data.name is 'parquet' but data.root is empty: give the folder of shards (--data-root)")
        if self.name == "files" and not self.root:
            raise UserError("data.name is 'files' but data.root is empty: give the file or folder (--data PATH)")
        if self.name == "factory" and not (self.factory.rpartition(":")[0] and self.factory.rpartition(":")[2]):
            raise UserError(
                f"data.factory = {self.factory!r}: write it as FILE.py:NAME or MODULE:NAME, such as my_data.py:make"
            )
        if self.targets:
            check_known("data.targets", self.targets, TARGETS)
        if self.resize < 0:
            raise UserError(f"data.resize is {self.resize}: give a side in pixels, or 0 for the stored size")
        if not 0 <= self.test < 1:
            raise UserError(f"data.test is {self.test}: give a share of at least 0 and below 1, such as 0.2")
        check_split_options(self.validation, self.shards)
        for key, readers in _READ_BY.items():
            if self.name not in readers and (value := getattr(self, key)) != getattr(DataConfig, key):
                shown = list(value) if isinstance(value, tuple) else value
                how = "--data PATH" if readers == ("files",) else f"data.name = {readers[0]!r}"
                raise UserError(
                    f"data.{key} = {shown!r}: changes nothing with data.name = {self.name!r}; leave it out, or use {how}"
                )


def check_split_options(validation: float, shards: int) -> None:
    """Raise UserError for a validation share outside [0, 1) or a number of training shards below 1."""
    if not 0 <= validation < 1:
        raise UserError(f"data.validation is {validation}: give a share of at least 0 and below 1, such as 0.1")
    if shards < 1:
        raise UserError(f"data.shards is {shards}: give at least 1")
