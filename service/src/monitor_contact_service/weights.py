"""Reads the callers' weights from one line of text. What a weight does is `core.fairness`' matter."""

from collections.abc import Mapping


def parse_weights(text: str) -> Mapping[str, float]:
    """Return the weights that `caller=weight,caller=weight` names.

    Raises:
        ValueError: it has another form, a weight is not between 0.01 and 100, or a caller stands there twice.
    """
    weights: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        caller, separator, number = (each.strip() for each in part.rpartition("="))
        try:
            weight = float(number)
        except ValueError:
            weight = 0.0
        if not separator or not caller or not 0.01 <= weight <= 100 or caller in weights:  # noqa: PLR2004 - see above
            raise ValueError(
                "must be caller=weight,caller=weight with each caller once and weights from 0.01 to 100, for example "
                "spiffe://corp.example/qa-desk=2,spiffe://corp.example/batch=0.5"
            )
        weights[caller] = weight
    return weights
