"""Food-101 in CoOp\'s layout.

root[/food-101]/images/<class>/<file>
listed in split_zhou_Food101.json
"""

from __future__ import annotations

from ..coop import CoopLayout
from ..data_set import DataSet, FolderSpec

LAYOUT = CoopLayout(folder="food-101", pictures="images", listed="split_zhou_Food101.json")
DATA_SET = DataSet(
    name="food101",
    about="101 dishes, in CoOp's layout",
    spec=FolderSpec,
    read=LAYOUT.read,
    lists=LAYOUT.files,
    owner="Food-101",
    terms="not stated; pictures of the web, research use",
    noun="food",
)
