"""Reads what each config key means: the docstring below it.

Pydantic can do so too, but does it whenever the config is imported, and only what writes documents needs it.
"""

import ast
import functools
import inspect
from collections.abc import Mapping
from itertools import pairwise

from controller.config.sections import Section


def descriptions_of(section: type[Section]) -> Mapping[str, str]:
    """Read the descriptions of a section's keys, those that it inherits included."""
    found: dict[str, str] = {}
    for each in inspect.getmro(section):
        if issubclass(each, Section):
            found |= _own_descriptions(each)
    return found


@functools.cache
def _own_descriptions(section: type[Section]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    (definition,) = ast.parse(inspect.getsource(section)).body
    if isinstance(definition, ast.ClassDef):
        for key, below in pairwise(definition.body):
            match key, below:
                case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(text))):
                    found[name] = text
    return found
