"""Croissant manifests of copick projects, as benchmarks come, and files that are damaged."""

import csv
import json
import tracemalloc
import warnings

import numpy as np
import pytest

from cryojax_seg import cli, io
from cryojax_seg.io import CopickProject, FileError, HeaderWarning
from cryojax_seg.io.particles import ParticleTable

COLUMNS = {
    "tomograms": "run voxel_size tomo_type url",
    "segmentations": "run voxel_size user_id session_id name is_multilabel url",
    "picks": "run user_id session_id object_name voxel_size url",
    "meshes": "run user_id session_id object_name url",
}
ROWS = {
    "tomograms": ["TS_1 10.0 wbp data/TS_1.zarr", "TS_2 10.0 wbp data/TS_2.zarr"],
    "segmentations": [
        "TS_1 10.0 gt 0 membrane false data/truth.zarr",
        "TS_1 10.0 tool 1 membrane false data/found.zarr",
    ],
    "picks": ["TS_1 gt 0 ribosome 10.0 data/ribosomes.ndjson"],
    "meshes": [],
}
POINTS = [
    {"type": "point", "location": {"x": 3.0, "y": 2.0, "z": 1.0}},
    {
        "type": "orientedPoint",
        "location": {"x": 4.5, "y": 5.0, "z": 2.0},
        "xyz_rotation_matrix": [[0, 0, 1], [1, 0, 0], [0, 1, 0]],
    },
]


def table(name):
    """What copick's export says of one table."""
    source = {"fileObject": {"@id": f"{name}-csv"}}
    fields = [
        {"@id": f"copick/{name}/{c}", "source": {**source, "extract": {"column": c}}}
        for c in COLUMNS[name].split()
    ]
    return {"@type": "cr:RecordSet", "@id": f"copick/{name}", "field": fields}


@pytest.fixture
def manifest(tmp_path):
    folder = tmp_path / "Croissant"
    folder.mkdir()
    (tmp_path / "data").mkdir()
    labels = np.zeros((4, 6, 8), np.uint8)
    labels[1:3, 2:4, 3:7] = 1
    io.write_zarr(tmp_path / "data" / "truth.zarr", labels, voxel_size=10.0, version="0.4")
    io.write_zarr(tmp_path / "data" / "found.zarr", np.roll(labels, 1, 2), voxel_size=10.0)
    (tmp_path / "data" / "ribosomes.ndjson").write_text("\n".join(map(json.dumps, POINTS)))
    for name, columns in COLUMNS.items():
        with open(folder / f"{name}.csv", "w", newline="") as file:
            csv.writer(file).writerows([columns.split(), *(row.split() for row in ROWS[name])])
    content = {
        "@context": {"cr": "http://mlcommons.org/croissant/"},
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "copick:baseUrl": "file:///where/it/was/made",
        "copick:config": {"pickable_objects": [{"name": "membrane", "label": 1}]},
        "distribution": [
            {"@id": f"{name}-csv", "contentUrl": f"https://example.org/{name}.csv"}
            for name in COLUMNS
        ],
        "recordSet": [table(name) for name in COLUMNS],
    }
    content["recordSet"].append({"@id": "copick/splits", "data": [{"name": "train"}]})
    path = folder / "metadata.json"
    path.write_text(json.dumps(content))
    return path


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_manifest_is_a_project(manifest, tmp_path):
    project = io.read_copick(manifest)
    assert project.runs == ["TS_1", "TS_2"] and project.objects == {"membrane": 1}
    assert {str(e) for e in project.entries if e.run == "TS_1"} == {
        "wbp@10",
        "membrane:gt/0@10",
        "membrane:tool/1@10",
        "ribosome:gt/0",
    }
    (path,) = [e.path for e in project.entries if str(e) == "membrane:gt/0@10"]
    assert path == tmp_path / "data" / "truth.zarr"


def test_records_in_the_manifest_itself(manifest):
    def inline(content):
        names = COLUMNS["tomograms"].split()
        rows = [dict(zip(names, row.split(), strict=True)) for row in ROWS["tomograms"]]
        for row in rows:
            row["voxel_size"] = float(row["voxel_size"])
        content["recordSet"][0] = {
            "@id": "copick/tomograms",
            "data": [{f"copick/tomograms/{k}": v for k, v in row.items()} for row in rows],
        }

    before = io.read_copick(manifest)
    edit(manifest, inline)
    (manifest.parent / "tomograms.csv").unlink()
    assert io.read_copick(manifest) == before


def test_a_benchmark_is_scored(manifest, capsys):
    words = [f"copick:{manifest}#membrane:tool", "copick:#membrane:gt"]
    assert cli.main(["evaluate", *words, "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)["classes"]["membrane"]
    assert scores["dice"] == pytest.approx(0.75)  # three of four columns overlap


def test_a_configuration_names_a_manifest(manifest, tmp_path):
    config = tmp_path / "config.json"
    stated = {"config_type": "mlcroissant", "pickable_objects": [{"name": "ribosome", "label": 2}]}
    stated |= {"croissant_url": str(manifest), "overlay_root": str(tmp_path / "mine")}
    config.write_text(json.dumps(stated))
    project = io.read_copick(config)
    assert project.objects == {"membrane": 1, "ribosome": 2} and len(project.entries) == 5
    (path,), _ = io.new_copick(f"copick:{config}#ribosome", "picks", ["TS_1"])
    assert path.is_relative_to(tmp_path / "mine")


def test_picks_of_the_portal(manifest, tmp_path):
    picks = io.read_particles(tmp_path / "data" / "ribosomes.ndjson", 10.0)
    np.testing.assert_array_equal(picks.coordinates, [[1, 2, 3], [2, 5, 4.5]])  # voxels
    turn = np.array(POINTS[1]["xyz_rotation_matrix"], float)[::-1, ::-1]
    np.testing.assert_allclose(picks.rotations, [np.eye(3), turn], atol=1e-9)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(recordSet=3), "recordSet is 3, a list of objects is needed"),
        (lambda c: c.update(distribution=[]), "does not say which column of which file holds run"),
        (lambda c: c["recordSet"][0].update(field=[{}]), "does not say which column"),
        (lambda c: c["recordSet"][0].update(data=[{"run": "a"}]), "no url"),
        (lambda c: c["recordSet"][0].update(data=[{"url": "../a"}]), "leads out of its folder"),
        (lambda c: c["recordSet"][0].update(data=[{"url": "a"}]), "has no run, tomo_type, voxel"),
        (
            lambda c: c.update(recordSet=[{"@id": "picks", "data": [{"url": "s3://a"}]}]),
            "elsewhere",
        ),
        (lambda c: c["copick:config"].update(pickable_objects=3), "no list pickable_objects"),
    ],
)
def test_manifests_that_are_refused(manifest, change, words):
    edit(manifest, change)
    with pytest.raises(FileError, match="metadata.json") as caught:
        io.read_copick(manifest)
    assert words in str(caught.value)


def test_tables_that_are_missing_or_wrong(manifest):
    table = manifest.parent / "tomograms.csv"
    table.write_text("run,voxel_size,tomo_type,url\nTS_1,huge,wbp,a.zarr\n")
    with pytest.raises(FileError, match="voxel size 'huge' of a tomogram is no length"):
        io.read_copick(manifest)
    table.unlink()
    with pytest.raises(FileError, match=r"tomograms\.csv: no such file"):
        io.read_copick(manifest)


PICKS = {"pickable_object_name": "a", "voxel_spacing": 10.0, "points": POINTS}
EMAN = {"apix_unbin": 2.5, "boxes_3d": [[10, -20, 4, "tm", 0.5, 2], [1, 2, 3]]}
SOURCES = {
    "config.json": {"pickable_objects": [{"name": "a", "label": 1}], "overlay_root": "/tmp"},
    "metadata.json": None,
    "me_1_a.json": PICKS,
    "TS_1_info.json": EMAN,
    "picks.ndjson": POINTS,
}


@pytest.mark.parametrize("name", SOURCES)
def test_random_damage(manifest, name):
    """Whatever the bytes say: a project or a table, or a line that names the file."""
    path = manifest.with_name(name)
    if name.endswith(".ndjson"):
        path.write_text("\n".join(map(json.dumps, POINTS)))
    elif SOURCES[name] is not None:
        path.write_text(json.dumps(SOURCES[name]))
    raw = path.read_bytes()
    project = name in ("config.json", "metadata.json")
    rng, seen = np.random.default_rng(11), set()
    tracemalloc.start()
    for _ in range(200):
        damaged = bytearray(raw)
        for place in rng.integers(0, len(raw), rng.integers(1, 4)):
            damaged[place] = int(rng.choice([*b'0",:{}[]-e.', 0, 255, rng.integers(256)]))
        cut = rng.integers(1, len(raw)) if rng.random() < 0.2 else len(raw)
        path.write_bytes(bytes(damaged[:cut]))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", HeaderWarning)
                found = io.read_copick(path) if project else io.read_table(path)
                if not project:
                    io.particles_of(found, 10.0, (40, 40, 40))
        except FileError as error:
            assert str(manifest.parent) in str(error) and "\n" not in str(error)
            seen.add(FileError)
        else:
            seen.add(type(found))
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()
    assert seen == {FileError, CopickProject if project else ParticleTable}


def test_boxes_of_eman2(tmp_path):
    """As `e2spt_boxer.py` reads them: from the middle, in unbinned pixels."""
    path = tmp_path / "TS_1_info.json"
    path.write_text(json.dumps(EMAN))
    shape, size = (40, 60, 80), 10.0
    found = io.read_particles(path, size, shape)
    wanted = [[4 / 4 + 20, -20 / 4 + 30, 10 / 4 + 40], [3 / 4 + 20, 2 / 4 + 30, 1 / 4 + 40]]
    np.testing.assert_allclose(found.coordinates, wanted)
    assert found.scores.tolist() == [0.5, 0.0] and found.classes.tolist() == [2, 0]
    assert found.columns["method"] == ("tm", "manual")
    path.write_text(json.dumps({"boxes_3d": EMAN["boxes_3d"]}))  # of an imported tomogram
    np.testing.assert_allclose(io.read_particles(path, size).coordinates, [[4, -20, 10], [3, 2, 1]])
    path.write_text(json.dumps({"boxes_3d": [[1, 2]]}))
    with pytest.raises(FileError, match="box 1 is not as EMAN2 writes it .it has no x, y and z"):
        io.read_particles(path, size)
