"""Every method: one small file each, one contract for all (`cryojax_seg.core.Segmenter`)."""
