"""Caltech 101 in CoOp\'s layout.

root[/caltech-101]/101_ObjectCategories/<class>/<file>
listed in split_zhou_Caltech101.json
"""

from __future__ import annotations

from ..coop import CoopLayout
from ..data_set import DataSet, FolderSpec

LAYOUT = CoopLayout(
    folder="caltech-101", pictures="101_ObjectCategories", listed="split_zhou_Caltech101.json"
)
DATA_SET = DataSet(
    name="caltech101",
    about="100 classes of objects, in CoOp's layout",
    spec=FolderSpec,
    read=LAYOUT.read,
    lists=LAYOUT.files,
    owner="Caltech 101",
    terms="CC BY 4.0",
)
