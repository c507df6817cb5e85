"""EuroSAT in CoOp\'s layout.

root[/eurosat]/2750/<class>/<file>
listed in split_zhou_EuroSAT.json
"""

from __future__ import annotations

from ..coop import CoopLayout
from ..data_set import DataSet, FolderSpec

LAYOUT = CoopLayout(folder="eurosat", pictures="2750", listed="split_zhou_EuroSAT.json")
DATA_SET = DataSet(
    name="eurosat",
    about="10 classes of land use, seen from a satellite, in CoOp's layout",
    spec=FolderSpec,
    read=LAYOUT.read,
    lists=LAYOUT.files,
    owner="EuroSAT",
    terms="MIT",
    noun="satellite",
)
