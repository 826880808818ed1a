"""Names of classes and the kinds that they tell."""

import pytest

from cryojax_seg import measure

NAMES = {
    "membrane": [
        "membrane", "Membranes", "outer mitochondrial membrane", "outer_mitochondrial_membranes",
        "ER membrane", "ER-membrane", "PlasmaMembrane", "membrane of a vesicle", "PM", "OMM",
        "nuclear envelope", "lipid bilayer", "cristae", "vesicle membrane (left)", "membrane 2",
        "MEMBRANE_contact_site",
    ],
    "organelle": [
        "ER", "endoplasmic reticulum", "mitochondria", "Mitochondrion", "vesicle", "vesicles",
        "synaptic-vesicles", "lipid droplet", "lipid_droplets", "cytosol", "nucleus", "nuclei",
        "lumen", "lumen of the membrane", "membrane-enclosed compartment", "Golgi", "autophagosome",
        "membraneless organelle", "microtubule lumen", "vesicles with membranes", "Golgi-vesicles",
    ],
    "filament": [
        "microtubule", "Microtubules", "actin", "actin filaments", "F-actin", "actin_bundle", "MT",
        "intermediate-filament", "membrane-associated filaments", "flagella",
        "microtubule doublets",
    ],
    "complex": [
        "membrane protein", "membrane proteins", "Membrane_Protein", "membrane-bound ribosome",
        "membrane bound ribosomes", "ribosome_membrane_bound", "macromolecule", "macromolecules",
        "MacroMolecule", "proteasome", "26S proteasome", "ATP synthase", "ATP-synthases",
        "nucleosome", "ribosome", "70S_ribosome", "ribosomes on the ER", "apo-ferritin",
        "beta-galactosidase", "virus-like-particle", "nuclear pore complexes",
        "actin-binding protein", "microtubule-associated protein", "viruses",
        "transmembrane protein", "respiratory complex I", "THYROGLOBULIN",
        "protein in membrane", "cytoplasmic ribosomes",
    ],
    None: [
        "label 3", "membraneous", "factin", "errors", "complexity", "background", "non-membrane",
        "membrane and ribosome", "interactin", "other", "fiberglass", "",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("name", "kind"), [(n, k) for k, names in NAMES.items() for n in names])
def test_the_last_whole_term_of_a_name_tells_the_kind(name, kind):
    assert measure.kind_of(name) == kind


@pytest.mark.parametrize(
    ("name", "filament"),
    [
        ("microtubules", "microtubule"), ("MT", "microtubule"), ("F-actin", "actin"),
        ("actin filaments", "actin"), ("axonemal doublet", "doublet"), ("vimentin", None),
        ("microtubule protein", None), ("actin and microtubule", None), ("label 3", None),
    ],
)  # fmt: skip
def test_the_name_tells_which_filament(name, filament):
    assert measure.filament_of(name) == filament
