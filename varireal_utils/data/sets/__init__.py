"""One module for each data set; `registry.py` lists them."""
