"""Measures predicted membranes and microtubules, and says which true object each of them is."""

import numpy as np

from cryojax_seg import measure
from cryojax_seg.core import MissingWedge
from cryojax_seg.core.plain import Shape
from cryojax_seg.measure.boxes import ObjectBoxes
from cryojax_seg.simulate import CLASSES, Phantom
from experiments.counting import true_objects

VOXEL = (10.0, 10.0, 10.0)  # angstrom
_NM = (1.0, 1.0, 1.0)
_BAND = 15.0  # angstrom on both sides of a true mid-surface, within its label


def membranes(one: Phantom, mask: np.ndarray, probability: np.ndarray, wedge: MissingWedge) -> dict:
    """Return what was measured of each predicted membrane and of the true one that it is.

    It is the one that shares most of its voxels, however few those are, or none.
    """
    membrane = np.asarray(one.labels) == CLASSES.index("membrane")
    truth = true_objects(membrane, np.asarray(one.truth.instances))
    near = membrane & (np.abs(np.asarray(one.truth.distance)) < _BAND)
    sizes, band = np.bincount(truth.ravel()), np.bincount(truth[near], minlength=truth.max() + 1)
    real = [
        {
            "area": float(band[o.number] / (0.2 * _BAND)),
            "volume": int(sizes[o.number]),
            "lumen": int(measure.lumen(o.mask).mask.sum()),
            "face": _face(o.mask, o.box, mask.shape),
        }
        for o in measure.instances(truth, 2)
    ]
    numbers = measure.separate_membranes(mask, probability)
    found = []
    for box in ObjectBoxes(numbers, probability):
        sheet = measure.membrane_sheet(box.mask, _NM)
        seen = np.asarray(wedge.visibility(sheet.normal, 6.0, 1.5), float)
        where = tuple(slice(a, a + n) for a, n in zip(box.start, box.mask.shape, strict=True))
        shared = np.bincount(truth[where][box.mask], minlength=len(sizes))
        shared[0] = 0
        best = int(shared.argmax())
        room = measure.lumen(box.mask)
        p = np.asarray(box.probability)
        low = sheet.edge < sheet.window
        found.append(
            {
                "area": measure.membrane_area(sheet),
                "volume": int(box.mask.sum()),
                "lumen": int(room.mask.sum()),
                "closed": bool(room.closed),
                "edge": sheet.edge_length,
                "edge_seen": float(seen[low].mean()) if low.any() else None,
                "thickness": float(np.median(sheet.thickness)),
                "seen": float(np.average(seen, weights=sheet.area_of_voxel)),
                "hidden": float(np.average(seen < 0.3, weights=sheet.area_of_voxel)),
                "mean": float(p[box.mask].mean()),
                "soft": float(p.sum()),
                "levels": [int((p > t).sum()) for t in (0.1, 0.25, 0.5, 0.75, 0.9)],
                "face": _face(box.mask, where, mask.shape),
                "match": best - 1 if shared[best] else None,
                "of_own": float(shared[best] / box.mask.sum()),
                "of_true": float(shared[best] / max(sizes[best], 1)) if best else 0.0,
                "others": int((shared > 0.3 * sizes).sum() - (shared[best] > 0.3 * sizes[best])),
            }
        )
    return {"found": found, "true": real}


def _face(mask: np.ndarray, box: tuple[slice, ...], shape: Shape) -> int:
    """Return the number of voxels of an object in faces of the volume."""
    count = 0
    for axis, (part, n) in enumerate(zip(box, shape, strict=True)):
        along = np.moveaxis(mask, axis, 0)
        count += int(along[0].sum()) if part.start == 0 else 0
        count += int(along[-1].sum()) if part.stop == n else 0
    return count


def filaments(one: Phantom, mask: np.ndarray, probability: np.ndarray) -> dict:
    """Return what was measured of each predicted microtubule and of the true one that it is."""
    limits = measure.TracingLimits.of_class("microtubule")
    wall = np.asarray(one.labels) == CLASSES.index("microtubule")
    numbers = measure.renumber(np.where(wall, np.asarray(one.truth.instances), 0))[0]
    real, total = measure.measure_filaments(numbers, VOXEL, limits=limits)
    rows, summary = measure.measure_filaments(mask, VOXEL, probability, limits, samples=0)
    lines = [row.axis.at(row.axis.arc_lengths_angstrom(20.0)) for row in real]
    found = []
    for row in rows:
        points = row.axis.at(row.axis.arc_lengths_angstrom(50.0))
        away = [np.linalg.norm(points[:, None] - line, axis=2).min(1) for line in lines]
        nearest = np.array(away) if away else np.full((1, len(points)), np.inf)
        shares = (nearest < 80).mean(1)
        best = int(shares.argmax())
        index = np.argwhere(mask) * 10.0
        close = np.linalg.norm(index[:, None] - points, axis=2).min(1) < 160
        own = probability[mask][close]
        found.append(
            {
                "length": row.length_nm.value,
                "covered": row.covered,
                "cut": sum(row.axis.at_border),
                "hollow": row.axis.hollow,
                "mean": float(own.mean()) if own.size else 0.0,
                "match": best if shares[best] > 0.5 else None,
                "of_own": float(shares[best]),
                "direction": (row.axis.ends_angstrom[1] - row.axis.ends_angstrom[0]).tolist(),
            }
        )
    spacing = [s.spacing_nm.value if s.spacing_nm else None for s in (summary, total)]
    return {
        "found": found,
        "true": [{"length": r.length_nm.value, "cut": sum(r.axis.at_border)} for r in real],
        "spacing": spacing[0],
        "true_spacing": spacing[1],
    }
