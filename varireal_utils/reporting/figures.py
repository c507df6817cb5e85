"""The study's figures: each takes stored tables and returns (Figure, table of what it plots).

A table that lacks a column raises ValueError that names the column. Grids of pictures are in
image_grids.py, the look and saving in style.py.
"""

from .accuracy_figures import accuracy_by_arm
from .check_figures import acceptance, attribute_mask_quality, learning_curves
from .cost_figure import cost
from .dose_figures import accuracy_by_shots, infeasible_share
from .effect_figures import claim_forest, effect_by_class, effect_forest
from .quality_figures import embedding_map, quality_balance
from .replicate_figures import decomposition, dots_over_published, edited_test, true_effects

__all__ = [
    "acceptance",
    "accuracy_by_arm",
    "accuracy_by_shots",
    "attribute_mask_quality",
    "claim_forest",
    "cost",
    "decomposition",
    "dots_over_published",
    "edited_test",
    "effect_by_class",
    "effect_forest",
    "embedding_map",
    "infeasible_share",
    "learning_curves",
    "quality_balance",
    "true_effects",
]
