// The conformance plugin in JavaScript: what it does is written in ../README.md.
//
// Integers are Numbers, so those beyond 2^53 are rounded by the bindings before they are seen here:
// README.md says what that means. Variants are objects of tag and val; what is thrown is the error.

import { log } from 'sequin:plugin/log@0.1.0';

const EFFECTS = ['usual', 'write', 'complete', 'remove'];
const FIELDS = { packed: 'boolean', table: 'string', only: 'string', refuse: 'string' };
const EXTRA = [['conformance', '1']];

let config = {};

export const lifecycle = {
  describe() {
    const configSchema = '{"type":"object"}';
    return { configSchema, capabilities: [], warm: true, extra: EXTRA };
  },

  configure(json) {
    const errors = [];
    let given = {};
    try {
      given = JSON.parse(json);
    } catch {
      given = null;
    }
    if (given === null || typeof given !== 'object' || Array.isArray(given)) {
      throw [{ field: '', message: 'no flat object' }];
    }
    for (const [field, value] of Object.entries(given)) {
      if (!Object.hasOwn(FIELDS, field)) errors.push({ field, message: 'unknown' });
      else if (typeof value !== FIELDS[field]) errors.push({ field, message: 'wrong type' });
      else if (field === 'refuse') errors.push({ field, message: value });
    }
    if (typeof given.refuse === 'string') errors.push({ field: '', message: 'as a whole' });
    if (errors.length > 0) throw errors;
    config = given;
    const metadata = [
      'commit_timestamp', 'transaction_annotations', 'idempotency_key', 'of_the_future',
    ];
    const reads = [
      { table: config.table ?? '*', columns: ['*'], oldColumns: ['*'], metadata },
      {
        table: 'conformance.narrow', columns: ['wide', 'no_such', 'say'], oldColumns: [],
        metadata: [],
      },
    ];
    return { reads, packed: config.packed ?? false, extra: EXTRA };
  },
};

// What each row says; undefined where it says nothing.
function says(batch) {
  const column = batch.columns.find((column) => column.name === 'say');
  return Array.from(batch.actions, (_, row) => {
    if (column?.presence[row] !== 'value') return undefined;
    const { tag, val } = column.data;
    if (tag === 'texts') return val[row] || undefined;
    if (tag !== 'packed-texts') return undefined;
    const bytes = val.bytes.slice(row === 0 ? 0 : val.ends[row - 1], val.ends[row]);
    // What rows say is ASCII, and this engine has no TextDecoder.
    return String.fromCharCode(...bytes) || undefined;
  });
}

// What is the same in every role: an answer that keeps all rows but those that fail.
function begin(said) {
  if (said.includes('refuse')) throw 'refused as asked';
  const verdicts = said.map(() => 'keep');
  const reply = { verdicts, columns: [], only: undefined, documents: [], errors: [] };
  said.forEach((text, row) => {
    if (text === 'error' || text === 'error-later') {
      const error = text === 'error'
        ? { row, column: 'say', message: 'as asked', retry: false }
        : { row, column: '', message: 'not yet', retry: true };
      reply.errors.push(error);
      verdicts[row] = 'error';
    } else if (text === 'log') {
      for (const level of ['debug', 'info', 'warn', 'error']) log(level, level);
    } else if (text === 'trap') {
      log('error', 'trap as asked');
      // No value of the error's type: the bindings have nothing to do but to trap.
      throw Symbol('trap as asked');
    }
  });
  return reply;
}

function out(reply, said) {
  said.forEach((text, row) => {
    if (text === 'drop' || text === 'evict') reply.verdicts[row] = text;
  });
}

// A column that touches the rows of which it has a value.
function column(name, tag, values, nothing) {
  const presence = values.map((value) => (value === undefined ? 'unchanged' : 'value'));
  return { name, presence, data: { tag, val: values.map((value) => value ?? nothing) } };
}

function echo(prefix, { name, typeName, key, presence, data }, said) {
  const isEcho = (row) => said[row] === 'echo';
  const seen = said.map((_, row) => (isEcho(row)
    ? `${data.tag} ${typeName} ${key ? 'key' : 'no-key'} ${presence[row]}`
    : undefined));
  const back = said.map((_, row) => (isEcho(row) ? presence[row] : 'unchanged'));
  return [
    column(`${prefix}${name}.seen`, 'texts', seen, ''),
    { name: `${prefix}${name}`, presence: back, data },
  ];
}

export const filter = {
  run(batch) {
    const said = says(batch);
    const reply = begin(said);
    out(reply, said);
    return reply;
  },
};

export const route = {
  run(sink, batch) {
    const said = says(batch);
    const reply = begin(said);
    const path = said.map((text, row) => (text !== undefined && reply.verdicts[row] === 'keep'
      ? `/${sink}/${text}`
      : undefined));
    reply.columns.push(column('endpoint_path', 'texts', path, ''));
    return reply;
  },
};

export const transform = {
  run(batch) {
    const said = says(batch);
    const reply = begin(said);
    out(reply, said);
    said.forEach((text, row) => {
      const effects = EFFECTS.filter((effect) => text === effect || text === 'many');
      for (const effect of effects) {
        reply.verdicts[row] = text === 'many' ? 'many' : 'replace';
        reply.documents.push({ row, effect, json: `{"id":"${effect}"}` });
      }
    });
    const facts = said.map((text, row) => {
      const { commitLsn, ordinal } = batch.positions[row];
      return text === 'echo'
        ? `${batch.schema} ${batch.table} ${batch.actions[row]} ${commitLsn} ${ordinal}`
        : undefined;
    });
    reply.columns.push(column('row', 'texts', facts, ''));
    for (const given of batch.columns) reply.columns.push(...echo('new.', given, said));
    for (const given of batch.old) reply.columns.push(...echo('old.', given, said));
    for (const given of batch.metadata) reply.columns.push(...echo('meta.', given, said));
    const say = column('say', 'texts', said.map(() => undefined), '');
    said.forEach((text, row) => {
      if (text === 'null' || text === 'absent') say.presence[row] = text;
    });
    const integers = said.map((text) => (text === 'twin-integer' ? -1 : undefined));
    const texts = said.map((text) => (text === 'twin-text' ? 'one' : undefined));
    reply.columns.push(
      say,
      column('twin', 'integers', integers, 0),
      column('twin', 'texts', texts, ''),
    );
    if (config.only !== undefined) reply.only = [config.only];
    return reply;
  },
};
