"""What componentize-py would make of `wit/plugin.wit`, as far as the SDK uses it: for native tests."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Err(Exception):
    """The error of a function of the contract."""

    def __init__(self, value):
        super().__init__(value)
        self.value = value


@dataclass
class _Data:
    value: list


class types:  # noqa: N801 - the name of the module that it stands for
    """`sequin:plugin/types`."""

    Action = Enum("Action", ["INSERT", "UPDATE", "DELETE", "READ"], start=0)
    Presence = Enum("Presence", ["VALUE", "NULL", "UNCHANGED", "ABSENT"], start=0)
    Verdict = Enum("Verdict", ["KEEP", "DROP", "EVICT", "REPLACE", "MANY", "ERROR"], start=0)
    Effect = Enum("Effect", ["USUAL", "WRITE", "COMPLETE", "REMOVE"], start=0)

    class Data_Booleans(_Data):  # noqa: N801
        pass

    class Data_Integers(_Data):  # noqa: N801
        pass

    class Data_Floats(_Data):  # noqa: N801
        pass

    class Data_Texts(_Data):  # noqa: N801
        pass

    class Data_Json(_Data):  # noqa: N801
        pass

    class Data_Bytes(_Data):  # noqa: N801
        pass

    @dataclass
    class Column:
        name: str
        type_name: str
        key: bool
        presence: list
        data: Any

    @dataclass
    class Position:
        commit_lsn: int
        ordinal: int

    @dataclass
    class Batch:
        schema: str
        table: str
        actions: list
        positions: list
        columns: list
        old: list
        metadata: list

    @dataclass
    class NewColumn:
        name: str
        presence: list
        data: Any

    @dataclass
    class Document:
        row: int
        effect: Any
        json: str

    @dataclass
    class RowError:
        row: int
        column: str
        message: str
        retry: bool

    @dataclass
    class Reply:
        verdicts: list
        columns: list
        only: Any
        documents: list
        errors: list


class lifecycle:  # noqa: N801
    """`sequin:plugin/lifecycle`."""

    @dataclass
    class Description:
        config_schema: str
        capabilities: list
        warm: bool
        extra: list

    @dataclass
    class Reads:
        table: str
        columns: list = field(default_factory=list)
        old_columns: list = field(default_factory=list)
        metadata: list = field(default_factory=list)

    @dataclass
    class Requirements:
        reads: list
        packed: bool
        extra: list

    @dataclass
    class ConfigError:
        field: str
        message: str


class log:  # noqa: N801
    """`sequin:plugin/log`: in a native test, nobody listens."""

    Level = Enum("Level", ["DEBUG", "INFO", "WARN", "ERROR"], start=0)

    @staticmethod
    def log(level, message):
        pass
