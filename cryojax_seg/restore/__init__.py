"""Provides restorers, operators from a volume to a volume, for use alone or before a segmenter."""

from cryojax_seg.restore.contrast import LocalContrast as LocalContrast
from cryojax_seg.restore.deconvolution import ctf_deconvolution as ctf_deconvolution
from cryojax_seg.restore.diffusion import AnisotropicDiffusion as AnisotropicDiffusion
from cryojax_seg.restore.energy import sample_statistics as sample_statistics
from cryojax_seg.restore.gaussian import Gaussian as Gaussian
from cryojax_seg.restore.learned import Learned as Learned
from cryojax_seg.restore.learned import unet_restorer as unet_restorer
from cryojax_seg.restore.nonlocal_means import NonLocalMeans as NonLocalMeans
from cryojax_seg.restore.radial import RadialFilter as RadialFilter
from cryojax_seg.restore.spectral import fit_wiener as fit_wiener
from cryojax_seg.restore.spectral import fit_wiener_white as fit_wiener_white
from cryojax_seg.restore.spectral import match_spectrum as match_spectrum
from cryojax_seg.restore.spectral import wiener as wiener
