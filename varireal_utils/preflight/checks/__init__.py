"""The checks, one file each; registry.py holds their order."""
