"""Random blocks of a volume lie within it, on the grid that is asked for."""

import mmap

import numpy as np
import pytest

from cryojax_seg.core.blocks import prefetch, random_starts


@pytest.mark.parametrize("stride", [1, 3])
def test_random_starts_stay_in_the_box_and_on_the_grid(stride):
    box, edges = (slice(2, 20), slice(0, 9), slice(5, 40)), (6, 9, 12)
    starts = np.array(random_starts(box, edges, 200, stride=stride))
    assert (starts % stride == 0).all()
    for axis, (s, e) in enumerate(zip(box, edges, strict=True)):
        allowed = {n for n in range(s.start, s.stop - e + 1) if n % stride == 0}
        assert set(starts[:, axis].tolist()) == allowed


def test_a_block_longer_than_the_box_starts_where_the_box_does():
    assert random_starts((slice(3, 5),) * 3, (4, 4, 4), 2) == [[3, 3, 3]] * 2


def test_distinct_starts_are_all_there_are_where_more_are_asked_for():
    box = (slice(1, 4), slice(0, 2), slice(0, 2))
    starts = random_starts(box, (2, 1, 2), 50, distinct=True)
    assert sorted(map(tuple, starts)) == [(z, y, 0) for z in (1, 2) for y in (0, 1)]
    assert random_starts(box, (2, 1, 2), 2, 7) == random_starts(box, (2, 1, 2), 2, 7)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_prefetch_asks_for_the_pages_of_a_part_alone(order, tmp_path, monkeypatch):
    """Each run of voxels is one call, and pages between runs are left out."""
    asked = []

    class Mapping(mmap.mmap):
        def madvise(self, option, start=0, length=None):
            asked.append((option, start, length))

    monkeypatch.setattr(mmap, "mmap", Mapping)
    page = mmap.PAGESIZE
    (tmp_path / "a.raw").write_bytes(bytes(1024 + 4 * 8 * page))
    volume = np.memmap(tmp_path / "a.raw", np.uint8, "r", 1024, (4, 8, page))
    prefetch(volume[:, 2:4].transpose(order))
    need = mmap.MADV_WILLNEED
    assert asked == [(need, (8 * z + 2) * page, 1024 + 2 * page) for z in range(4)]
    asked.clear()
    prefetch(volume[1])
    assert asked == [(need, 8 * page, 1024 + 8 * page)]
    asked.clear()
    prefetch(volume[:, ::4, :9].transpose(order))
    assert asked == [(need, n * page, 1024 + 9) for n in range(0, 32, 4)]
    asked.clear()
    prefetch(np.array(volume[0]))
    prefetch(volume[:0])
    assert asked == []
