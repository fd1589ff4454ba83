"""The five kinds of tags (contract 2.2, 10.1)."""

from dataclasses import dataclass

__all__ = ["BACKGROUND", "BY_LETTER", "EVGEN", "KINDS", "PHYSICS", "RECO", "SIMU", "Kind"]


@dataclass(frozen=True)
class Kind:
    """One kind of tags.

    Attributes
    ----------
    letter
        What its labels begin with.
    name
        What columns, tables and counters begin with.
    model
        Class name in ``No {model} matches the given query.``
    title
        For people.
    """

    letter: str
    name: str
    model: str
    title: str

    @property
    def resource(self) -> str:
        """Its place in the path."""
        return f"{self.name}-tags"

    def label(self, number: int) -> str:
        """Return the label of a number."""
        return f"{self.letter}{number}"


PHYSICS = Kind("p", "physics", "PhysicsTag", "Physics")
EVGEN = Kind("e", "evgen", "EvgenTag", "EvGen")
SIMU = Kind("s", "simu", "SimuTag", "Simulation")
RECO = Kind("r", "reco", "RecoTag", "Reconstruction")
BACKGROUND = Kind("k", "background", "BackgroundTag", "Background")

KINDS = (PHYSICS, EVGEN, SIMU, RECO, BACKGROUND)
"""In the order of names."""

BY_LETTER = {kind.letter: kind for kind in KINDS}
