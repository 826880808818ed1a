"""Saved models: the same function comes back, or an error says what is wrong."""

import dataclasses
import hashlib
import io
import json
import pickle
import resource
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cryojax_seg.core import (
    Chain,
    MissingWedge,
    Segmenter,
    Stacked,
    Symmetrized,
    apply,
    normalize,
)
from cryojax_seg.core import labels as core_labels
from cryojax_seg.io import (
    FileError,
    ForeignModuleError,
    ModelCard,
    ModelError,
    load_model,
    model,
    save_model,
)
from cryojax_seg.io.model_arrays import pack
from cryojax_seg.io.modules import flat_state, parameter_names
from cryojax_seg.restore import LocalContrast, NonLocalMeans
from cryojax_seg.segmenters import (
    ConvNet,
    GlobalThreshold,
    LinearVote,
    LocalThreshold,
    Tomoseg,
    UNet,
    fit_normalization,
)
from cryojax_seg.simulate import WedgeImaging, presets, simulate

CARD = ModelCard(
    voxel_size=(13.48, 13.48, 13.48),
    contrast="bright",
    tilt_range=(-60.0, 45.0),
    voxel_sizes=(6.0, 20.0),
    tilt_ranges=((-35.0, 40.0), (-70.0, 70.0)),
    temperature=1.25,
    provenance={"tomograms": ["a.mrc"], "steps": 200, "loss": 0.125},
)
MODULES = {
    "threshold": lambda: GlobalThreshold(0.7, softness=0.3),
    "bands": lambda: GlobalThreshold([0.5, 2.5], classes=("background", "lipid", "gold")),
    "vote": lambda: LinearVote(radius=1),
    "tomoseg": lambda: Tomoseg(rngs=nnx.Rngs(1)),
    "unet": lambda: UNet(width=2, depth=1, classes=("background", "a", "b"), rngs=nnx.Rngs(2)),
    "sequential": lambda: Chain([LocalContrast(scale=2.0), GlobalThreshold(1.5)]),
    "nested": lambda: Stacked(
        [
            GlobalThreshold(0.1),
            Symmetrized(
                UNet(width=2, depth=1, rngs=nnx.Rngs(3)),
                MissingWedge((-60.0, 50.0), softness=0.01),
            ),
        ],
        classes=("background", "membrane"),
    ),
}


def trained(module):
    """The module with parameters that no constructor would give it."""
    return jax.tree.map(lambda p: p + jnp.asarray(0.01, p.dtype), module)


def leaves(module):
    return jax.tree.leaves(nnx.state(module))


@pytest.fixture
def saved(tmp_path):
    save_model(tmp_path / "model", trained(MODULES["vote"]()), CARD)
    return tmp_path / "model"


@pytest.mark.parametrize("name", MODULES)
def test_round_trip(tmp_path, name):
    module = trained(MODULES[name]())
    save_model(tmp_path / "model", module, CARD)
    loaded, card = load_model(tmp_path / "model")
    assert card == CARD
    assert type(loaded) is type(module) and loaded.classes == module.classes
    assert jax.tree.structure(nnx.state(loaded)) == jax.tree.structure(nnx.state(module))
    for a, b in zip(leaves(loaded), leaves(module), strict=True):
        assert a.dtype == b.dtype and np.array_equal(a, b)
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == ["arrays.npz", "model.json"]
    if name in ("threshold", "bands", "vote", "sequential"):
        volume = jax.random.normal(jax.random.key(0), (8, 8, 8))
        assert np.array_equal(loaded(volume), module(volume))


def test_nested_values_come_back(tmp_path):
    module = MODULES["nested"]()
    save_model(tmp_path / "model", module)
    loaded, card = load_model(tmp_path / "model")
    wedge = loaded.segmenters[1].wedge
    assert wedge.tilt_range == (-60.0, 50.0) and wedge.softness == 0.01
    assert loaded.segmenters[1].flips == module.segmenters[1].flips
    assert card == ModelCard()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_other_float_types(tmp_path, dtype):
    module = jax.tree.map(lambda p: p.astype(dtype), MODULES["vote"]())
    save_model(tmp_path / "model", module)
    loaded, _ = load_model(tmp_path / "model")
    assert [a.dtype for a in leaves(loaded)] == [jnp.dtype(dtype)] * len(leaves(module))
    assert all(np.array_equal(a, b) for a, b in zip(leaves(loaded), leaves(module), strict=True))


def fitted_unet():
    """A U-Net with measured statistics, and a normalized phantom."""
    scene = presets.vesicles(jax.random.key(1), (24, 32, 32), 10.0)
    phantom = simulate(scene, WedgeImaging(snr=1.0), jax.random.key(2))
    volume = normalize(np.asarray(phantom.density), "bright")
    net = UNet(width=4, depth=1, norm="instance", classes=("membrane",), rngs=nnx.Rngs(0))
    return fit_normalization(net, volume, patch=16), volume


def test_parameters_of_half_the_size_keep_the_labels(tmp_path):
    net, volume = fitted_unet()
    for name, float16 in (("whole", False), ("half", True), ("again", True)):
        save_model(tmp_path / name, net, CARD, float16=float16)
    sizes = [(tmp_path / name / "arrays.npz").stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.7 * sizes[1]  # with 100 bytes of header for each array
    loaded, card = load_model(tmp_path / "half")
    before, after = flat_state(net), flat_state(loaded)
    parameters = parameter_names(net)
    assert card == CARD and before.keys() == after.keys() > parameters
    for name, value in before.items():
        assert after[name].dtype == value.dtype == np.float32
        kept = np.asarray(value).astype(np.float16) if name in parameters else value
        assert np.array_equal(after[name], kept), name
    assert model.model_digest(tmp_path / "half") == model.model_digest(tmp_path / "again")
    save_model(tmp_path / "resaved", loaded, CARD, float16=True)  # rounds nothing twice
    assert model.model_digest(tmp_path / "half") == model.model_digest(tmp_path / "resaved")
    labels = [np.asarray(core_labels(apply(m, volume))) for m in (net, loaded)]
    assert 0.05 < labels[0].mean() < 0.95
    assert (labels[0] != labels[1]).mean() < 1e-3


def test_a_parameter_too_large_for_float16_is_not_saved(tmp_path):
    with pytest.raises(ModelError, match="threshold holds values that are too large for float16"):
        save_model(tmp_path / "model", GlobalThreshold(1e6), float16=True)
    save_model(tmp_path / "model", GlobalThreshold(1e6))
    assert float(load_model(tmp_path / "model")[0].threshold[...]) == 1e6


def test_float64_is_never_cut_to_float32(tmp_path, x64):
    module = jax.tree.map(lambda p: p.astype(jnp.float64) / 3, GlobalThreshold(1.0))
    save_model(tmp_path / "model", module)
    assert load_model(tmp_path / "model")[0].threshold[...].dtype == jnp.float64
    with jax.enable_x64(False), pytest.raises(ModelError, match="JAX_ENABLE_X64"):
        load_model(tmp_path / "model")


def test_the_same_model_gives_the_same_arrays(tmp_path):
    for name in ("a", "b"):
        save_model(tmp_path / name, MODULES["unet"]())
    first, second = ((tmp_path / name / "arrays.npz").read_bytes() for name in ("a", "b"))
    assert first == second


def test_existing_model(saved):
    before = (saved / "model.json").read_bytes()
    with pytest.raises(FileError, match="exists already"):
        save_model(saved, GlobalThreshold(1.0))
    assert (saved / "model.json").read_bytes() == before
    save_model(saved, GlobalThreshold(1.0), overwrite=True)
    assert isinstance(load_model(saved)[0], GlobalThreshold)
    assert [p.name for p in saved.parent.iterdir()] == ["model"]


class Foreign(Segmenter):
    """A segmenter of somebody's own."""

    halo, stride, classes = 0, 1, ("foreground",)

    def __init__(self, offset=0.0):
        self.offset = nnx.Param(jnp.asarray(offset, jnp.float32))

    def __call__(self, volume):
        return (volume - self.offset[...])[..., None]


def test_a_segmenter_of_ones_own_is_loaded_only_where_its_module_is_allowed(tmp_path):
    save_model(tmp_path / "model", Chain([LocalContrast(scale=2.0), Foreign(0.5)]))
    with pytest.raises(ForeignModuleError, match="allow that module by name") as caught:
        load_model(tmp_path / "model")
    assert caught.value.module == __name__ and str(tmp_path / "model") in str(caught.value)
    loaded, _ = load_model(tmp_path / "model", allow=[__name__])
    assert type(loaded.segmenter) is Foreign and float(loaded.segmenter.offset[...]) == 0.5


@pytest.mark.parametrize("name", ["os:system", "subprocess:Popen", "evil.mine:Segmenter"])
def test_a_model_never_imports_a_module_by_itself(saved, name):
    forge(saved, lambda content: content["operator"].update({"class": name}))
    with pytest.raises(
        ForeignModuleError, match=f"{name.partition(':')[0]!r}, which a model never"
    ):
        load_model(saved)
    with pytest.raises(ModelError, match="is not an operator|cannot be imported"):
        load_model(saved, allow=[name.partition(":")[0]])


def local():
    class Hidden(Foreign):
        pass

    return Hidden()


@pytest.mark.parametrize(
    ("module", "card", "words"),
    [
        (local, ModelCard(), "Hidden could not be found again"),
        (lambda: GlobalThreshold(float("nan")), ModelCard(), "NaN"),
        (lambda: GlobalThreshold(1.0), ModelCard(provenance={"x": object()}), "plain JSON"),
        (lambda: GlobalThreshold(1.0), ModelCard(provenance={"x": float("inf")}), "plain JSON"),
    ],
)
def test_what_could_not_be_loaded_is_not_saved(tmp_path, module, card, words):
    with pytest.raises(ModelError, match=words) as caught:
        save_model(tmp_path / "model", module(), card)
    assert str(tmp_path / "model") in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def refused(path, words):
    with pytest.raises(ModelError, match=words) as caught:
        load_model(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["model.json", "arrays.npz"])
def test_missing_file(saved, name):
    (saved / name).unlink()
    refused(saved, f"{name} is missing")


def test_no_folder(saved):
    refused(saved.parent / "absent", "no such model folder")
    saved.rename(saved.with_name(".former-model"))
    refused(saved, "left the former one at")


@pytest.mark.parametrize("name", ["model.json", "arrays.npz"])
def test_every_flipped_bit_is_noticed(saved, name):
    file = saved / name
    raw = file.read_bytes()
    rng = np.random.default_rng(0)
    for position in [0, len(raw) - 2, *rng.integers(0, len(raw), 40).tolist()]:
        damaged = bytearray(raw)
        damaged[position] ^= 1 << int(rng.integers(0, 7))
        file.write_bytes(damaged)
        if name == "model.json" and json_equal(raw, bytes(damaged)):
            continue  # white space
        refused(saved, "model")
    file.write_bytes(raw)
    load_model(saved)


def json_equal(first: bytes, second: bytes) -> bool:
    try:
        return json.loads(first) == json.loads(second)
    except ValueError:
        return False


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5])
@pytest.mark.parametrize("name", ["model.json", "arrays.npz"])
def test_truncated(saved, name, keep):
    raw = (saved / name).read_bytes()
    (saved / name).write_bytes(raw[: int(len(raw) * keep) if keep == 0.5 else keep])
    refused(saved, "damaged")


def forge(path, change, arrays=None):
    """A model whose checksums fit, as somebody with bad intentions would write it."""
    content = json.loads((path / "model.json").read_text())
    if arrays is not None:
        (path / "arrays.npz").write_bytes(arrays)
        content["arrays_sha256"] = hashlib.sha256(arrays).hexdigest()
    content.pop("sha256")
    change(content)
    content["sha256"] = hashlib.sha256(model._canonical(content)).hexdigest()
    (path / "model.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    "name",
    [
        *("cryojax_seg.segmenters:Evil", "cryojax_seg.core:LocalOperator", 3, None, ["a"]),
        *("cryojax_seg.core:hyperparameters", "cryojax_seg.core:np", "cryojax_seg.core", "a b:c"),
    ],
)
def test_unknown_class(saved, name):
    forge(saved, lambda content: content["operator"].update({"class": name}))
    refused(saved, "is not (the name of )?an operator")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(version=1), "format version 1 .*train the model again"),
        (lambda c: c.update(version=99), "format version 99 .*install a newer version"),
        (lambda c: c.update(format="other"), "does not describe"),
        (lambda c: c["operator"]["arguments"].update(evil=1), "no argument evil"),
        (lambda c: c["operator"]["arguments"].update(radius=2), "its class needs"),
        (lambda c: c["operator"]["arguments"].update(radius=-1), "cannot be built|its class"),
        (lambda c: c["operator"]["arguments"].update(radius={"a": 1}), "a module needs a class"),
        (lambda c: c.pop("operator"), "damaged"),
        (lambda c: c["card"].update(extra=1), "card"),
        (lambda c: c["card"].update(contrast="green"), "card"),
        (lambda c: c["card"].update(voxel_size=[1.0]), "card"),
        (lambda c: c["arrays"].pop("kernel"), "model.json lists"),
        (lambda c: c["arrays"]["kernel"].update(shape=[2**40]), r"model\.json says"),
        (lambda c: c["arrays"]["kernel"].update(stored="float64"), r"model\.json says"),
        (lambda c: c["arrays"]["kernel"].update(dtype="float64"), "is stored as float32"),
        (lambda c: c["arrays"]["kernel"].update(dtype="object"), "array kernel|damaged"),
        (lambda c: c["arrays"]["kernel"].update(sha256="0"), "SHA-256 differs"),
    ],
)
def test_forged_descriptions(saved, change, words):
    forge(saved, change)
    refused(saved, words)


def nested(depth):
    inner = {"class": "cryojax_seg.segmenters:GlobalThreshold", "arguments": {}}
    for _ in range(depth):
        inner = {"class": "cryojax_seg.core:Chain", "arguments": {"operators": [inner]}}
    return inner


def test_deep_nesting(saved):
    forge(saved, lambda content: content.update(operator=nested(40)))
    refused(saved, "nested more than")
    (saved / "model.json").write_text("[" * 10**6)
    refused(saved, "damaged")


def test_a_pickle_among_the_arrays_is_never_run(saved, tmp_path):
    canary = tmp_path / "canary"

    class Canary:
        def __reduce__(self):
            return (open, (str(canary), "w"))

    objects = io.BytesIO()
    np.savez(objects, bias=np.array([Canary()], object), kernel=np.array([Canary()], object))
    forge(saved, lambda content: None, objects.getvalue())
    refused(saved, "array")
    (saved / "arrays.npz").write_bytes(pickle.dumps(Canary()))
    refused(saved, "SHA-256")
    (saved / "model.json").write_bytes(pickle.dumps(Canary()))
    refused(saved, "damaged")
    assert not canary.exists()


def test_a_zip_that_expands_is_refused(saved):
    members = {}
    with zipfile.ZipFile(saved / "arrays.npz") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, raw in members.items():
            archive.writestr(name, raw + bytes(2**24))
    forge(saved, lambda content: None, packed.getvalue())
    refused(saved, "compressed")


def test_parameters_that_are_not_finite(saved):
    loaded, _ = load_model(saved)
    arrays = {k: np.full(v.shape, np.nan, v.dtype) for k, v in flat_state(loaded).items()}
    packed = pack(arrays)

    def change(content):
        for name, array in arrays.items():
            content["arrays"][name]["sha256"] = hashlib.sha256(array.tobytes()).hexdigest()

    forge(saved, change, packed)
    refused(saved, "NaN or infinite")


def test_a_large_network_on_paper_costs_nothing(saved):
    """A forged width of a million is refused at once."""
    save_model(saved, MODULES["unet"](), overwrite=True)
    forge(saved, lambda content: content["operator"]["arguments"].update(width=10**6))
    refused(saved, "its class needs|cannot be built")


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("unet", {"depth": 12}, "more parameters than its file"),
        ("unet", {"depth": 1000}, "depth 0 to 16"),
        ("unet", {"depth": 10**9}, "cannot be built with depth"),
        ("unet", {"width": 4000, "depth": 9}, "more parameters than its file"),
        ("vote", {"radius": 400}, "more parameters than its file"),
        ("vote", {"radius": 2000}, "more parameters than its file|has a halo of"),
        ("vote", {"radius": 10**6}, "cannot be built with radius"),
        ("convnet", {"layers": 4000}, "more parameters than its file"),
        ("convnet", {"kernel": 4001}, "more parameters than its file"),
        ("local", {"scales": [1e9], "radii": None}, "has a halo of"),
        ("local", {"scales": [1.0], "radii": [4000]}, "has a halo of"),
        ("means", {"search": 4000}, "has a halo of"),
        ("stacked", {"classes": [str(i) for i in range(10**5)]}, "more parameters than its file"),
    ],
)
def test_a_description_out_of_all_proportion_costs_nothing(saved, name, arguments, words):
    made = {
        "unet": MODULES["unet"],
        "vote": lambda: LinearVote(1),
        "convnet": lambda: ConvNet(2, 2, rngs=nnx.Rngs(0)),
        "local": lambda: LocalThreshold((2.0,)),
        "means": lambda: NonLocalMeans(1),
        "stacked": lambda: Stacked(
            [GlobalThreshold(1.0), GlobalThreshold(2.0)], ("background", "a")
        ),
    }[name]()
    save_model(saved, made, overwrite=True)
    forge(saved, lambda content: content["operator"]["arguments"].update(arguments))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(saved, words)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18  # KiB


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[
            ("voxel_size", v)
            for v in ([0, 0, 0], [1, 2], ["1", 2, 3], [10**400, 1, 1], 5, {}, [-1, 1, 1])
        ],
        *[("tilt_range", v) for v in ([-200, 60], "ab", [1], [None, 2])],
        *[("patch", v) for v in ("x", 0, 10**9, 1.5, True, [48])],
        *[("halo", v) for v in ("x", -1, 10**9, 2.0)],
        *[("voxel_sizes", v) for v in (5, [1], [0, 10], ["a", "b"], [1, 2, 3])],
        *[("tilt_ranges", v) for v in (5, [[-60, 60]], [None, [-60, 60]], [[-99, 60], [-1, 1]])],
        *[("provenance", v) for v in ([], "x", 3)],
        *[("contrast", v) for v in ("grey", None, 1, ["dark"])],
    ],
)
def test_a_card_of_odd_types(saved, field, value):
    forge(saved, lambda content: content["card"].update({field: value}))
    refused(saved, "its card")


@pytest.mark.parametrize("name", ["operator", "classes", "card", "arrays", "arrays_sha256"])
@pytest.mark.parametrize("value", [None, 5, "x" * 10**6, [[]], {"x": {}}])
def test_a_description_of_odd_types(saved, name, value):
    forge(saved, lambda content: content.update({name: value}))
    with pytest.raises(ModelError) as caught:
        load_model(saved)
    assert str(saved) in str(caught.value) and len(str(caught.value)) <= 500


def test_card_fields_are_all_in_the_description(saved):
    content = model.read_description(saved)
    assert set(content["card"]) == {f.name for f in dataclasses.fields(ModelCard)}
    assert set(content["software"]) == {"cryojax_seg", "jax", "flax", "numpy", "python"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"thresholds": (0.5,)}, "thresholds.*2 numbers above 0"),
        ({"thresholds": (0.5, 1.0)}, "thresholds.*below 1"),
        ({"shifts": (0.0, 1.0)}, "shifts.*3 numbers"),
    ],
)
def test_a_calibration_without_sense_is_refused(tmp_path, values, message):
    card = dataclasses.replace(CARD, **values)
    save_model(tmp_path / "model", MODULES["bands"](), card)
    with pytest.raises(ModelError, match=message):
        load_model(tmp_path / "model")


def test_a_calibration_comes_back(tmp_path):
    card = dataclasses.replace(CARD, shifts=(0.0, 0.5, -1.0), thresholds=(0.25, 0.7))
    save_model(tmp_path / "model", MODULES["bands"](), card)
    assert load_model(tmp_path / "model")[1] == card
