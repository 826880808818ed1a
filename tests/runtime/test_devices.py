"""One volume on four devices: the same answer as on one."""

import os
import subprocess
import sys

PROGRAM = """
import jax, numpy as np
from flax import nnx
from cryojax_seg import core, segmenters as s
from cryojax_seg.runtime.devices import Sharded
assert len(jax.devices()) == 4
volume = np.random.default_rng(0).normal(size=(21, 16, 12)).astype(np.float32)
for one in (
    s.GlobalThreshold(0.5), s.SheetFilter((0.7,), radii=(1,)), s.LinearVote(2),
    s.UNet(2, 1, norm="none", rngs=nnx.Rngs(0)),
):
    block = core.blocks.read(volume, [-10] * 3, [n + 10 + (-(n + 20) % 8) for n in volume.shape])
    whole, split = np.asarray(one(block)), Sharded(one)(block)
    shards = {shard.data.shape[0] for shard in split.addressable_shards}
    apart = np.abs(np.asarray(split) - whole)[10:-10].max() / np.abs(whole).max()
    print(type(one).__name__, max(shards) < block.shape[0], apart < 1e-5)
"""


def test_four_devices_give_the_answer_of_one():
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment
    )
    assert run.returncode == 0, run.stderr[-3000:]
    names = ("GlobalThreshold", "SheetFilter", "LinearVote", "UNet")
    assert run.stdout.split("\n")[:-1] == [f"{name} True True" for name in names]
