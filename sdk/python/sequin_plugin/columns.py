"""Rows as plugins see them, on columns as they cross the boundary."""

import json

from .bindings import types

INTEGER_MIN, INTEGER_MAX = -(2**63), 2**63 - 1


class _Unchanged:
    """Not sent: TOAST that an update did not touch, or what a deleted row had outside its key."""

    def __repr__(self):
        return "UNCHANGED"

    def __bool__(self):
        raise RowError("a value that was not sent was taken for true or false")


UNCHANGED = _Unchanged()


class RowError(Exception):
    """Fails one row, which is put aside with this message: without the row's values, since it ends
    up in logs."""

    def __init__(self, message, column="", retry=False):
        super().__init__(message)
        self.message, self.column, self.retry = message, column, retry


class Json(str):
    """A text that is a JSON document already: set as it is."""


Bytes = bytes


class Reads:
    """What a plugin wants handed to it: columns, of the row before an update, and metadata
    (`commit_timestamp`, `transaction_annotations`, `idempotency_key`, `enrichment`).

    `table` is `schema.table`, or `*` for every table; `["*"]` is all columns.
    """

    def __init__(self, columns=(), old=(), metadata=(), table="*"):
        self.columns, self.old, self.metadata, self.table = columns, old, metadata, table


class _Side:
    """Columns by name; JSON is parsed when it is asked for."""

    def __init__(self, columns):
        self.columns = {}
        for column in columns:
            is_json = isinstance(column.data, types.Data_Json)
            self.columns[column.name] = (column, column.presence, column.data.value, is_json)


class Row:
    """One row's change. `row[name]` is a bool, int, float, str, bytes, what JSON parses to, None
    for null, or `UNCHANGED`. What comes as text: numeric, times, uuid."""

    __slots__ = ("_batch", "_sides", "_side", "_index")

    def __init__(self, batch, sides, index, side="columns"):
        self._batch, self._sides, self._index, self._side = batch, sides, index, side

    def __getitem__(self, name):
        found = self._sides[self._side].columns.get(name)
        if found is None:
            raise RowError("no such column: it was not asked for, or the table lacks it", name)
        _, presence, values, is_json = found
        at = presence[self._index]
        if at is types.Presence.VALUE:
            value = values[self._index]
            return json.loads(value) if is_json else value
        return None if at is types.Presence.NULL else UNCHANGED

    def __contains__(self, name):
        return name in self._sides[self._side].columns

    def __iter__(self):
        """The names of the columns that were asked for and that the table has."""
        return iter(self._sides[self._side].columns)

    def json_text(self, name):
        """The value of a JSON column as it stands, not parsed."""
        value = self[name]
        if value is None or value is UNCHANGED:
            return value
        return self._sides[self._side].columns[name][2][self._index]

    def type_name(self, name):
        """Postgres' name of the column's type."""
        return self._column(name).type_name

    def is_key(self, name):
        """Whether the column belongs to the table's key."""
        return self._column(name).key

    def _column(self, name):
        found = self._sides[self._side].columns.get(name)
        if found is None:
            raise RowError("no such column: it was not asked for, or the table lacks it", name)
        return found[0]

    @property
    def old(self):
        """The row before the update, as far as it was asked for and sent."""
        return Row(self._batch, self._sides, self._index, "old")

    @property
    def metadata(self):
        """What is known of the change beside its row, by the names asked for."""
        return Row(self._batch, self._sides, self._index, "metadata")

    @property
    def schema(self):
        """The schema of its table."""
        return self._batch.schema

    @property
    def table(self):
        """Its table."""
        return self._batch.table

    @property
    def action(self):
        """`insert`, `update`, `delete`, or `read` by a backfill."""
        return self._batch.actions[self._index].name.lower()

    @property
    def position(self):
        """(commit LSN, ordinal in the transaction): the same on every replay."""
        position = self._batch.positions[self._index]
        return position.commit_lsn, position.ordinal


def rows(batch):
    """The rows of a batch."""
    names = ("columns", "old", "metadata")
    sides = {name: _Side(getattr(batch, name)) for name in names}
    return (Row(batch, sides, index) for index in range(len(batch.actions)))


_KINDS = {
    "booleans": (types.Data_Booleans, False),
    "integers": (types.Data_Integers, 0),
    "floats": (types.Data_Floats, 0.0),
    "texts": (types.Data_Texts, ""),
    "json": (types.Data_Json, "null"),
    "bytes": (types.Data_Bytes, b""),
}


def _kind(name, value):
    if isinstance(value, bool):
        return "booleans", value
    if isinstance(value, int):
        if not INTEGER_MIN <= value <= INTEGER_MAX:
            raise RowError("an integer of more than 64 bits: set it as a text", name)
        return "integers", value
    if isinstance(value, float):
        return "floats", value
    if isinstance(value, Json):
        return "json", str(value)
    if isinstance(value, str):
        return "texts", value
    if isinstance(value, (bytes, bytearray)):
        return "bytes", bytes(value)
    return "json", dump(value)


def dump(value):
    """A value as JSON."""
    if isinstance(value, Json):
        return str(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


class Out:
    """What becomes of one row in a transform: nothing said, it goes on as it is."""

    def __init__(self):
        self.cells, self.verdict, self.documents = {}, types.Verdict.KEEP, []

    def __setitem__(self, name, value):
        """Sets a column: None is null, a dict or a list is JSON."""
        if value is UNCHANGED:
            self.cells.pop(name, None)
        elif value is None:
            self.cells[name] = (None, types.Presence.NULL, None)
        else:
            kind, value = _kind(name, value)
            self.cells[name] = (kind, types.Presence.VALUE, value)

    def __delitem__(self, name):
        """The row goes on without this column."""
        self.cells[name] = (None, types.Presence.ABSENT, None)

    def drop(self):
        """It is of no interest: nothing is sent, and nothing at a destination changes."""
        self.verdict = types.Verdict.DROP

    def evict(self):
        """It is outside the set: a destination that holds state removes its document."""
        self.verdict = types.Verdict.EVICT

    def replace(self, document):
        """This document goes on in the place of the row."""
        self.documents, self.verdict = [(types.Effect.USUAL, dump(document))], types.Verdict.REPLACE

    def send(self, document, effect="usual"):
        """One more document goes on in the place of the row. `effect` says what becomes of it at a
        destination that holds state: `usual`, `write`, `complete` or `remove`."""
        self.documents.append((types.Effect[effect.upper()], dump(document)))
        self.verdict = types.Verdict.MANY


class Answer:
    """The reply to a batch, row by row."""

    def __init__(self, count):
        self.count = count
        self.verdicts = [types.Verdict.KEEP] * count
        self.columns, self.documents, self.errors = {}, [], []

    def put(self, index, out):
        """What became of the row at this index."""
        self.verdicts[index] = out.verdict
        for name, cell in out.cells.items():
            self._cell(index, name, *cell)
        for effect, text in out.documents:
            self.documents.append(types.Document(index, effect, text))

    def _cell(self, index, name, kind, presence, value):
        # What has no value goes with any column of its name.
        kinds = self.columns.setdefault(name, {})
        kind = kind or next(iter(kinds), "texts")
        if kind not in kinds:
            nothing = _KINDS[kind][1]
            kinds[kind] = ([types.Presence.UNCHANGED] * self.count, [nothing] * self.count)
        presences, values = kinds[kind]
        presences[index] = presence
        if presence is types.Presence.VALUE:
            values[index] = value

    def fail(self, index, error):
        """The row at this index failed."""
        self.verdicts[index] = types.Verdict.ERROR
        self.errors.append(types.RowError(index, error.column, error.message, error.retry))

    def reply(self):
        """It as it crosses the boundary."""
        columns = [
            types.NewColumn(name, presences, _KINDS[kind][0](values))
            for name, kinds in self.columns.items()
            for kind, (presences, values) in kinds.items()
        ]
        return types.Reply(self.verdicts, columns, None, self.documents, self.errors)
