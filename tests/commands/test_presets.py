"""``glr-dist presets``: the list, and one preset whole."""

from __future__ import annotations

import tomllib

from command_line import call, refused


def test_presets_are_listed_with_what_they_are_and_printed_whole() -> None:
    listed = call("presets").stdout
    for name in ("digits-threshold", "mnist-threshold", "mnist-sigmoid-zero-one", "mnist-conv"):
        assert name in listed
    assert "Handwritten digits" in listed
    assert tomllib.loads(call("presets", "mnist-zero-one").stdout)["loss"] == "zero-one"


def test_an_unknown_preset_is_not_printed() -> None:
    refused(call("presets", "digits"), "'digits'", "did you mean 'digits-threshold'?")
