"""Reference results of short runs, for changes that must not change a bit: `--write FILE` before, `--check FILE` after.

Every job is a command line as a user would type it, so the script outlives whatever moves inside the package. A result is
`params_sha256`, what an audit counted, or a report without its seconds, its places and the passes that it cost. The bits
of a matrix product depend on the CPU and on torch's version, so a file holds only where it was written.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PROJECT_ROOT = Path(__file__).resolve().parents[1]
NETWORKS = ("glr", "straight-through")
ATTACKS = ("random-signs", "fgsm", "pgd", "bpda-pgd", "hopskipjump", "square", "exact")
KEPT = "model.channels=[8,16] estimator.scheme=layerwise estimator.copies=32 units.rows=64 noise.scale=0.5 optimizer.lr=3e-3"
TWO_CONVOLUTIONS = [
    part for setting in KEPT.split() for part in ("--set", setting)
]  # by copies, as the preset once was
VARYING = ("seconds", "checkpoint", "queries", "versions", "library")  # entries of a report that may differ
YOUNGER = ("intervals", "program", "broken")  # and such as the reference was written without


class Runs:
    """Runs in a scratch folder, made by the command line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made: dict[str, dict[str, Any]] = {}

    def command(self, *arguments: str) -> dict[str, Any]:
        """The JSON that a command ends with."""
        command = [sys.executable, "-m", "glr_dist.cli", *arguments, "--json"]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)}\nended with {done.returncode}\n{done.stdout}{done.stderr}")
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    def train(self, name: str, preset: str, *arguments: str) -> str:
        """Train a run once; its params_sha256."""
        if name not in self._made:
            place = ("--run-dir", str(self.folder / name))
            self._made[name] = self.command("train", preset, *place, *arguments)
        return str(self._made[name]["params_sha256"])

    def evaluate(self, workers: int) -> str:
        """A report's hash: two networks, a surrogate, every attack and corruption."""
        digits = ("--steps", "200", "--workers", "0")
        for network in NETWORKS:
            self.train(network, "digits-threshold", "--method", network, *digits)
        self.train("relu", "digits-threshold", "--method", "bp", "--set", "model.activation=relu", *digits)
        chosen = [part for attack in ATTACKS for part in ("--attack", attack)]
        report = self.command(
            *("evaluate", *(str(self.folder / network) for network in NETWORKS), *chosen),
            *("--surrogate", str(self.folder / "relu"), "--epsilon", "0.05", "--epsilon", "0.2"),
            *("--queries", "200", "--corruption", "all", "--count", "50", "--workers", str(workers)),
        )
        text = json.dumps(_lasting(report), indent=1, sort_keys=True)
        (self.folder / f"report-{workers}.json").write_text(text)  # to look at, where hashes differ
        return hashlib.sha256(text.encode()).hexdigest()


def jobs(runs: Runs, data_root: Path) -> Iterator[tuple[str, Callable[[], str]]]:
    """(name, how to get its result), the quick ones first."""
    alone, mnist = ("--workers", "0"), ("--data-root", str(data_root), "--workers", "0")
    relu = ("--set", "model.activation=relu")

    def digits(name: str, *arguments: str) -> tuple[str, Callable[[], str]]:
        return name, lambda: runs.train(name, "digits-threshold", *arguments)

    yield "digits", lambda: _digits(runs)
    for method, more in (("bp", relu), ("bp-noise", relu), ("straight-through", ()), ("es", ())):
        yield digits(f"control {method}", "--steps", "50", "--method", method, *more, *alone)
    yield digits("joint 0-1", "--steps", "50", "--loss", "zero-one", "--set", "estimator.scheme=joint", *alone)
    yield digits(
        *("generator laplace", "--steps", "50", "--set", "noise.source=generator", "--set", "noise.family=laplace"),
        *("--set", "estimator.antithetic=false", "--set", "units.copies=8", *alone),
    )
    yield digits(
        *("adversarial pgd", "--steps", "50", "--augment", "pgd", "--set", "augment.jitter=0.1"),
        *("--set", "augment.part=0.5", *alone),
    )
    yield "interrupted and resumed", lambda: _resumed(runs)
    yield "replayed", lambda: _replayed(runs)
    yield "verified", lambda: _verified(runs)
    if (data_root / "MNIST").is_dir():
        yield "mnist-conv", lambda: runs.train("conv", "mnist-conv", "--steps", "20", *TWO_CONVOLUTIONS, *mnist)
        yield "mnist-worst-flips", lambda: runs.train("flips", "mnist-worst-flips", "--steps", "50", *mnist)
    yield digits("digits, 2 workers", "--steps", "200", "--workers", "2")
    yield digits("digits, 1 worker, 1 reconstructor", "--steps", "200", "--workers", "1", "--reconstructors", "1")
    for workers in (0, 1, 2):
        yield f"evaluated, {workers} workers", lambda workers=workers: runs.evaluate(workers)


def _digits(runs: Runs) -> str:
    return runs.train("digits", "digits-threshold", "--steps", "200", "--workers", "0")


def _replayed(runs: Runs) -> str:
    _digits(runs)  # where that job was left out
    return str(runs.command("replay", str(runs.folder / "digits"))["params_sha256"])


def _resumed(runs: Runs) -> str:
    place = str(runs.folder / "resumed")
    runs.command(
        "train", "digits-threshold", *("--steps", "200", "--workers", "0", "--run-dir", place, "--seconds", "0.3")
    )
    return str(runs.command("train", "--resume", place, "--workers", "0")["params_sha256"])


def _verified(runs: Runs) -> str:
    _digits(runs)
    found = runs.command("verify", str(runs.folder / "digits"), "--share", "0.2", "--seed", "3")
    return f"{found['checked']} of {found['units']}, {len(found['differences'])} differ"


def _lasting(thing: Any) -> Any:
    """A report without what depends on the machine."""
    if isinstance(thing, dict):
        return {key: _lasting(value) for key, value in thing.items() if key not in (*VARYING, *YOUNGER)}
    return [_lasting(value) for value in thing] if isinstance(thing, list) else thing


def machine() -> dict[str, str]:
    """What the bits depend on: the CPU, by all that it says of itself but its speed, and the libraries that compute."""
    import numpy
    import torch

    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        known = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags", "Features", "CPU part")
        first = info.read_text().split("\n\n")[0].splitlines()
        told = [line for line in first if line.split(":")[0].strip() in known]
        cpu += " " + hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]
    capability = torch.backends.cpu.get_cpu_capability()
    return {"cpu": cpu, "capability": capability, "torch": torch.__version__, "numpy": numpy.__version__}


def main() -> None:
    """Write or check reference results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--write", metavar="FILE", type=Path)
    parser.add_argument("--check", metavar="FILE", type=Path)
    parser.add_argument("--only", metavar="TEXT", default="", help="jobs whose names hold this text")
    parser.add_argument("--keep", metavar="DIR", type=Path, help="make the runs there, and leave them")
    chosen = parser.parse_args()
    root = Path(os.environ.get("GLR_DIST_DATA", PROJECT_ROOT.parent / "shared" / "data"))
    wanted = json.loads(chosen.check.read_text()) if chosen.check else {"results": {}}
    if chosen.check and wanted["machine"] != machine():
        raise SystemExit(f"{chosen.check} was written on {wanted['machine']}, this is {machine()}")
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="glr_dist_bits_") as scratch:
        folder = chosen.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for name, job in jobs(Runs(folder), root):
            if chosen.only not in name:
                continue
            found[name] = job()
            before = wanted["results"].get(name)
            state = "" if before is None else "same" if before == found[name] else f"OTHER, was {before}"
            print(f"{name}: {found[name]} {state}", flush=True)
    if chosen.write:
        chosen.write.write_text(json.dumps({"machine": machine(), "results": found}, indent=1) + "\n")
    if any(wanted["results"].get(name, result) != result for name, result in found.items()):
        raise SystemExit("some results are not what they were")


if __name__ == "__main__":
    main()
