"""The settings of a network."""

from __future__ import annotations

from dataclasses import dataclass

from glr_dist.errors import UserError, check_known

KINDS = ("mlp", "conv", "factory")
ACTIVATIONS = ("heaviside", "sigmoid", "relu", "tanh")
READ_BY = {  # keys that not every kind looks at
    "factory": ("factory",),
    "hidden": ("mlp",),
    "channels": ("conv",),
    "kernel": ("conv",),
    "stride": ("conv",),
    "activation": ("mlp", "conv"),
}


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network.

    Attributes:
        kind: ``mlp``, ``conv`` or ``factory``.
        hidden: widths of an mlp's hidden layers.
        channels: maps of a conv net's convolutions.
        kernel: side of its kernels, in pixels.
        stride: their step, in pixels.
        activation: heaviside, sigmoid, relu or tanh.
        input_threshold: mlp and conv see a pixel as 1 where it is at least this, in (0, 1), else as 0; 0: as it is.
        input_thresholds: the same with several units for each pixel, one for each threshold, which ascend; (): none.
        input_mean: mlp and conv see (pixel - input_mean) / input_std, as with torchvision's Normalize.
        input_std: see input_mean.
        init_std: standard deviation of the initial weights (biases 0); 0 keeps PyTorch's initialisation.
        factory: a class or function of your own, ``FILE.py:NAME`` or ``MODULE:NAME``, for kind ``factory`` (``--model``
            sets both); called with nothing, or with (shape, classes): of one example's inputs, and how many outputs.
    """

    kind: str = "mlp"
    hidden: tuple[int, ...] = (50,)
    channels: tuple[int, ...] = (8, 16)
    kernel: int = 5
    stride: int = 2
    activation: str = "heaviside"
    input_threshold: float = 0.0
    input_thresholds: tuple[float, ...] = ()
    input_mean: float = 0.0
    input_std: float = 1.0
    init_std: float = 0.0
    factory: str = ""

    def check(self) -> None:
        """Raise UserError for values outside their range."""
        check_known("model.kind", self.kind, KINDS)
        for field in ("hidden", "channels"):
            if any(width < 1 for width in getattr(self, field)):
                raise UserError(f"model.{field} = {list(getattr(self, field))}: every layer needs at least 1 unit")
        for field in ("kernel", "stride"):
            if getattr(self, field) < 1:
                raise UserError(f"model.{field} = {getattr(self, field)}: must be at least 1")
        check_known("model.activation", self.activation, ACTIVATIONS)
        if not 0 <= self.input_threshold < 1:
            raise UserError(
                f"model.input_threshold = {self.input_threshold}: must be above 0 and below 1, as pixels are; 0: none"
            )
        self._check_thresholds()
        if self.input_std <= 0:
            raise UserError(f"model.input_std = {self.input_std}: must be above 0")
        standardized = (self.input_mean, self.input_std) != (0.0, 1.0)
        if (self.input_threshold or self.input_thresholds) and standardized:
            raise UserError(
                f"model.input_threshold = {self.input_threshold}, model.input_thresholds = {list(self.input_thresholds)}:"
                " what they let through is 0 or 1; leave model.input_mean and model.input_std out"
            )
        if self.kind == "factory" and (self.input_threshold or self.input_thresholds or standardized):
            raise UserError(
                "model.input_threshold, model.input_thresholds, model.input_mean, model.input_std: are for kinds mlp and"
                " conv; put InputThreshold, Thermometer or Standardize of glr_dist.models.networks into the network that"
                " your factory builds"
            )
        if self.init_std < 0:
            raise UserError(f"model.init_std = {self.init_std}: must be 0 or more")
        if self.kind == "factory" and not (self.factory.rpartition(":")[0] and self.factory.rpartition(":")[2]):
            raise UserError(
                f"model.factory = {self.factory!r}: write it as FILE.py:NAME or MODULE:NAME, such as my_net.py:Net"
            )
        self._refuse_idle()

    def _refuse_idle(self) -> None:
        """Raise UserError for a key with another value than its default's that a network of this kind never looks at."""
        for key, kinds in READ_BY.items():
            value = getattr(self, key)
            if self.kind not in kinds and value != getattr(ModelConfig, key):
                shown = list(value) if isinstance(value, tuple) else value
                instead = " or ".join(f"model.kind={kind}" for kind in kinds)
                raise UserError(
                    f"model.{key} = {shown!r}: changes nothing with model.kind = {self.kind!r}; leave it out, or add --set"
                    f" {instead}"
                )

    def _check_thresholds(self) -> None:
        several = self.input_thresholds
        ascend = all(0 < low < high for low, high in zip((1e-30, *several), several, strict=False))
        if several and not (ascend and several[-1] < 1):
            raise UserError(
                f"model.input_thresholds = {list(several)}: must ascend, above 0 and below 1, as pixels are"
            )
        if several and self.input_threshold:
            raise UserError(
                f"model.input_threshold = {self.input_threshold}: stands beside model.input_thresholds; leave one of them"
                " out"
            )
