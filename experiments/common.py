"""Provides what all experiments share: their environment, claims and result files."""

import datetime
import json
import os
import platform
import statistics
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cryojax_seg.evaluate import Claim

RESULTS = Path(__file__).resolve().parent / "results"


def environment() -> dict[str, Any]:
    """Return Python, JAX, device, cores, commit and date of this run."""
    import jax

    device = jax.devices()[0]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "python": platform.python_version(),
        "jax": jax.__version__,
        "device": f"{device.platform}: {device.device_kind}",
        "cores": cores,
        "commit": _commit(),
        "date": datetime.date.today().isoformat(),
    }


def _commit() -> str:
    """Return the commit, with "-dirty" if anything but results differs from it."""
    folder = RESULTS.parent.parent

    def git(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=20
        )

    try:
        commit = git("rev-parse", "--short=12", "HEAD")
        changed = git("diff", "--quiet", "HEAD", "--", ".", ":!experiments/results")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    if commit.returncode:
        return "unknown"
    return commit.stdout.strip() + ("-dirty" if changed.returncode else "")


def claim(
    name: str, value: float | None, at_most: float | None = None, at_least: float | None = None
) -> dict[str, Any]:
    """Return a measured number with its goal; a number of None was not measured and is not met.

    >>> claim("forward / torch", 1.2, at_most=1.5)["met"]
    True
    """
    met = (
        value is not None
        and (at_most is None or value <= at_most)
        and (at_least is None or value >= at_least)
    )
    goals = [
        f"<= {at_most:g}" if at_most is not None else "",
        f">= {at_least:g}" if at_least is not None else "",
    ]
    return {
        "name": name,
        "value": value,
        "goal": " and ".join(g for g in goals if g),
        "met": bool(met),
    }


def resolved(one: Claim) -> dict[str, Any]:
    """Return a claim whose interval decides it, as `claim` does.

    >>> resolved(Claim("better", 0.1, (-0.1, 0.3), goal=0.0))["verdict"]
    'not resolved'
    """
    limit = {"at_most": one.goal} if one.at_most else {"at_least": one.goal}
    told = {
        "interval": None if one.interval is None else list(one.interval),
        "verdict": one.verdict,
        "met": one.verdict == "met",
    }
    return {**claim(one.name, one.value, **limit), **told}


def over_seeds(
    name: str, values: Sequence[float], goal: float, at_most: bool = False
) -> dict[str, Any]:
    """Return the claim that the mean over seeds reaches a goal, which its interval decides.

    The goal is the least value, or the largest one if `at_most`. A single seed
    resolves nothing.

    >>> over_seeds("gain", [0.02, 0.03, 0.04], 0.0)["verdict"]
    'met'
    >>> over_seeds("gain", [0.03], 0.0)["verdict"]
    'not resolved'
    """
    mean, low, high = interval(values)
    ends = None if low is None or high is None else (low, high)
    return {**resolved(Claim(name, mean or 0.0, ends, goal, at_most)), "value": mean}


def between(
    name: str, value: float, ends: Sequence[float] | None, at_least: float, at_most: float
) -> dict[str, Any]:
    """Return the claim that a value lies between two goals, which its interval decides.

    >>> between("coverage", 0.95, (0.92, 0.97), 0.9, 0.98)["verdict"]
    'met'
    >>> between("coverage", 0.95, (0.85, 0.97), 0.9, 0.98)["verdict"]
    'not resolved'
    """
    pair = None if ends is None else (ends[0], ends[1])
    sides = (Claim(name, value, pair, at_least), Claim(name, value, pair, at_most, at_most=True))
    found = {side.verdict for side in sides}
    verdict = next((v for v in ("missed", "not resolved") if v in found), "met")
    told = {"interval": ends and list(ends), "verdict": verdict, "met": verdict == "met"}
    return {**claim(name, value, at_least=at_least, at_most=at_most), **told}


def of(records: Sequence[Mapping[str, Any]], **key: Any) -> list[dict[str, Any]]:
    """Return the records with this key, in the order of their seeds.

    >>> [r["dice"] for r in of([{"seed": 1, "dice": 0.7}, {"seed": 0, "dice": 0.6}])]
    [0.6, 0.7]
    """
    kept = [dict(r) for r in records if all(r[k] == v for k, v in key.items())]
    return sorted(kept, key=lambda r: r["seed"])


def results_folder(tiny: bool) -> Path:
    """Return the folder of results: beside the experiments, or temporary for a tiny run."""
    folder = Path(tempfile.gettempdir()) / "cryojax-seg-tiny" if tiny else RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_results(
    name: str,
    config: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    claims: Sequence[Mapping[str, Any]],
    *,
    tiny: bool = False,
    earlier: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Write ``NAME.json`` with config, environment, rows and claims, and print the claims.

    The environments of earlier sittings, in which a part of the rows was made, are kept too.
    A tiny run never overwrites the results of a full one: it writes to the temporary folder.
    """
    path = results_folder(tiny) / f"{name}.json"
    content = {
        "config": dict(config),
        "environment": environment() | ({"earlier": [*earlier]} if earlier else {}),
        "rows": [dict(row) for row in rows],
        "claims": [dict(c) for c in claims],
    }
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    os.replace(temporary, path)
    for c in claims:
        verdict = c.get("verdict") or ("met" if c["met"] else "missed")
        value = "not measured" if c["value"] is None else f"{c['value']:.4g}"
        if c.get("interval") and None not in c["interval"]:
            value += " [" + ", ".join(f"{v:.4g}" for v in c["interval"]) + "]"
        print(f"{c['name']}: {value} (goal {c['goal']}) {verdict}")
    print(f"wrote {path}")
    return path


_SITTING = "environment of this sitting"


def _parsed(line: str) -> dict[str, Any] | None:
    """Return the record on a line, or None for a line that was cut off when the run was killed."""
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None


class Rows:
    """Keeps the records of an experiment on disk, so that an interrupted run continues.

    They are kept beside the result, in ``NAME.partial.jsonl``, until `finish` writes the result.
    Once that file is committed, another machine can go on. Its first line is the config, and the
    environment of each sitting comes before the records that were made in it. Records made with
    another config are discarded. Compiled programs and memory are kept too.

    Args:
        name: name of the experiment.
        config: its config as plain values.
        tiny: as for `write_results`.
    """

    def __init__(self, name: str, config: Mapping[str, Any], tiny: bool):
        from cryojax_seg.runtime import keep_compiled, keep_memory

        keep_compiled()
        keep_memory()
        self.name, self.config, self.tiny = name, json.loads(json.dumps(dict(config))), tiny
        self.path = results_folder(tiny) / f"{name}.partial.jsonl"
        self.records: list[dict[str, Any]] = []
        self.earlier: list[dict[str, Any]] = []
        lines: list[dict[str, Any]] = [self.config]
        if self.path.exists():
            kept = [_parsed(line) for line in self.path.read_text().splitlines()]
            if kept and kept[0] == self.config:
                lines = [line for line in kept if line is not None]
                self.records = [line for line in lines[1:] if _SITTING not in line]
                self.earlier = [line[_SITTING] for line in lines if _SITTING in line]
                print(f"going on: {len(self.records)} records in {self.path}", flush=True)
        lines.append({_SITTING: environment()})
        temporary = self.path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines))
        os.replace(temporary, self.path)

    def done(self, **key: Any) -> dict[str, Any] | None:
        """Return the record that was added with this key, or None."""
        key = json.loads(json.dumps(key))
        return next((r for r in self.records if all(r.get(k) == v for k, v in key.items())), None)

    def add(self, key: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
        """Add a record; it is on disk when this returns."""
        record = json.loads(json.dumps({**key, **values}))
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")
        self.records.append(record)
        return record

    def finish(
        self, rows: Sequence[Mapping[str, Any]], claims: Sequence[Mapping[str, Any]]
    ) -> Path:
        """Write the result and remove the partial records."""
        path = write_results(
            self.name, self.config, rows, claims, tiny=self.tiny, earlier=self.earlier
        )
        self.path.unlink(missing_ok=True)
        return path


def median(values: Sequence[float | None]) -> float | None:
    """Return the median of the values that are not None.

    The median of CPU-seconds over seeds leaves out the compilation, which the first seed contains.

    >>> median([30.0, None, 9.0, 10.0])
    10.0
    """
    kept = [v for v in values if v is not None]
    return statistics.median(kept) if kept else None


def interval(values: Sequence[float | None]) -> tuple[float | None, float | None, float | None]:
    """Return mean and 95 % confidence interval (Student's t) of the values that are not None.

    >>> [round(v, 3) for v in interval([1.0, 2.0, 3.0])]
    [2.0, -0.484, 4.484]
    """
    from scipy import stats

    kept = [float(v) for v in values if v is not None]
    if not kept:
        return None, None, None
    mean = sum(kept) / len(kept)
    if len(kept) < 2:
        return mean, None, None
    error = (sum((v - mean) ** 2 for v in kept) / (len(kept) - 1) / len(kept)) ** 0.5
    half = float(stats.t.ppf(0.975, len(kept) - 1)) * error
    return mean, mean - half, mean + half
