"""The form that every benchmark has: a table for people, and one JSON object as the last line for programs."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["AtLeast", "AtMost", "Report"]


@dataclass(frozen=True)
class AtLeast:
    """A target: this much or more."""

    value: float

    def met(self, figure: float) -> bool:
        """Whether a figure satisfies it."""
        return figure >= self.value

    def __str__(self) -> str:
        return f">= {self.value:g}"


@dataclass(frozen=True)
class AtMost:
    """A target: this much or less."""

    value: float

    def met(self, figure: float) -> bool:
        """Whether a figure satisfies it."""
        return figure <= self.value

    def __str__(self) -> str:
        return f"<= {self.value:g}"


@dataclass
class Report:
    """What one benchmark found.

    Attributes
    ----------
    bench
        Its name.
    targets
        By the name of a figure or ratio.
    measured
        Figures; their names end with the unit.
    ratios
        Figures over their baselines of the same run.
    doubts
        Why nothing can be said about the targets, a sentence each.
    """

    bench: str
    targets: Mapping[str, AtLeast | AtMost]
    measured: dict[str, float] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)

    @property
    def met(self) -> bool | None:
        """Whether every target is met; None where that cannot be told."""
        figures = {**self.measured, **self.ratios}
        if self.doubts or not self.targets.keys() <= figures.keys():
            return None
        return all(target.met(figures[name]) for name, target in self.targets.items())

    def show(self) -> None:
        """Print the table, the doubts and the JSON object."""
        figures = {**self.measured, **self.ratios}
        width = max(map(len, (*figures, *self.targets)), default=0)
        print(f"\n{self.bench}: {os.cpu_count()} processors, load average {os.getloadavg()[0]:.1f}\n")
        for name, value in figures.items():
            target = self.targets.get(name)
            verdict = "" if target is None else f"{target!s:>10}   {'met' if target.met(value) else 'NOT MET'}"
            print(f"  {name:<{width}}  {_short(value):>12}  {verdict}".rstrip())
        for name in self.targets.keys() - figures.keys():
            print(f"  {name:<{width}}  {'not measured':>12}  {self.targets[name]!s:>10}")
        for doubt in self.doubts:
            print(f"\n{doubt}")
        print(
            json.dumps(
                {
                    "bench": self.bench,
                    "measured": {name: _rounded(value) for name, value in self.measured.items()},
                    "ratios": {name: _rounded(value) for name, value in self.ratios.items()},
                    "targets": {name: str(target) for name, target in self.targets.items()},
                    "met": self.met,
                }
            ),
            flush=True,
        )


def _rounded(value: float) -> float:
    return float(f"{value:.4g}") if abs(value) < 1000 else round(value)


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
