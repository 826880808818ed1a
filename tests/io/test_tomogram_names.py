"""Names of tomograms: which rows of a table belong to which file, and when that is not clear."""

from pathlib import Path

import pytest

from cryojax_seg import io
from cryojax_seg.io.tomogram_names import matching_names, rows_of

SERIES = ["TS_1", "TS_01", "TS_10", "TS_1_2", "TS_2"]


@pytest.mark.parametrize("own", SERIES)
@pytest.mark.parametrize(
    "dressed",
    [
        *("{}.mrc", "{}.tomostar", "{}.mrc.tomostar", "rec_{}.mrc", "{}_Vol.mrc", "{}_rec.mrc"),
        *("{}_10.00Apx.mrc", "{}_bin4.mrc", "{}_full_rec.mrc", "{}_EVN_Vol.mrc", "a b/{}.rec"),
        *("{}_bin4_denoised.mrc", "{}.ribosome.probability.mrc", "grid_{}.ome.zarr"),
    ],
)
def test_what_programs_add_to_a_name_does_not_hide_it(own, dressed):
    """The number counts to the last digit; both the file and the table may be dressed."""
    assert matching_names(dressed.format(own), SERIES) == [own]
    names = [dressed.format(name) for name in SERIES]
    assert matching_names(f"{own}.mrc", names) == [dressed.format(own)]
    assert matching_names(f"rec_{own}.mrc", names) == [dressed.format(own)]


@pytest.mark.parametrize(
    ("tomogram", "name"),
    [
        *(("TS_1.mrc", "TS_10"), ("TS_1.mrc", "TS_01"), ("TS_1.mrc", "TS_1_2"), ("TS_1.mrc", "1")),
        *(("Lamella_01.mrc", "TS_01"), ("TS_10a.mrc", "TS_11a"), ("rec.mrc", "rec_TS_1")),
        *(("cell_ä_1.mrc", "cell_ö_1"), ("grid_left.mrc", "grid_right"), ("TS_1a.mrc", "TS_1")),
        *(("TS_1_b.mrc", "TS_1_a"), ("tomogram_1.mrc", "tomogram_2"), ("TS1.mrc", "TS_1")),
    ],
)
def test_other_tomograms_do_not_match(tomogram, name):
    assert matching_names(tomogram, [name]) == []
    with pytest.raises(io.FileError, match=f"t.star: .*{name}.* the name .* rlnTomoName"):
        rows_of(tomogram, [name, "else"], "rlnTomoName", None, Path("t.star"))


def test_the_best_agreement_wins_and_doubt_is_refused():
    where = Path("t.star")
    assert rows_of("TS_1.mrc", ["TS_1", "rec_TS_1"], "a", None, where) == ([0], "TS_1")
    assert rows_of("x/b/TS_1.mrc", ["a/TS_1.mrc", "b/TS_1.mrc"], "a", None, where)[0] == [1]
    assert rows_of("run_7/volume.mrc", ["run_7", "run_8"], "a", None, where) == ([0], "run_7")
    assert rows_of("t.mrc", ["7", "7"], "tomo (20)", None, where) == ([0, 1], None)
    assert rows_of("t.mrc", ["map", "map"], "a", None, where) == ([0, 1], "map")  # only one
    for other in ("TS_2", "TS_01", "TS_10", "TS_1_2", "rec_TS_2.mrc", "TS_2_bin4"):
        with pytest.raises(
            io.FileError, match=f"1 tomogram, none of which is called TS_1 .{other}"
        ):
            rows_of("TS_1.mrc", [other] * 2, "a", None, where)
    assert rows_of("t.mrc", ["7", "8"], "tomo (20)", "8", where) == ([1], "8")
    assert rows_of("t.mrc", ["TS_1.tomostar", "TS_2"], "a", "TS_1", where)[0] == [0]
    with pytest.raises(io.FileError, match="several of which may be TS_1: a/TS_1.mrc, b/TS_1.mrc"):
        rows_of("TS_1.mrc", ["a/TS_1.mrc", "b/TS_1.mrc"], "a", None, where)
    with pytest.raises(io.FileError, match="none of which is called t .7, 8.; give the name"):
        rows_of("t.mrc", ["7", "8"], "tomo (20)", None, where)
    with pytest.raises(io.FileError, match="none of which is called TS_3"):
        rows_of("TS_1.mrc", ["TS_1", "TS_2"], "a", "TS_3", where)
    with pytest.raises(io.FileError, match="and 95 more") as refusal:
        rows_of("t.mrc", [f"{'n' * 1000}_{i}" for i in range(100)], "a", None, where)
    assert len(str(refusal.value)) < 500


@pytest.mark.parametrize(
    ("file", "text", "label", "names"),
    [
        ("p.star", "data_\nloop_\n_rlnMicrographName\n_rlnTomoName\na.mrc b\n", "rlnTomoName", "b"),
        ("p.star", "data_\nloop_\n_rlnMicrographName\na.mrc\n", "rlnMicrographName", "a.mrc"),
        ("p.star", "data_\nloop_\n_wrpSourceName\na.tomostar\n", "wrpSourceName", "a.tomostar"),
        ("p.csv", "z,y,x,Tomo Name\n1,2,3,a\n", "Tomo Name", "a"),
        ("p.csv", "z,y,x,run\n1,2,3,a\n", "run", "a"),
        ("p.csv", "z,y,x,experiment\n1,2,3,a\n", "experiment", "a"),
        ("p.tbl", "0 " * 19 + "7.0e0" + " 0 0 0 1 1 1\n", "tomo (20)", "7"),
    ],
)
def test_columns_that_tell_tomograms_apart(tmp_path, file, text, label, names):
    (tmp_path / file).write_text(text)
    assert io.read_table(tmp_path / file).names() == (label, (names,))


def test_an_index_file_names_the_tomograms_of_a_dynamo_table(tmp_path):
    rows = ["0 " * 19 + f"{number} 0 0 0 1 1 1\n" for number in (1, 2, 2)]
    (tmp_path / "crop.tbl").write_text("".join(rows))
    table = io.read_table(tmp_path / "crop.tbl")
    with pytest.raises(io.FileError, match="2 tomograms, none of which is called TS_02"):
        io.rows_of_tomogram(table, "TS_02.mrc")
    assert io.rows_of_tomogram(table, "TS_02.mrc", "1") == ([0], "1")
    (tmp_path / "indices.doc").write_text("1 /data/TS_01.rec\n2 /data/TS_02.rec\n")
    assert io.rows_of_tomogram(table, "TS_02.mrc") == ([1, 2], "/data/TS_02.rec")
