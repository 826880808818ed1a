"""Labelled volumes made from signed distances, for demonstrations and tests."""

from cryojax_seg.simulate.phantom import KINDS as KINDS
from cryojax_seg.simulate.phantom import Phantom as Phantom
from cryojax_seg.simulate.phantom import phantom as phantom
