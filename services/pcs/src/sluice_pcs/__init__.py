"""Physics configurations that never change once used."""
