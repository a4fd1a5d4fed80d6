"""Progress of a fit: tqdm where it is installed, plain lines on a terminal otherwise, nothing in a log file."""

from __future__ import annotations

import sys
from typing import Any, Callable, Optional

UNITS = {"prior": "evaluations", "likelihood": "evaluations", "mixture": "steps"}


def in_notebook() -> bool:
    """Whether output goes to a notebook, which is no terminal but shows bars."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"


def name(event: dict[str, Any]) -> str:
    """What a stage is called."""
    if event["round"] == 0:
        return str(event["stage"])
    beta = f" (beta {event['beta']:.3f})" if "beta" in event else ""
    return f"round {event['round']}: {event['stage']}{beta}"


class Bars:
    """A tqdm bar per stage; only those of the current stage are on the screen."""

    def __init__(self, tqdm: Any) -> None:
        self.tqdm = tqdm
        self.bar: Any = None
        self.stage: Optional[tuple[str, int]] = None

    def __call__(self, event: dict[str, Any]) -> None:
        if event["stage"] == "round":
            return
        stage = (event["stage"], event["round"])
        if stage != self.stage:
            self.close()
            unit = " " + UNITS.get(event["stage"], "points")
            self.bar = self.tqdm(total=event["total"], desc=name(event), unit=unit, leave=False)
            self.stage = stage
        bar = self.bar
        if bar is not None:
            bar.total = event["total"]
            bar.update(event["done"] - bar.n)

    def close(self) -> None:
        """Takes the bar away."""
        if self.bar is not None:
            self.bar.close()
        self.bar = None


class Lines:
    """A line on stderr for every stage."""

    def __init__(self) -> None:
        self.stage: Optional[tuple[str, int]] = None

    def __call__(self, event: dict[str, Any]) -> None:
        if event["stage"] == "round":
            return
        stage = (event["stage"], event["round"])
        if stage != self.stage:
            self.stage = stage
            print(f"lwflow: {name(event)}", file=sys.stderr)

    def close(self) -> None:
        """Nothing is left open."""


def reporter(progress: Any) -> tuple[Optional[Callable[[dict[str, Any]], Any]], Callable[[], None]]:
    """The callback for `progress`, and what to call at the end."""
    if callable(progress):
        return progress, lambda: None
    shown = progress and (in_notebook() or sys.stderr.isatty())
    if not shown:
        return None, lambda: None
    try:
        from tqdm.auto import tqdm
    except ImportError:
        made: Any = Lines()
    else:
        made = Bars(tqdm)
    return made, made.close
