"""Settings of the papers' data sets in their official layouts."""

from __future__ import annotations

from typing import Annotated

from ...core.config_base import EXECUTION
from ..data_set import FolderSpec, Switch


class OfficialSpec(FolderSpec):
    """root may be hf://owner/name, a mirror; download: fetch what root lacks."""

    download: Annotated[Switch, EXECUTION] = False
