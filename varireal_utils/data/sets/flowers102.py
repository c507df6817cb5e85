"""Oxford Flowers 102 in CoOp\'s layout.

root[/oxford_flowers]/jpg/<file>
listed in split_zhou_OxfordFlowers.json
"""

from __future__ import annotations

from ..coop import CoopLayout
from ..data_set import DataSet, FolderSpec

LAYOUT = CoopLayout(folder="oxford_flowers", pictures="jpg", listed="split_zhou_OxfordFlowers.json")
DATA_SET = DataSet(
    name="flowers102",
    about="102 flowers, in CoOp's layout",
    spec=FolderSpec,
    read=LAYOUT.read,
    lists=LAYOUT.files,
    owner="Oxford Flowers 102",
    terms="not stated; pictures of the web",
    noun="flower",
)
