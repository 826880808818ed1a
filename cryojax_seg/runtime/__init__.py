"""Manages memory, compiled programs, devices, processes and signals. Sub-modules load when used."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryojax_seg.runtime.compilation import keep_compiled as keep_compiled
    from cryojax_seg.runtime.devices import Sharded as Sharded
    from cryojax_seg.runtime.devices import data_mesh as data_mesh
    from cryojax_seg.runtime.devices import leave_accelerators as leave_accelerators
    from cryojax_seg.runtime.devices import replicated as replicated
    from cryojax_seg.runtime.interrupts import Interrupts as Interrupts
    from cryojax_seg.runtime.memory import keep_memory as keep_memory
    from cryojax_seg.runtime.processes import is_primary as is_primary
    from cryojax_seg.runtime.processes import join as join
    from cryojax_seg.runtime.processes import on_primary as on_primary

_HOME = {
    "keep_compiled": "compilation",
    "Sharded": "devices",
    "data_mesh": "devices",
    "leave_accelerators": "devices",
    "replicated": "devices",
    "Interrupts": "interrupts",
    "keep_memory": "memory",
    "is_primary": "processes",
    "join": "processes",
    "on_primary": "processes",
}

__all__ = [
    "Interrupts",
    "Sharded",
    "data_mesh",
    "is_primary",
    "join",
    "keep_compiled",
    "keep_memory",
    "leave_accelerators",
    "on_primary",
    "replicated",
]


def __getattr__(name: str):
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
