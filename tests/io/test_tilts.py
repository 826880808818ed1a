"""What programs keep of a tilt series: the same series in the words of each, and damaged files."""

import json

import numpy as np
import pytest

from cryojax_seg import cli, io
from cryojax_seg.io import FileError, read_tilt_series

TILTS = [-57.0, -54.5, -3.0, 0.01, 30.0, 60.0]  # degrees
DOSES = [3.0 * n for n in (6, 5, 2, 1, 3, 4)]  # accumulated after each, in order of the tilts

ALN = """# AreTomo Alignment / Priims bprmMn
# RawSize = 4096 4096 8
# NumPatches = 4
# DarkFrame =     0    1   -60.00
# DarkFrame =     7    8    63.00
# AlphaOffset =     0.00
# SEC     ROT         GMAG       TX          TY      SMEAN     SFIT    SCALE     BASE     TILT
{rows}
# Local Alignment
   0   0   -558.42   -802.00   -100.07     24.43   1.0
"""
MDOC = """PixelSpacing = 2.17
ImageFile = TS_01.mrc
ImageSize = 4092 5760

[T = SerialEM: Digitized on EMBL Krios]

[T =     Tilt axis angle = 85.3, binning = 1  spot = 8  camera = 0]

{sections}"""
WARP = """<?xml version="1.0" encoding="utf-8"?>
<TiltSeries DataDirectory="." AreAnglesInverted="False" PlaneNormal="0, 0, 0">
  <Angles>{angles}</Angles>
  <Dose>{doses}</Dose>
  <UseTilt>{use}</UseTilt>
  <AxisAngle>{axes}</AxisAngle>
  <CTF><Param Name="PixelSize" Value="2.17" /><Param Name="Defocus" Value="3.1" /></CTF>
  <GridCTF Width="1" Height="1" Depth="2">
    <Node X="0" Y="0" Z="0" Value="2.9" /><Node X="0" Y="0" Z="1" Value="3.3" />
  </GridCTF>
</TiltSeries>
"""


def lines(values):
    return "\n".join(str(value) for value in values)


def texts():
    pairs = list(zip(TILTS, DOSES, strict=True))
    rows = [
        f"{i:5d}   85.3000  1.00000   12.3   -4.5  1.00  1.00  1.00  0.00  {tilt:8.2f}"
        for i, tilt in enumerate(TILTS, 1)
    ]
    sections = [
        f"[ZValue = {i}]\nTiltAngle = {tilt}\nExposureDose = 3\nDefocus = -{d}\n"
        f"RotationAngle = 175.3\nSubFramePath = X:\\\\frames\\\\{i}.tif\n"
        for i, (tilt, d) in enumerate(zip(TILTS, (2.9, 3.3, 3, 3, 3, 3), strict=True))
    ]
    warp = WARP.format(
        angles=lines([*TILTS, 63.0]),
        doses=lines([*DOSES, 9.0]),
        use=lines([True] * 6 + [False]),
        axes=lines([85.3] * 7),
    )
    labels = ("wrpMovieName", "wrpAngleTilt", "wrpAxisAngle", "wrpDose")
    star = "\ndata_\n\nloop_\n" + lines(f"_{name} #{i}" for i, name in enumerate(labels, 1)) + "\n"
    tomostar = star + lines(f"../a/{i}.tif {t} 85.3 {d}" for i, (t, d) in enumerate(pairs)) + "\n"
    labels = ("rlnTomoNominalStageTiltAngle", "rlnTomoNominalTiltAxisAngle")
    labels += ("rlnMicrographPreExposure", "rlnDefocusU", "rlnTomoYTilt")
    star = "data_TS_01\nloop_\n" + lines(f"_{name} #{i}" for i, name in enumerate(labels, 1)) + "\n"
    relion = star + lines(
        f"{t - 1} 85.3 {d} {u} {t}"
        for (t, d), u in zip(pairs, (29000, 33000, 3e4, 3e4, 3e4, 3e4), strict=True)
    )
    return {
        "list of tilts": lines(f" {tilt:.2f}" for tilt in TILTS) + "\n\n",
        "list of tilts, of AreTomo": lines(f"{t:.2f}  {i}  3.0" for i, t in enumerate(TILTS)),
        "AreTomo alignment": ALN.format(rows="\n".join(rows)),
        "SerialEM metadata (mdoc)": MDOC.format(sections="\n".join(sections)),
        "Warp tilt series (XML)": warp,
        "Warp tilt series (tomostar)": tomostar,
        "RELION tilt series": relion,
    }


@pytest.fixture(params=texts())
def kind(request):
    return request.param


@pytest.fixture
def file(put, kind):
    return put("series.txt", texts()[kind].encode())  # told apart by content


def test_every_program_says_the_same(file, kind):
    found = read_tilt_series(file)
    assert found.kind == kind.split(",")[0]
    assert found.tilts == tuple(TILTS)
    assert found.tilt_range == (-57.0, 60.0)
    listed = kind.startswith("list")
    assert found.axis == (None if listed else 85.3)
    assert found.dose == (None if listed or "AreTomo" in kind else 18.0)
    says = "XML" in kind or "mdoc" in kind or "RELION" in kind
    assert found.defocus == (pytest.approx((2.9, 3.3)) if says else None)
    assert found.left_out == {"AreTomo alignment": 2, "Warp tilt series (XML)": 1}.get(kind, 0)


def test_info_shows_how_it_was_understood(file, kind, capsys):
    assert cli.main(["info", "--json", str(file)]) in (0, None)
    shown = json.loads(capsys.readouterr().out)
    assert shown["kind"] == "tilt series"
    assert shown["facts"]["understood as"] == kind.split(",")[0]
    assert shown["facts"]["tilt range"] == "-57 to 60 degrees"
    assert shown["facts"]["tilts"].split(",")[0] == "6"


def test_commands_take_the_tilt_range_from_it(file):
    from cryojax_seg.cli import evaluate, segment, simulate
    from cryojax_seg.cli.arguments import flat, parse

    kinds = {"segment": segment.Segment, "evaluate": evaluate.Evaluate}
    kinds["simulate"] = simulate.Simulate
    words = ["simulate", "vesicles", "-o", "x", "--tilt-from", str(file)]
    given = parse(words, kinds)
    assert given.tilt.tilt_range == (-57.0, 60.0)
    assert given.tilt.wedge().tilt_range == (-57.0, 60.0)
    assert "tilt_from" not in flat(given)
    given = parse(["segment", "m", "t.mrc", "-o", "x", "--tilt-from", str(file)], kinds)
    assert given.volume.tilt_range == (-57.0, 60.0)


def test_two_sources_of_the_tilts_are_refused(file, tmp_path):
    from cryojax_seg.cli import simulate, train
    from cryojax_seg.cli.arguments import parse

    kinds = {"simulate": simulate.Simulate, "train": train.Train}
    words = ["simulate", "vesicles", "-o", "x", "--tilt-from", str(file)]
    for both in (["--tilt-range", "-60", "60"], ["--tilt_range=-50", "50"]):
        with pytest.raises(ValueError, match="--tilt-range and --tilt-from both say"):
            parse([*words, *both], kinds)
    config = tmp_path / "config.yaml"
    train = ["train", "t.mrc", "--labels", "l.mrc", "-o", "r", "--config", str(config)]
    config.write_text("tilt_range: [-40, 40]")  # what is typed wins over the file
    assert parse([*train, "--tilt-from", str(file)], kinds).volume.tilt_range == (-57.0, 60.0)
    config.write_text(f"tilt_from: {file}")
    assert parse(train, kinds).volume.tilt_range == (-57.0, 60.0)
    given = parse([*train, "--tilt-range", "-30", "30"], kinds)
    assert given.volume.tilt_range == (-30.0, 30.0)
    config.write_text(f"tilt_from: {file}\ntilt_range: [-40, 40]")
    with pytest.raises(ValueError, match="give one of them"):
        parse(train, kinds)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("z,y,x\n1,2,3\n", "is no file of a tilt series; give"),
        ("-60\n300\n", "is no file of a tilt series; give"),
        ("[ZValue = 0]\nExposureDose = 3\n", "'TiltAngle'"),
        ("[ZValue = 0]\nTiltAngle = 300\n", "tilt of 300 degrees"),
        ("# AreTomo Alignment / Priims bprmMn\n", "says no tilt"),
        ("<TiltSeries><Angles>1 2", "not a readable tilt series"),
        ("<!DOCTYPE a><TiltSeries></TiltSeries>", "defines entities"),
        ("data_\nloop_\n_wrpAngleTilt #1\nabc\n", "not a readable tilt series"),
    ],
)
def test_other_files_are_refused(put, text, words):
    path = put("a.mdoc", text.encode())
    with pytest.raises(FileError, match=words) as caught:
        read_tilt_series(path)
    assert str(path) in str(caught.value)


def test_random_damage(file):
    raw = file.read_bytes()
    rng, seen = np.random.default_rng(2), set()
    for _ in range(200):
        damaged = bytearray(raw)
        for place in rng.integers(0, len(raw), rng.integers(1, 6)):
            damaged[place] = int(rng.integers(9, 127))
        file.write_bytes(
            damaged[: rng.integers(1, len(damaged))] if rng.random() < 0.1 else damaged
        )
        try:
            seen.add(type(read_tilt_series(file)))
        except FileError as error:
            assert str(file) in str(error)
            seen.add(FileError)
    assert seen == {io.TiltSeries, FileError}
