"""The types of the contract: those that componentize-py makes, or in a native test the same by hand.

They are imported here and not later, since a component has no file system to import from.
"""

try:
    import componentize_py_types
    from wit_world.exports import lifecycle
    from wit_world.imports import log, types

    Err = componentize_py_types.Err
except ModuleNotFoundError as error:
    if error.name not in ("componentize_py_types", "wit_world"):
        raise
    from .native import Err, lifecycle, log, types

__all__ = ["Err", "lifecycle", "log", "types"]
