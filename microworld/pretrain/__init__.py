"""Training of the micro models (notebooks/micro_pretrain.ipynb). No stage imports this."""
