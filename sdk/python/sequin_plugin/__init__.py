"""Write plugins for the Sequin change-data-capture engine in Python.

A plugin judges rows one at a time; this package deals with the batches and columns in which they
cross the boundary. This is a whole transform:

    import sequin_plugin

    class Lower(sequin_plugin.Transform):
        config_schema = {"type": "object", "required": ["column"],
                         "additionalProperties": False,
                         "properties": {"column": {"type": "string"}}}

        def reads(self):
            return sequin_plugin.Reads([self.config["column"]])

        def transform(self, row, out):
            text = row[self.config["column"]]
            if text is None:
                out["lower"] = None
            elif text is not sequin_plugin.UNCHANGED:
                out["lower"] = text.lower()

    Lifecycle, Transform = sequin_plugin.export(Lower)

Without WebAssembly, `sequin_plugin.testing` runs it over rows written down in a test. It needs
nothing but Python's own library.

What to know:

- `UNCHANGED` is not None. Postgres leaves out large values that an update did not touch, and of
  deleted rows all but the key; never guess at them. It has no truth value, so that `if row["x"]:`
  cannot take it for null: it is an error of that row.
- No state. The same row must get the same answer in any batch; keep nothing between rows.
- One bad row fails alone: raise `RowError`, which names the column and not the value. Of any other
  exception the dead letter tells its type and line, not its text, which may hold values.
"""

from .columns import UNCHANGED, Bytes, Json, Out, Reads, Row, RowError
from .roles import DROP, EVICT, KEEP, ConfigError, Filter, Route, Transform, export, log

__all__ = [
    "DROP", "EVICT", "KEEP", "UNCHANGED", "Bytes", "ConfigError", "Filter", "Json", "Out", "Reads",
    "Route", "Row", "RowError", "Transform", "export", "log",
]
