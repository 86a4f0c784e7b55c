"""What the tests of `explain` share."""

import xml.etree.ElementTree as ElementTree

import keras

from resrep_keras.explanation.explain import explain
from tests import zoo

SVG = "{http://www.w3.org/2000/svg}"


def explained(name, **settings):
    return explain(zoo.ZOO[name](), **settings)


def column(explanation, key):
    return [vars(row)[key] for row in explanation.rows]


def model_of(*stack, shape=(4, 4, 2)):
    return keras.Sequential([keras.Input(shape), *stack])


def boxes_of(text, kind="call"):
    """``(name, attributes of the box, tooltip)`` of each call, or port, in a picture."""
    root = ElementTree.fromstring(text)
    groups = [g for g in root.iter(f"{SVG}g") if g.get("class") == kind]
    return [
        (g.get("data-name"), g.find(f"{SVG}rect").attrib, g.findtext(f"{SVG}title")) for g in groups
    ]
