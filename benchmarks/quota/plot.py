"""Draws the figures of `compare.py --json` as SVG: `plot.py RESULTS.json FOLDER`. Needs matplotlib and nothing of ours.

The same figures give the same bytes: no date, no random identifiers, and text stays text.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# In an environment of its own: see requirements.in.
import matplotlib as mpl  # type: ignore[import-not-found]
from matplotlib.axes import Axes  # type: ignore[import-not-found]
from matplotlib.figure import Figure  # type: ignore[import-not-found]

mpl.rcParams.update(
    {
        "svg.fonttype": "none",
        "svg.hashsalt": "monitor-contact",
        "font.family": "sans-serif",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
    }
)

SERVICE = "service"
# Okabe and Ito's colours, which people with any kind of colour vision can tell apart; the service stands out.
COLOURS: Mapping[str, str] = {
    "legacy": "#999999",
    "standard, own clients": "#e69f00",
    "standard, one client": "#f0e442",
    "adaptive, own clients": "#56b4e9",
    "adaptive, one client": "#0072b2",
    SERVICE: "#d55e00",
}
# Scenario, group and label, in the order of the bars.
SUCCESS: Sequence[tuple[str, str, str]] = (
    ("herd", "all", "herd\nof 100"),
    ("cron", "all", "cron\nof 40"),
    ("hog", "the nine", "nine beside\na hog"),
    ("steady-1.8", "all", "steady\n1.8/s"),
    ("mixed-2.4", "all", "mixed\n2.4/s"),
    ("errors-20", "all", "20 %\n500s"),
    ("halved", "during", "quota halved:\nduring"),
    ("halved", "after", "quota halved:\nafter"),
)
BIN_SECONDS = 5.0
HALVED_SECONDS = (100.0, 200.0)
HOG_POLICIES = ("standard, own clients", "adaptive, own clients", "adaptive, one client", SERVICE)

Results = Mapping[tuple[str, str], Mapping[str, Any]]


def main() -> None:
    """Draw all plots."""
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    results = {(row["scenario"], row["policy"]): row for row in json.loads(source.read_text())["results"]}
    for name, figure in (
        ("success", success(results)),
        ("waits", waits(results)),
        ("throttled", throttled(results)),
    ):
        figure.savefig(folder / f"quota-{name}.svg", metadata={"Date": None}, bbox_inches="tight")


def success(results: Results) -> Figure:
    """Draw the share of calls that succeed within their deadline, by scenario and policy."""
    figure = Figure(figsize=(10, 3.6))
    axes = figure.subplots()
    width = 0.8 / len(COLOURS)
    for number, (policy, colour) in enumerate(COLOURS.items()):
        shares = [results[scenario, policy]["groups"][group]["success"] for scenario, group, _ in SUCCESS]
        places = [place + (number - (len(COLOURS) - 1) / 2) * width for place in range(len(SUCCESS))]
        axes.bar(places, shares, width, color=colour, label=policy)
    axes.set_xticks(range(len(SUCCESS)), [label for _, _, label in SUCCESS])
    axes.set_ylabel("success within the deadline")
    axes.set_ylim(0, 1.02)
    _legend(figure, axes)
    return figure


def waits(results: Results) -> Figure:
    """Draw how long each caller waits beside a hog: median to 90th percentile."""
    figure = Figure(figsize=(10, 3.6))
    for axes, policy in zip(
        figure.subplots(1, len(HOG_POLICIES), sharey=True, squeeze=False)[0], HOG_POLICIES, strict=True
    ):
        callers = results["hog", policy]["callers"]
        found = list(callers.values())
        colours = ["#555555" if name == "hog" else COLOURS[policy] for name in callers]
        medians, longest = [row["p50_seconds"] for row in found], [row["p90_seconds"] for row in found]
        places = range(len(found))
        axes.vlines(places, medians, longest, colors=colours, linewidth=2)
        axes.scatter(places, medians, 14, colours)
        axes.axhline(10, color="black", linewidth=0.6, linestyle=":")
        share = results["hog", policy]["groups"]["the nine"]["success"]
        axes.set_title(f"{policy}\n{share:.0%} of the light calls in time", fontsize=9)
        axes.set_xticks(range(len(callers)), [name.removeprefix("light-") for name in callers])
        axes.set_yscale("log")
        axes.set_yticks([0.2, 0.5, 1, 2, 5, 10, 50, 100], ["0.2", "0.5", "1", "2", "5", "10", "50", "100"])
        axes.minorticks_off()
    figure.axes[0].set_ylabel("seconds until success: median to 90 %")
    figure.supxlabel("caller (0 to 8: light); dotted: the deadline", fontsize=9)
    figure.tight_layout()
    return figure


def throttled(results: Results) -> Figure:
    """Draw the 429s a second while the quota is halved, and in the herd."""
    figure = Figure(figsize=(10, 3.4))
    halved, herd = figure.subplots(1, 2, width_ratios=(2, 1))
    for axes, scenario, until in ((halved, "halved", 300.0), (herd, "herd", 60.0)):
        bins = int(until / BIN_SECONDS)
        for policy, colour in COLOURS.items():
            rates = [count / BIN_SECONDS for count in results[scenario, policy]["throttled_by_bin"][:bins]]
            edges = [number * BIN_SECONDS for number in range(bins + 1)]
            axes.stairs(
                rates, edges, color=colour, label=policy, baseline=None, linewidth=2 if policy == SERVICE else 1.2
            )
        axes.set_xlabel("seconds")
    halved.axvspan(*HALVED_SECONDS, color="#eeeeee", zorder=0)
    halved.set_title("1.6/s, the quota halved from 100 to 200 s", fontsize=9)
    halved.set_ylabel("429s a second")
    herd.set_title("100 callers at once", fontsize=9)
    herd.set_yscale("symlog", linthresh=1)
    herd.set_ylim(bottom=0)
    herd.set_yticks([0, 1, 10, 100], ["0", "1", "10", "100"])
    _legend(figure, halved)
    return figure


def _legend(figure: Figure, axes: Axes) -> None:
    figure.legend(*axes.get_legend_handles_labels(), loc="upper center", ncols=len(COLOURS), bbox_to_anchor=(0.5, 1.04))


if __name__ == "__main__":
    main()
