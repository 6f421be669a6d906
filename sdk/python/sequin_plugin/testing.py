"""Runs a plugin over rows written down in a test, without WebAssembly.

    outcomes = testing.run(Lower, {"column": "name"}, [{"name": "Ž"}, {"name": None}])
    assert outcomes == [{"lower": "ž"}, {"lower": None}]
"""

import json

from .bindings import types
from .columns import UNCHANGED, Out, RowError, rows
from .roles import Filter, configured, judge_of

#: In an outcome: the row goes on without this column.
REMOVED = "(removed)"


def _column(name, values, types_of):
    presence, data, is_json = [], [], False
    for value in values:
        if value is UNCHANGED:
            presence.append(types.Presence.UNCHANGED)
        elif value is None:
            presence.append(types.Presence.NULL)
        else:
            presence.append(types.Presence.VALUE)
            is_json = is_json or isinstance(value, (dict, list))
        data.append(value)
    if is_json:
        data = [json.dumps(value) if value is not UNCHANGED else "" for value in data]
    case = types.Data_Json if is_json else types.Data_Texts
    return types.Column(name, types_of.get(name, ""), False, presence, case(data))


def run(plugin_class, config, given, *, action="insert", table="public.t", sink="webhook",
        old=None, metadata=None, types_of=None):
    """What becomes of these rows (dicts): of a filter the verdicts, else a dict of the columns that
    were set, `("drop",)`, `("evict",)`, a list of `(effect, document)`, or the `RowError`.

    Raises `Err` with all that is wrong with the configuration.
    """
    plugin = configured(plugin_class, json.dumps(config))

    def columns(of):
        of = [dict(row) for row in of]
        names = list(dict.fromkeys(name for row in of for name in row))
        return [
            _column(name, [row.get(name, UNCHANGED) for row in of], types_of or {}) for name in names
        ]

    schema, _, name = table.rpartition(".")
    count = len(given)
    batch = types.Batch(
        schema, name, [types.Action[action.upper()]] * count,
        [types.Position(1, index) for index in range(count)],
        columns(given), columns(old or [{}] * count), columns(metadata or [{}] * count),
    )
    judge = judge_of(plugin, sink)
    return [_outcome(plugin, judge, row) for row in rows(batch)]


def _outcome(plugin, judge, row):
    out = Out()
    try:
        judge(row, out)
    except RowError as error:
        return error
    if isinstance(plugin, Filter):
        return out.verdict
    if out.verdict in (types.Verdict.DROP, types.Verdict.EVICT):
        return (out.verdict.name.lower(),)
    if out.documents:
        return [(effect.name.lower(), json.loads(text)) for effect, text in out.documents]
    absent = types.Presence.ABSENT
    return {
        name: REMOVED if presence is absent else json.loads(value) if kind == "json" else value
        for name, (kind, presence, value) in out.cells.items()
    }
