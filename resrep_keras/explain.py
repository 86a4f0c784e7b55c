"""explain(model): which channels can be pruned, which cannot, and why."""

import dataclasses
import json

from resrep_keras.graph.trace import trace


@dataclasses.dataclass(frozen=True)
class Explanation:
    """One row for each layer that makes channels; `print` it.

    Args:
        rows: Dicts with `layer`, `channels`, `status` and `reason`.
        pins: Pairs `(layer name, reason)` of all places that pin channels.
        totals: Counts over the whole model.
    """

    rows: tuple
    pins: tuple
    totals: dict

    def __str__(self):
        lines = [f"{'layer':32}{'channels':>9}  status"]
        for row in self.rows:
            note = f" ({row['reason']})" if row["reason"] else ""
            lines.append(f"{row['layer'][:31]:32}{row['channels']:>9}  {row['status']}{note}")
        total = self.totals
        lines.append("")
        lines.append(
            f"{total['prunable']} of {total['channels']} channels can be pruned on their own, "
        )
        lines[-1] += f"{total['coupled']} more with coupled=True."
        return "\n".join(lines)

    def to_json(self):
        """Return the explanation as a JSON text."""
        return json.dumps(
            {**dataclasses.asdict(self), "pins": [list(p) for p in self.pins]}, indent=1
        )


def explain(model, input_shape=None):
    """Say for each layer whether its channels can be pruned, and if not, which node keeps them.

    Args:
        model: Built Functional or Sequential `keras.Model`.
        input_shape: See `trace`.

    Returns:
        An `Explanation`.

    Example:

    >>> print(resrep_keras.explain(keras.applications.ResNet50(weights=None)))
    """
    graph = trace(model, input_shape)
    rows = [row for group in graph.groups for row in _rows(group)]
    counted = {
        status: sum(r["channels"] for r in rows if r["status"].startswith(status))
        for status in ("prunable", "coupled", "pinned")
    }
    totals = {"channels": sum(r["channels"] for r in rows), **counted}
    return Explanation(tuple(rows), graph.pins, totals)


def _rows(group):
    for producer in group.producers:
        if not group.prunable:
            status, reason = "pinned", group.reason or "it has a single channel"
        elif group.coupled:
            others = [p.name for p in group.producers if p is not producer]
            status, reason = "coupled", f"with {', '.join(others[:3])}"
        else:
            status, reason = "prunable", None
            if producer.follows:
                reason = f"follows {group.name}"
        yield {
            "layer": producer.name,
            "channels": len(producer.channels),
            "status": status,
            "reason": reason,
        }
