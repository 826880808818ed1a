"""Decides from the name of a class how its objects are measured."""

import re
from typing import Literal

Kind = Literal["membrane", "organelle", "filament", "complex"]
FilamentKind = Literal["microtubule", "doublet", "actin"]
Form = Literal["surface", "line"]  # of the skeleton of a class
KINDS: tuple[Kind, ...] = ("membrane", "organelle", "filament", "complex")

_VOCABULARY: dict[Kind, str] = {
    "membrane": """
        membrane, bilayer, monolayer, envelope, crista, leaflet, plasmalemma, tonoplast, sarcolemma,
        phagophore, isolation membrane, thylakoid, pm, omm, imm, onm, inm
        """,
    "organelle": """
        organelle, vesicle, liposome, micelle, vacuole, lysosome, endosome, autophagosome,
        autolysosome, phagosome, peroxisome, melanosome, magnetosome, carboxysome, mitochondrion,
        mito, chloroplast, plastid, pyrenoid, golgi, golgi apparatus, cisterna, reticulum, er,
        nucleus, nucleolus, centriole, centrosome, lipid droplet, droplet, granule, condensate,
        inclusion, body, bleb, compartment, lumen, matrix, stroma, cytosol, cytoplasm, nucleoplasm,
        periplasm, cell, bacterium, synapse
        """,
    "filament": """
        filament, protofilament, microfilament, microtubule, mt, actin, actin filament, fiber,
        fibre, fibril, bundle, cytoskeleton, vimentin, keratin, septin, ftsz, mreb, flagellum,
        pilus, doublet, amyloid, collagen, dna, tmv
        """,
    "complex": """
        complex, macromolecule, molecule, protein, particle, oligomer, dimer, trimer, tetramer,
        hexamer, subunit, ribosome, polysome, disome, proteasome, nucleosome, spliceosome,
        apoptosome, inflammasome, signalosome, chaperonin, chaperone, groel, tric, cct, hsp60,
        synthase, atpase, gtpase, synthetase, polymerase, kinase, protease, peptidase, amylase,
        galactosidase, dehydrogenase, oxidase, reductase, transferase, carboxylase, rubisco,
        nitrogenase, enzyme, ferritin, apoferritin, thyroglobulin, hemoglobin, haemoglobin,
        hemocyanin, albumin, globulin, antibody, immunoglobulin, tubulin, myosin, dynein, kinesin,
        clathrin, cop, photosystem, phycobilisome, respirasome, supercomplex, channel, receptor,
        transporter, translocon, exporter, secretion system, pore, npc, spike, glycoprotein, capsid,
        virus, virion, phage, bacteriophage, vlp, fas, vault, trna, mrna, rna
        """,
}
_TERMS: dict[tuple[str, ...], Kind] = {
    tuple(term.split()): kind for kind, terms in _VOCABULARY.items() for term in terms.split(",")
}
_LONGEST = max(map(len, _TERMS))
_FILAMENTS: dict[tuple[str, ...], "FilamentKind"] = {
    **{("microtubule",): "microtubule", ("mt",): "microtubule", ("doublet",): "doublet"},
    **{("actin",): "actin", ("actin", "filament"): "actin", ("microfilament",): "actin"},
}
_PLURALS = {
    **{"mitochondria": "mitochondrion", "nuclei": "nucleus", "nucleoli": "nucleolus"},
    **{"cristae": "crista", "cisternae": "cisterna", "flagella": "flagellum", "pili": "pilus"},
    **{"bacteria": "bacterium", "matrices": "matrix", "lumina": "lumen", "bodies": "body"},
    **{"apoferritin": "ferritin", "reticula": "reticulum"},
}
# A name is about what stands before these words, and not about what stands before the others.
_OF = r"\b(?:of|in|on|at|from|with|near|within|inside|around|by|to)\b"
_BOUND = r"\b\w+[ ](?:bound|associated|attached|embedded|anchored|enclosed|coated|binding|free)\b"


def kind_of(name: str) -> Kind | None:
    """Return how the objects of a class are measured, by the terms in its name.

    Terms are complete words, singular or plural, however they are joined and capitalised. The last
    one decides, as in English: a membrane protein is a protein, an ER membrane a membrane. Words
    after "of", "in" or "on" or in brackets do not count, nor does a word before "bound" or
    "associated". A name that lists different kinds has none.

    Args:
        name: the name of the class.

    Returns:
        one of `KINDS`; None if the name has no known term.

    >>> kind_of("outer_mitochondrial-Membranes"), kind_of("membrane-bound ribosome")
    ('membrane', 'complex')
    >>> kind_of("membrane protein"), kind_of("lumen of the ER"), kind_of("label 3")
    ('complex', 'organelle', None)
    """
    kinds: set[Kind] = {_TERMS[term] for term in _deciding(name)}
    return kinds.pop() if len(kinds) == 1 else None


def filament_of(name: str) -> FilamentKind | None:
    """Return which filaments those of a class are, which decides how stiff and how hollow they are.

    >>> filament_of("MTs"), filament_of("microtubule-associated actin"), filament_of("vimentin")
    ('microtubule', 'actin', None)
    """
    kinds: set[FilamentKind | None] = {_FILAMENTS.get(term) for term in _deciding(name)}
    return kinds.pop() if len(kinds) == 1 else None


def _deciding(name: str) -> list[tuple[str, ...]]:
    """Return the last term of each part of a name."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", " ", name)
    spaced = re.sub(r"\([^)]*\)|\[[^]]*\]", " ", spaced).lower()
    parts = re.split(r",|;|\+|&|/|\band\b|\bor\b", spaced.replace("_", " "))
    found = []
    for part in parts:
        words = " ".join(re.findall(r"[a-z0-9]+", part))
        head = re.split(_OF, re.sub(_BOUND, " ", words))[0]
        term = _last([_singular(word) for word in head.split()])
        found += [term] if term else []
    return found


def _last(words: list[str]) -> tuple[str, ...] | None:
    """Return the term that ends last; of those that end there, the longest."""
    for stop in range(len(words), 0, -1):
        for start in range(max(0, stop - _LONGEST), stop):
            term = tuple(words[start:stop])
            if term in _TERMS and words[start - 1 : start] not in (["non"], ["no"], ["not"]):
                return term
    return None


def _singular(word: str) -> str:
    if word in _PLURALS:
        return _PLURALS[word]
    known = {word for term in _TERMS for word in term}
    shorter = (word[:-1], word[:-2]) if word.endswith("s") else ()
    return word if word in known else next((w for w in shorter if w in known), word)
