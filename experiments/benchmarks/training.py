"""Which training finds most in unseen tomograms after the same CPU-minutes?

    pip install -e ".[benchmark]"                                          # PyTorch
    python experiments/benchmarks/training.py                              # 32 CPU-hours
    python experiments/benchmarks/training.py --minutes 2 5 --no-goals     # 3 CPU-hours
    python experiments/benchmarks/training.py --tiny                       # under a minute

The trainings that are compared:

- ours: the networks and the recipe of ``train`` (`training.settings.configured`), which begin at
  the frequencies of the classes and learn with Muon;
- PyTorch Muon: the same in PyTorch, with `torch.optim.Muon`: the same parameters to begin with,
  patches, changes, loss, learning rates and running mean. `torch.optim.Muon` differs from ours in
  details: it computes in bfloat16, and AdamW, which learns scales and biases, has no Nesterov
  momentum;
- PyTorch AdamW: as most would train in PyTorch: the same network, patches and loss, with
  `torch.optim.AdamW` at a rate of 0.003, biases that begin at 0, and no running mean;
- nnU-Net: its plan, network, loss, optimizer, augmentation and windows, restated in PyTorch
  (`nnunet.py`). It plans patches as large as the tomograms, of which a CPU computes few:
  ``--nnunet-edge 48`` gives it smaller ones.

Each training knows its budget and plans its learning rate for it, so that every number is the
result of a training of its own. The clock counts the CPU-seconds of all threads (`process_time`)
while a step is taken, with its patches and their changes, and neither compilation nor scoring. No
step is begun that would exceed the budget.

A network learns either five z slices of one tomogram with membranes, or with microtubules and
actin, and is scored on three others (64 x 96 x 96 voxels of 10 angstrom, signal-to-noise ratio
0.3); or six whole tomograms of nine similar complexes, 18 of each, and is scored on three others
(100^3 voxels, signal-to-noise ratio 0.5). The score is the mean Dice over classes and tomograms.
Ours and the same network in PyTorch are applied by the same code, without flips; nnU-Net averages
over eight flips. Intervals are over seeds. It runs on the CPU. A benchmark that was stopped goes on
after the last training that it finished. The result is
``experiments/results/benchmark_training.json`` and a figure beside it.

The recorded result is a part, with one seed and so without intervals: ``--networks unet-fast
--minutes 2 5 --no-goals --nnunet-edge 48``, stopped after 15 of 24 trainings, beside other work on
two cores.

Learned: after two CPU-minutes ours and Muon in PyTorch are level in all three tasks (membranes
0.899 and 0.889, nine classes 0.528 and 0.524, filaments 0.308 and 0.307), and after five minutes of
membranes 0.896 and 0.904. AdamW, as most would train, is far behind for membranes (0.760, 0.846
after five minutes) and nine classes (0.342). A step of ours takes 0.79 to 0.98 of the CPU time of
that in PyTorch. nnU-Net's recipe takes 3 CPU-seconds a step, and in two minutes learns hardly
anything.
"""

import dataclasses
import importlib.util
import os
import pathlib
import sys
from typing import Any, Literal

import matplotlib
import numpy as np
import tyro

matplotlib.use("Agg")
import matplotlib.pyplot as plt

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from cryojax_seg import training
from cryojax_seg.training import methods, settings
from experiments.benchmarks.budget import Arm, Ours, spend
from experiments.common import Rows, claim, interval, results_folder
from experiments.recipe import Data, data_of

Task = Literal["membrane", "nine classes", "filament"]
Network = Literal["unet", "unet-fast"]
HAS_TORCH = importlib.util.find_spec("torch") is not None
GOALS = {60.0: 0.80, 240.0: 0.88}  # Dice of nine classes by CPU-minutes; half as many on two cores
ADAMW_RATE = 3e-3


@dataclasses.dataclass(frozen=True)
class Config:
    """Compare trainings at equal CPU-minutes."""

    tasks: tuple[Task, ...] = ("membrane", "nine classes", "filament")
    networks: tuple[Network, ...] = ("unet", "unet-fast")
    """the first is compared with nnU-Net, and shall reach the goals of nine classes"""
    minutes: tuple[float, ...] = (2.0, 5.0, 10.0, 20.0, 40.0)
    """CPU-minutes of the trainings that are compared"""
    goals: bool = True
    """train ours for 60 and 240 minutes on nine classes, too, which have a goal there"""
    nnunet_edge: int | None = None
    """longest edge of nnU-Net's patches in voxels; by default it plans them"""
    seeds: tuple[int, ...] = (0,)
    tiny: bool = False


def begun(name: str, data: Data, seed: int, edge: int | None) -> Arm:
    """Return a training that has not taken a step.

    Args:
        name: ``"nnU-Net"``, or the kind of training and the network, ``"ours: unet"``.
        data: what is learned.
        seed: seed of all its random numbers.
        edge: see `Config.nnunet_edge`.
    """
    kind, _, network = name.partition(": ")
    if kind == "nnU-Net":
        from experiments.benchmarks.nnunet import NnUNet

        return NnUNet(data, seed, edge)
    net: Any = methods.build(network, data.classes, data.examples[0].measured, seed)
    usual = settings.configured(network, net, data.examples, steps=1000, seed=seed)
    if kind == "ours":
        return Ours(training.with_prior(net, data.examples), data, usual)
    from experiments.benchmarks.same_training import SameNetwork

    if kind == "PyTorch Muon":
        return SameNetwork(training.with_prior(net, data.examples), data, usual, muon=True)
    slower = dataclasses.replace(usual, learning_rate=ADAMW_RATE)
    return SameNetwork(net, data, slower, muon=False)


def names(config: Config) -> list[str]:
    """Return the names of the trainings that are compared."""
    kinds = ("ours", "PyTorch Muon", "PyTorch AdamW") if HAS_TORCH else ("ours",)
    found = [f"{kind}: {network}" for network in config.networks for kind in kinds]
    return [*found, "nnU-Net"] if HAS_TORCH else found


def trainings(config: Config) -> list[tuple[int, Task, float, str]]:
    """Return seed, task, minutes and name of all trainings, those that are compared in turn."""
    found = []
    for seed in config.seeds:
        for minutes in config.minutes:
            found += [(seed, t, minutes, n) for t in config.tasks for n in names(config)]
        if config.goals and "nine classes" in config.tasks:
            more = [minutes for minutes in GOALS if minutes not in config.minutes]
            found += [(seed, "nine classes", minutes, names(config)[0]) for minutes in more]
    return found


def main(config: Config) -> None:
    # The threads of PyTorch would otherwise spin while they wait, which counts as CPU time.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if config.tiny:
        config = dataclasses.replace(
            config, tasks=("membrane",), networks=("unet-fast",), minutes=(0.01,)
        )
    if not HAS_TORCH:
        print("PyTorch is not installed: pip install -e '.[benchmark]' to compare with it")
    rows = Rows("benchmark_training", dataclasses.asdict(config), config.tiny)
    for seed, task, minutes, name in trainings(config):
        key = {"task": task, "training": name, "minutes": minutes, "seed": seed}
        if rows.done(**key):
            continue
        data = data_of(task, config.tiny)
        arm = begun(name, data, seed, config.nnunet_edge)
        values = spend(arm, 60 * minutes)
        record = rows.add(key, {**values, "dice": arm.score(data)})
        print(
            f"{task:13s} seed {seed} {minutes:5g} min  {name:24s} "
            f"Dice {np.mean(record['dice']):.3f}  {record['steps']} steps",
            flush=True,
        )
    draw(rows.records, config)
    table = [
        summary(rows.records, config, task, name) for task in config.tasks for name in names(config)
    ]
    rows.finish(table, claims_of(rows.records, config))


def by_seed(records: list[dict], task: Task, name: str, minutes: float) -> dict[int, float]:
    """Return the mean Dice over the tomograms for each seed."""
    key = (task, name, minutes)
    return {
        r["seed"]: float(np.mean(r["dice"]))
        for r in records
        if (r["task"], r["training"], r["minutes"]) == key
    }


def budgets(records: list[dict], task: Task, name: str) -> list[float]:
    mine = (r["minutes"] for r in records if (r["task"], r["training"]) == (task, name))
    return sorted(set(mine))


def summary(records: list[dict], config: Config, task: Task, name: str) -> dict:
    """Return the row of a training: its Dice after each budget, and the time of its steps."""
    mine = [r for r in records if (r["task"], r["training"]) == (task, name)]
    dice, intervals = {}, {}
    for minutes in budgets(records, task, name):
        mean, *ends = interval(list(by_seed(records, task, name, minutes).values()))
        dice[f"{minutes:g} min"] = mean
        intervals[f"{minutes:g} min"] = None if ends[0] is None else ends
    return {
        "task": task,
        "training": name,
        "seeds": len(config.seeds),
        "step_cpu_ms": 1e3 * float(np.median([r["cpu_seconds"] / r["steps"] for r in mine])),
        "dice": dice,
        "dice_interval": intervals if len(config.seeds) > 1 else None,
    }


def claims_of(records: list[dict], config: Config) -> list[dict]:
    found = []
    for task in config.tasks:
        for network in config.networks:
            rivals = [f"PyTorch {optimizer}: {network}" for optimizer in ("Muon", "AdamW")]
            found.append(never_below(records, config, task, f"ours: {network}", rivals))
        found.append(never_below(records, config, task, f"ours: {config.networks[0]}", ["nnU-Net"]))
    if config.goals and "nine classes" in config.tasks:
        ours = names(config)[0]
        for minutes, goal in GOALS.items():
            dice = by_seed(records, "nine classes", ours, minutes)
            mean, low, _ = interval(list(dice.values()))
            name = f"nine classes: Dice of {ours} after {minutes:g} minutes"
            found.append(claim(name, mean if low is None else low, at_least=goal))
    return found


def never_below(
    records: list[dict], config: Config, task: Task, ours: str, rivals: list[str]
) -> dict:
    """Claim that ours is not below the best of its rivals after any of the budgets.

    With several seeds it is the lower end of the interval of the difference that counts.
    """
    found = []
    for minutes in config.minutes:
        mine = by_seed(records, task, ours, minutes)
        others = [by_seed(records, task, rival, minutes) for rival in rivals]
        apart = [mine[s] - max(o[s] for o in others) for s in mine if all(s in o for o in others)]
        mean, low, _ = interval(apart)
        if mean is not None:
            found.append((mean if low is None else low, minutes))
    worst, minutes = min(found, default=(None, None))
    when = "" if minutes is None else f", which is least after {minutes:g} minutes"
    names = " or ".join(rivals)
    return claim(f"{task}: Dice of {ours} minus that of {names}{when}", worst, at_least=0.0)


def draw(records: list[dict], config: Config) -> None:
    """Draw the Dice of every training over its CPU-minutes, a panel for each task."""
    figure, axes = plt.subplots(
        1,
        len(config.tasks),
        figsize=(4.2 * len(config.tasks), 4),
        layout="constrained",
        squeeze=False,
    )
    colours = {"ours": "#2a78d6", "PyTorch Muon": "#eda100", "PyTorch AdamW": "#d83a7c"}
    lines: dict[str, str] = dict(zip(config.networks, ("-", "--"), strict=False))
    for axis, task in zip(axes[0], config.tasks, strict=True):
        for name in names(config):
            kind, _, network = name.partition(": ")
            minutes = budgets(records, task, name)
            found = [interval(list(by_seed(records, task, name, m).values())) for m in minutes]
            means, lows, highs = (np.array(v, float) for v in zip(*found, strict=True))
            style = {"color": colours.get(kind, "#333333"), "ls": lines.get(network, "-")}
            axis.plot(minutes, means, marker="o", ms=4, label=name, **style)
            if len(config.seeds) > 1:
                axis.fill_between(minutes, lows, highs, color=style["color"], alpha=0.15, lw=0)
        axis.set(title=task, xscale="log", xlabel="CPU-minutes of training", ylim=(0, 1))
        ticks = sorted({m for name in names(config) for m in budgets(records, task, name)})
        axis.set_xticks(ticks, [f"{m:g}" for m in ticks])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("Dice on unseen tomograms")
    known = axes[0][0].get_legend_handles_labels()
    figure.legend(*known, fontsize=8, ncols=4, loc="outside lower center")
    figure.savefig(results_folder(config.tiny) / "benchmark_training.png", dpi=130)
    plt.close(figure)


if __name__ == "__main__":
    main(tyro.cli(Config))
