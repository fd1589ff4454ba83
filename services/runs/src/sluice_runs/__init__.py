"""Runs: data taking, the files that it makes and the work on them."""
