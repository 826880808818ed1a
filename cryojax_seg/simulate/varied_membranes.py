"""Draws membranes of varied shape, number and composition, up to a fraction of the voxels."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cryojax_seg.core.types import Key
from cryojax_seg.simulate.arcs import Capsule
from cryojax_seg.simulate.complexes import random_complex
from cryojax_seg.simulate.membranes import Bilayer
from cryojax_seg.simulate.organelles import GolgiStack, Mitochondrion
from cryojax_seg.simulate.placement import Occupancy, facing, random_direction
from cryojax_seg.simulate.populate import (
    Species,
    add_bundle,
    add_membrane_proteins,
    number,
)
from cryojax_seg.simulate.reticulum import Reticulum
from cryojax_seg.simulate.scene import Placed
from cryojax_seg.simulate.sheets import WavedSheet
from cryojax_seg.simulate.surfaces import Ellipsoid, Sphere
from cryojax_seg.simulate.types import MEMBRANE

LEAST, MOST = 0.003, 0.15  # fraction of the voxels that membranes fill
KINDS = {
    "vesicles": 0.3,
    "nested vesicles": 0.1,
    "touching vesicles": 0.15,
    "tubules": 0.2,
    "Golgi stack": 0.08,
    "mitochondrion": 0.1,
    "reticulum": 0.07,
}


def add_membranes(
    occupancy: Occupancy, key: Key, sheets: bool, proteins: Species | None = None
) -> list[Placed]:
    """Place random membranes until they fill a drawn fraction of the voxels, 0.3 to 15 %.

    Args:
        occupancy: the occupied part of the volume; the membranes are added to it.
        key: random key of the reticula; all else is drawn by the occupancy.
        sheets: whether sheets that cross the whole volume are allowed; they are in a third of such
            scenes.
        proteins: known membrane proteins by name, see `varied.varied`.
    """
    rng = occupancy.rng
    wanted = np.exp(rng.uniform(np.log(1.3 * LEAST), np.log(0.9 * MOST)))
    draw = DrawnMembranes(occupancy, key)
    placed, filled = [], 0.0
    kinds = rng.choice(list(KINDS), 16, p=np.array(list(KINDS.values())) / sum(KINDS.values()))
    kinds = ["sheets", *kinds] if sheets and rng.uniform() < 1 / 3 else list(kinds)
    for kind in kinds:
        before = occupancy.clearance.copy()
        found = draw.kinds[kind]()
        more = sum(_fraction(one, occupancy) for one in found)
        if filled + more > MOST:  # too much: take it back
            occupancy.clearance = before
            continue
        placed, filled = placed + found, filled + more
        if filled > wanted:
            break
    if rng.uniform() < 0.5:
        placed += add_varied_proteins(occupancy, placed, proteins)
    return placed


class DrawnMembranes:
    """Draws groups of membranes, one method for each kind.

    Lumen density, and whether other structures may lie in the lumen, are drawn once for a scene.
    """

    def __init__(self, occupancy: Occupancy, key: Key):
        self.occupancy, self.rng, self.key = occupancy, occupancy.rng, key
        self.size = float(occupancy.extent.min())
        self.lumen = self.rng.normal(0, 0.07)
        self.hollow = bool(self.rng.uniform() < 0.4)
        self.kinds: dict[str, Callable[[], list[Placed]]] = {
            "sheets": self.sheets,
            "vesicles": self.vesicles,
            "nested vesicles": self.nested,
            "touching vesicles": self.touching,
            "tubules": self.tubules,
            "Golgi stack": self.golgi,
            "mitochondrion": self.mitochondrion,
            "reticulum": self.reticulum,
        }

    def lipids(self) -> dict[str, np.ndarray]:
        """Draw the fields of `Membrane`."""
        rng = self.rng
        return {
            "thickness": number(rng.uniform(25.0, 42.0)),
            "leaflet_sigma": number(rng.uniform(4.0, 7.0)),
            "heads": number(rng.uniform(0.7, 1.2)),
            "tails": number(rng.uniform(-0.5, 0.0)),
            "lumen": number(np.clip(self.lumen + rng.normal(0, 0.02), -0.15, 0.2)),
        }

    def between(self, low: float, high: float) -> np.ndarray:
        """Draw a length log-uniformly."""
        return number(np.exp(self.rng.uniform(np.log(low), np.log(max(high, 1.01 * low)))))

    def place(self, structure, name: str, inside: bool = False) -> list[Placed]:
        one = self.occupancy.place(structure, name, inside=inside, tries=60, hollow=self.hollow)
        return [] if one is None else [one]

    def sheets(self) -> list[Placed]:
        """Draw one to six parallel sheets, which touch or are 15 to 40 nm apart."""
        rng, normal = self.rng, random_direction(self.rng)
        surface = WavedSheet(number(rng.uniform(0.0, 100.0)), self.between(500.0, 2000.0))
        bilayer = Bilayer(surface, **self.lipids())
        turn = facing(normal, rng)
        at = (0.2 + 0.6 * rng.uniform(size=3)) * self.occupancy.extent
        found = []
        for _ in range(rng.choice([1, 1, 2, 2, 3, 4, 5, 6])):
            centre = at.astype(np.float32)
            found.append(Placed(bilayer, centre, turn.astype(np.float32), "sheet"))
            self.occupancy.add(found[-1])
            at = at + normal * (
                rng.uniform(50, 70) if rng.uniform() < 0.2 else rng.uniform(150, 400)
            )
        return found

    def ball(self, least: float, most: float) -> Bilayer:
        """Draw a sphere or an ellipsoid."""
        size = self.between(least, most)
        if self.rng.uniform() < 0.5:
            return Bilayer(Sphere(size), **self.lipids())
        axes = size * np.exp(np.clip(self.rng.normal(0, 0.25, 3), -0.5, 0.5))
        return Bilayer(Ellipsoid(axes.astype(np.float32)), **self.lipids())

    def vesicles(self) -> list[Placed]:
        """Draw one to six vesicles; the faces cut some of them."""
        return [
            one
            for _ in range(self.rng.integers(1, 7))
            for one in self.place(self.ball(90.0, 0.5 * self.size), "vesicle")
        ]

    def nested(self) -> list[Placed]:
        """Draw a vesicle with one or two others inside, all with the same middle."""
        size = float(self.between(250.0, 0.6 * self.size))
        found = self.place(Bilayer(Sphere(number(size)), **self.lipids()), "vesicle")
        for _ in range(self.rng.integers(1, 3) if found else 0):
            size -= self.rng.uniform(80.0, 200.0)
            if size > 60.0:
                inner = Bilayer(Sphere(number(size)), **self.lipids())
                found.append(Placed(inner, found[0].centre, found[0].rotation, "vesicle"))
        return found

    def touching(self) -> list[Placed]:
        """Draw two to six spheres, each in contact with one before it."""
        rng, largest = self.rng, 0.3 * self.size
        first = Bilayer(Sphere(self.between(90.0, largest)), **self.lipids())
        found, gap = self.place(first, "vesicle"), self.occupancy.gap
        self.occupancy.gap = -15.0  # the walls may touch
        for _ in range(rng.integers(5, 30) if found else 0):
            other = found[rng.integers(len(found))]
            new = Bilayer(Sphere(self.between(90.0, largest)), **self.lipids())
            bilayers: tuple[Any, ...] = (new, other.structure)
            apart = sum(b.surface.radius + b.thickness / 2 for b in bilayers)
            apart += rng.uniform(5.0, 15.0)  # so their labels touch
            centre = np.asarray(other.centre) + apart * random_direction(rng)
            one = Placed(new, centre.astype(np.float32), other.rotation, "vesicle")
            within = ((centre >= 0) & (centre <= self.occupancy.extent)).all()
            if len(found) < 6 and within and self.occupancy.fits(one):
                found.append(one)
                self.occupancy.add(one, self.hollow)
        self.occupancy.gap = gap
        return found

    def tubules(self) -> list[Placed]:
        """Draw one to four tubules, side by side or apart, of 12 to 40 nm diameter."""
        rng, count = self.rng, int(self.rng.integers(1, 5))
        bend = rng.normal(0, 1 / 1500.0) if rng.uniform() < 0.6 else 0.0
        bend = np.clip(bend, -1 / 500.0, 1 / 500.0)

        def tubule():
            radius = self.between(60.0, 200.0)
            length = self.between(300.0, max(1.3 * float(self.occupancy.extent.max()), 400.0))
            return Bilayer(Capsule(length, radius, number(bend)), **self.lipids())

        if rng.uniform() < 0.4:
            one = tubule()
            spacing = 2 * float(one.surface.radius + one.thickness / 2) + rng.uniform(15.0, 150.0)
            return add_bundle(self.occupancy, one, "tubule", count, spacing)
        return [one for _ in range(count) for one in self.place(tubule(), "tubule")]

    def golgi(self) -> list[Placed]:
        """Draw a stack of four flat sacs, 15 to 30 nm from membrane to membrane."""
        half = self.rng.uniform(50.0, 110.0)
        stack = GolgiStack(
            self.between(250.0, 0.6 * self.size),
            count=4,
            spacing=number(2 * half + self.rng.uniform(60.0, 200.0)),
            half_thickness=number(half),
            bend=self.between(1500.0, 8000.0),
            **self.lipids(),
        )
        return self.place(stack, "Golgi stack")

    def mitochondrion(self) -> list[Placed]:
        """Draw a small mitochondrion with three cristae; the faces may cut it."""
        rng = self.rng
        size = float(self.between(300.0, 0.55 * self.size))
        axes = size * np.array([1.0, rng.uniform(1.1, 1.8), rng.uniform(0.8, 1.0)])
        body = Mitochondrion(
            axes.astype(np.float32),
            gap=number(rng.uniform(0.3, 0.5) * min(size, 400.0)),
            cristae=3,
            crista_width=number(rng.uniform(100.0, 180.0)),
            crista_length=number(rng.uniform(0.3, 0.8)),
            matrix=number(rng.uniform(0.0, 0.2)),
            **self.lipids(),
        )
        return self.place(body, "mitochondrion")

    def reticulum(self) -> list[Placed]:
        """Draw a piece of a maze of double membranes."""
        self.key, key = jax.random.split(self.key)
        maze = Reticulum.random(
            key,
            self.between(300.0, 0.7 * self.size),
            wavelength=float(self.between(900.0, 2500.0)),
            width=number(self.rng.uniform(160.0, 300.0)),
            count=16,
            **self.lipids(),
        )
        return self.place(maze, "reticulum")


def add_varied_proteins(
    occupancy: Occupancy, membranes: list[Placed], known: Species | None = None
) -> list[Placed]:
    """Place proteins in up to six membranes, of one or two kinds in a scene.

    Args:
        occupancy: the occupied part of the volume; the proteins are added to it.
        membranes: the membranes.
        known: membrane proteins by name, which half of the kinds are.
    """
    rng, kinds = occupancy.rng, []
    for _ in range(rng.integers(1, 3)):
        if known and rng.uniform() < 0.5:
            kinds.append(known[str(rng.choice(sorted(known)))])
            continue
        mass = float(np.exp(rng.uniform(np.log(60.0), np.log(499.0))))
        protein = random_complex(rng, mass, 16)
        reach = np.linalg.norm(protein.centres, axis=-1).max()
        offset = np.array([rng.uniform(-1.0, 1.0) * reach, 0, 0], np.float32)
        kinds.append(type(protein)(protein.centres + offset, protein.weights, protein.sigma))
    chosen = rng.permutation(len(membranes))[:6]
    return [
        protein
        for i in chosen
        for protein in add_membrane_proteins(
            membranes[i],
            occupancy,
            int(rng.integers(1, 40)),
            kinds[rng.integers(len(kinds))],
            apart=rng.uniform(80.0, 250.0),
        )
    ]


def _fraction(placed: Placed, occupancy: Occupancy) -> float:
    """Return the fraction of the voxels that are membrane, to a few per cent of itself."""
    points = occupancy.rng.uniform(size=(32768, 3)) * occupancy.extent
    return float(_is_membrane(placed, points.astype(np.float32)))


@jax.jit
def _is_membrane(placed: Placed, points):
    return jnp.mean((placed.labels(points) == MEMBRANE).astype(points.dtype))
