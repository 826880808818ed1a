"""Where particles may be: a compartment, and distances from a membrane."""

import numpy as np
import pytest

from cryojax_seg import io
from cryojax_seg.core import Particles, Tomogram
from cryojax_seg.errors import ParameterError
from cryojax_seg.particles import Surroundings

SHAPE = (16, 16, 16)


def test_files_of_labels_say_where_particles_may_be(tmp_path):
    labels = np.zeros(SHAPE, np.int8)
    labels[:, :, 7:9], labels[:, :8, 9:] = 1, 2
    io.write_mrc(tmp_path / "labels.mrc", labels, voxel_size=10.0)
    cell = Tomogram(np.zeros(SHAPE, np.float32), (10.0,) * 3)
    found = io.read_surroundings(
        cell,
        inside=tmp_path / "labels.mrc",
        inside_label=2,
        membrane=tmp_path / "labels.mrc",
        distance=(25.0, 45.0),
    )
    np.testing.assert_array_equal(found.compartment, labels == 2)
    np.testing.assert_array_equal(found.membrane, labels == 1)
    assert found.distance == (2.5, 4.5)
    near = found.within(Particles([[8.0, 4, 10], [8, 4, 12], [8, 4, 14]]))
    assert near.coordinates.tolist() == [[8, 4, 12]]
    np.testing.assert_allclose(found.oriented(near).rotations[0][:, 0], [0, 0, 1], atol=1e-6)


def test_nothing_is_left_out_or_rotated_without_a_membrane():
    found = Particles([[8.0, 4, 10]])
    for where in (Surroundings(), Surroundings(membrane=np.zeros(SHAPE, bool))):
        assert where.within(found) is found and where.oriented(found) is found


@pytest.mark.parametrize(
    ("membrane", "distance", "parameter"),
    [(None, (1, 2), "membrane"), (np.ones(SHAPE, bool), (2, 1), "distance")],
)
def test_a_distance_that_means_nothing_is_refused(membrane, distance, parameter):
    with pytest.raises(ParameterError) as refused:
        Surroundings(membrane=membrane, distance=distance)
    assert refused.value.parameters == (parameter,)
