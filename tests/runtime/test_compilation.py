"""What one process compiled, the next finds."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import jax, jax.numpy as jnp
from cryojax_seg import runtime
found = []
jax.monitoring.register_event_listener(lambda name, **_: found.append(name.split("/")[-1]))
print(runtime.keep_compiled())
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
print(float(jax.jit(lambda x: (x @ x).sum())(jnp.eye(3))))
print("cache_hits" in found)
"""


def program(**variables):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XDG_"))}
    command = [sys.executable, "-W", "error", "-c", PROGRAM]
    environment = kept | {"JAX_PLATFORMS": "cpu"} | variables
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert not run.stderr
    return run.stdout.split("\n")[:3]


@pytest.mark.skipif(sys.platform != "linux", reason="the user's cache folder is elsewhere")
def test_programs_are_found_again(tmp_path):
    place = str(tmp_path / "cryojax-seg" / "compiled")
    assert program(XDG_CACHE_HOME=str(tmp_path)) == [place, "3.0", "False"]
    assert program(XDG_CACHE_HOME=str(tmp_path)) == [place, "3.0", "True"]


def test_somebody_elses_choice_holds(tmp_path):
    chosen = str(tmp_path / "mine")
    assert program(JAX_COMPILATION_CACHE_DIR=chosen)[0] == chosen
    assert program(JAX_ENABLE_COMPILATION_CACHE="false")[0] == "None"


def test_a_folder_that_cannot_be_made_is_no_obstacle(tmp_path):
    (tmp_path / "file").touch()
    assert program(XDG_CACHE_HOME=str(tmp_path / "file")) == ["None", "3.0", "False"]


@pytest.mark.skipif(sys.platform != "linux", reason="the user's cache folder is elsewhere")
@pytest.mark.parametrize("damage", ["empty", "half", "flipped", "without time"])
def test_what_was_torn_by_a_kill_is_removed_and_compiled_once(tmp_path, damage):
    place = tmp_path / "cryojax-seg" / "compiled"
    program(XDG_CACHE_HOME=str(tmp_path))
    for entry in place.glob("*-cache"):
        content = bytearray(entry.read_bytes())
        content[len(content) // 2] ^= 4
        damaged = {"empty": b"", "half": content[: len(content) // 2], "flipped": content}
        entry.write_bytes(damaged.get(damage, entry.read_bytes()))
        if damage == "without time":
            entry.with_name(entry.name.replace("-cache", "-atime")).unlink()
    # Warnings would be errors.
    assert program(XDG_CACHE_HOME=str(tmp_path))[1:] == ["3.0", "False"]
    assert program(XDG_CACHE_HOME=str(tmp_path))[1:] == ["3.0", "True"]
