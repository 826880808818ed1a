"""A tomogram on disk, and the command that serves its page as a process of its own."""

import contextlib
import dataclasses
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from cryojax_seg import io

SHAPE = (12, 60, 80)


@dataclasses.dataclass
class Served:
    """A running `cryojax-seg annotate`."""

    process: subprocess.Popen
    links: list[str]
    said: list[str]

    @property
    def address(self):
        return self.links[0].partition("/?")[0]

    def end(self, signal):
        self.process.send_signal(signal)
        self.process.wait(60)
        return self.process.returncode


@pytest.fixture(scope="session")
def volume():
    """A noisy ball shell, dark, and which voxels it has."""
    z, y, x = np.indices(SHAPE)
    away = np.sqrt((z - 6) ** 2 + (y - 25) ** 2 + (x - 40) ** 2)
    shell = abs(away - 16) < 2
    noise = np.random.default_rng(3).normal(size=SHAPE)
    return (noise - 4 * shell).astype(np.float32), shell


@pytest.fixture(scope="module")
def tomogram_file(volume, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "cell.mrc"
    io.write_mrc(path, volume[0], voxel_size=10.0)
    return path


@pytest.fixture(scope="module")
def serve(tomogram_file):
    """Starts the command on the tomogram; all that was started ends with the module."""
    with contextlib.ExitStack() as stack:

        def start(labels: str = "labels.mrc", *words: str) -> Served:
            command = ["-m", "cryojax_seg", "annotate", str(tomogram_file)]
            command += ["-o", str(tomogram_file.with_name(labels)), *words]
            process = subprocess.Popen(
                [sys.executable, *command],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": str(Path(io.__file__).parents[2])},
            )
            stack.callback(process.communicate)
            stack.callback(process.kill)
            said = []

            def listen():
                for line in process.stderr:
                    said.append(line.strip())
                    found = [word for word in line.split() if word.startswith("http")]
                    served.links.extend(found)

            served = Served(process, [], said)
            link = process.stdout.readline().strip()
            if link:
                served.links.append(link)
            threading.Thread(target=listen, daemon=True).start()
            return served

        yield start
