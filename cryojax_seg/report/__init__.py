"""Writes reports as single HTML files with SVG charts, and pictures."""

from cryojax_seg.report.averaged import write_average_page as write_average_page
from cryojax_seg.report.comparison import comparison_page as comparison_page
from cryojax_seg.report.measured import measurement_page as measurement_page
from cryojax_seg.report.measured_folder import MEASUREMENT_FILES as MEASUREMENT_FILES
from cryojax_seg.report.measured_folder import write_measurements as write_measurements
from cryojax_seg.report.measured_tables import measurement_tables as measurement_tables
from cryojax_seg.report.picture import draw_outcomes as draw_outcomes
from cryojax_seg.report.score_tables import audit_table as audit_table
from cryojax_seg.report.score_tables import score_tables as score_tables
from cryojax_seg.report.segmented import segmentation_meshes as segmentation_meshes
from cryojax_seg.report.segmented import segmentation_scenes as segmentation_scenes
from cryojax_seg.report.segmented import write_segmentation_meshes as write_segmentation_meshes
from cryojax_seg.report.segmented import write_segmentation_page as write_segmentation_page
from cryojax_seg.report.segmented import write_segmentation_readme as write_segmentation_readme
from cryojax_seg.report.segmented import write_segmentation_scenes as write_segmentation_scenes
