"""psycopg2 on a slot that exists: counts rows, or also makes JSON of their columns, and prints what
it saw and the CPU time that it took.

Arguments: connection string, slot, rows, `raw` or `json`.
"""

import json
import struct
import sys
import time

import psycopg2
import psycopg2.extras


class Reader:
    def __init__(self, expected, decode):
        self.expected, self.decode = expected, decode
        self.rows = self.bytes = 0
        self.columns = {}

    def __call__(self, message):
        payload = message.payload
        kind = payload[0]
        if kind == 0x49:  # I: an insert, and there is nothing else in this log.
            self.rows += 1
            if self.decode:
                self.bytes += len(json.dumps(self.row(payload)))
            if self.rows == self.expected:
                raise EOFError
        elif kind == 0x52:  # R: a relation.
            self.relation(payload)

    def relation(self, payload):
        oid = payload[1:5]
        at = payload.index(b"\0", 5) + 1
        at = payload.index(b"\0", at) + 2
        (count,) = struct.unpack_from(">H", payload, at)
        at, names = at + 2, []
        for _ in range(count):
            end = payload.index(b"\0", at + 1)
            names.append(payload[at + 1 : end].decode())
            at = end + 9
        self.columns[oid] = names

    def row(self, payload):
        at, row = 8, {}
        for name in self.columns[payload[1:5]]:
            kind = payload[at]
            if kind == 0x74:  # t: text.
                end = at + 5 + int.from_bytes(payload[at + 1 : at + 5], "big")
                row[name] = payload[at + 5 : end].decode()
                at = end
            else:
                row[name] = None
                at += 1
        return row


def main(url, slot, rows, mode):
    reader = Reader(int(rows), mode == "json")
    connection = psycopg2.connect(
        url, connection_factory=psycopg2.extras.LogicalReplicationConnection
    )
    cursor = connection.cursor()
    options = {"proto_version": "1", "publication_names": "bench"}
    cursor.start_replication(slot_name=slot, options=options, decode=False)
    before = time.process_time_ns()
    try:
        cursor.consume_stream(reader)
    except EOFError:
        pass
    cpu_ns = time.process_time_ns() - before
    print(json.dumps({"rows": reader.rows, "bytes": reader.bytes, "cpu_ns": cpu_ns}))


main(*sys.argv[1:])
