// Write plugins for the Sequin change-data-capture engine in JavaScript or TypeScript.
//
// A plugin judges rows one at a time; this file deals with the batches and columns in which they
// cross the boundary. This is a whole transform:
//
//     import { UNCHANGED, defineTransform } from './sequin-plugin.js';
//
//     export const { lifecycle, transform } = defineTransform({
//       schema: { type: 'object', required: ['column'], additionalProperties: false,
//                 properties: { column: { type: 'string' } } },
//       reads: (config) => ({ columns: [config.column] }),
//       transform(row, out, config) {
//         const text = row.get(config.column);
//         if (text === null) out.set('lower', null);
//         else if (text !== UNCHANGED) out.set('lower', text.toLowerCase());
//       },
//     });
//
// `run` runs it over rows written down in a test, without WebAssembly. Nothing is imported here.
//
// What to know:
// - UNCHANGED is not null. Postgres leaves out large values that an update did not touch, and of
//   deleted rows all but the key; never guess at them.
// - No state. The same row must get the same answer in any batch; keep nothing between rows.
// - One bad row fails alone: throw RowError, which names the column and not the value. Of any other
//   exception the dead letter tells its name and place, not its text, which may hold values.
// - Integers beyond 2^53 are rounded by the bindings before they are seen here. A row in which `get`
//   meets one fails, rather than to go on with another number; columns that the plugin does not set
//   are untouched whatever they hold.

/** Not sent: TOAST that an update did not touch, or what a deleted row had outside its key. */
// One for all copies of this file, such as that in a bundle and that of a test.
export const UNCHANGED = Symbol.for('sequin:unchanged');

/** It goes on. */
export const KEEP = 'keep';
/** It is of no interest: nothing is sent, and nothing at a destination changes. */
export const DROP = 'drop';
/** It is outside the set: a destination that holds state removes its document. */
export const EVICT = 'evict';

const VERDICTS = [KEEP, DROP, EVICT];
const EFFECTS = ['usual', 'write', 'complete', 'remove'];
const NOTHING = { booleans: false, integers: 0, floats: 0, texts: '', json: 'null', bytes: new Uint8Array() };

/** Fails one row, which is put aside with this message: without the row's values. */
export class RowError extends Error {
  constructor(message, column = '', retry = false) {
    super(message);
    this.name = 'RowError';
    this.column = column;
    this.retry = retry;
  }
}

// By name, since a bundle has a class of its own.
const isRowError = (error) => error instanceof Error && error.name === 'RowError';

/** A JSON document as text, to be set as it is. */
export class Json {
  constructor(text) {
    this.text = text;
  }
}

/** A float, also where its value is a whole number, which would be set as an integer. */
export class Float {
  constructor(value) {
    this.value = value;
  }
}

const wrong = (field, message) => ({ field, message });

function side(columns) {
  const byName = new Map();
  for (const column of columns) byName.set(column.name, column);
  return byName;
}

/** One row's change. */
export class Row {
  #batch;
  #sides;
  #side;
  #index;

  constructor(batch, sides, index, of = 'columns') {
    this.#batch = batch;
    this.#sides = sides;
    this.#index = index;
    this.#side = of;
  }

  #column(name) {
    const column = this.#sides[this.#side].get(name);
    if (column === undefined) {
      throw new RowError('no such column: it was not asked for, or the table lacks it', name);
    }
    return column;
  }

  #raw(name) {
    const column = this.#column(name);
    const presence = column.presence[this.#index];
    if (presence === 'value') return [column.data.tag, column.data.val[this.#index]];
    return [presence, presence === 'null' ? null : UNCHANGED];
  }

  /**
   * A boolean, number, text, Uint8Array, what JSON parses to, null, or UNCHANGED. What comes as
   * text: numeric, times, uuid.
   */
  get(name) {
    const [tag, value] = this.#raw(name);
    if (tag === 'json') return JSON.parse(value);
    if (tag === 'integers' && !Number.isSafeInteger(Number(value))) {
      throw new RowError('an integer beyond 2^53 cannot be read exactly in JavaScript', name);
    }
    return tag === 'integers' ? Number(value) : value;
  }

  /** The value of a JSON column as it stands, not parsed. */
  jsonText(name) {
    return this.#raw(name)[1];
  }

  /** Whether the table has the column and it was asked for. */
  has(name) {
    return this.#sides[this.#side].has(name);
  }

  /** The names of the columns that were asked for and that the table has. */
  names() {
    return [...this.#sides[this.#side].keys()];
  }

  /** Postgres' name of the column's type. */
  typeName(name) {
    return this.#column(name).typeName;
  }

  /** Whether the column belongs to the table's key. */
  isKey(name) {
    return this.#column(name).key;
  }

  /** The row before the update, as far as it was asked for and sent. */
  get old() {
    return new Row(this.#batch, this.#sides, this.#index, 'old');
  }

  /** What is known of the change beside its row, by the names asked for. */
  get metadata() {
    return new Row(this.#batch, this.#sides, this.#index, 'metadata');
  }

  get schema() {
    return this.#batch.schema;
  }

  get table() {
    return this.#batch.table;
  }

  /** `insert`, `update`, `delete`, or `read` by a backfill. */
  get action() {
    return this.#batch.actions[this.#index];
  }
}

function datum(name, value) {
  switch (typeof value) {
    case 'boolean':
      return ['booleans', value];
    case 'string':
      return ['texts', value];
    case 'number':
      if (Number.isSafeInteger(value)) return ['integers', value];
      if (Number.isInteger(value)) {
        throw new RowError('an integer beyond 2^53 is not exact: set it as a text, or as a Float', name);
      }
      return ['floats', value];
    default:
      if (value instanceof Float) return ['floats', value.value];
      if (value instanceof Json) return ['json', value.text];
      if (value instanceof Uint8Array) return ['bytes', value];
      return ['json', dump(value, name)];
  }
}

function dump(value, name = '') {
  if (value instanceof Json) return value.text;
  const text = JSON.stringify(value);
  if (text === undefined) throw new RowError('a value that JSON does not have', name);
  return text;
}

/** What becomes of one row in a transform: nothing said, it goes on as it is. */
export class Out {
  constructor() {
    this.cells = new Map();
    this.verdict = KEEP;
    this.documents = [];
  }

  /** Sets a column: null is null, an object or an array is JSON. */
  set(name, value) {
    if (value === UNCHANGED) this.cells.delete(name);
    else if (value === null) this.cells.set(name, [undefined, 'null', undefined]);
    else {
      const [tag, known] = datum(name, value);
      this.cells.set(name, [tag, 'value', known]);
    }
  }

  /** The row goes on without this column. */
  remove(name) {
    this.cells.set(name, [undefined, 'absent', undefined]);
  }

  drop() {
    this.verdict = DROP;
  }

  evict() {
    this.verdict = EVICT;
  }

  /** This document goes on in the place of the row. */
  replace(document) {
    this.documents = [['usual', dump(document)]];
    this.verdict = 'replace';
  }

  /**
   * One more document goes on in the place of the row. The effect says what becomes of it at a
   * destination that holds state: `usual`, `write`, `complete` or `remove`.
   */
  send(document, effect = 'usual') {
    if (!EFFECTS.includes(effect)) throw new RowError(`no effect: ${effect}`);
    this.documents.push([effect, dump(document)]);
    this.verdict = 'many';
  }
}

/** The type of an exception and its place, without its text, which may hold values. */
function place(error) {
  if (!(error instanceof Error)) return 'something was thrown that is no Error';
  const at = String(error.stack ?? '').split('\n').find((line) => /:\d+/.test(line));
  const where = at === undefined ? '' : ` ${at.trim().replace(/\(.*\//, '(').slice(0, 200)}`;
  return `${error.name}${where}`;
}

function sidesOf(batch) {
  return { columns: side(batch.columns), old: side(batch.old), metadata: side(batch.metadata) };
}

function judged(batch, judge) {
  const count = batch.actions.length;
  const sides = sidesOf(batch);
  const reply = { verdicts: new Array(count).fill(KEEP), columns: [], only: undefined, documents: [], errors: [] };
  const columns = new Map();
  const cell = (row, name, given, presence, value) => {
    if (!columns.has(name)) columns.set(name, new Map());
    const tags = columns.get(name);
    // What has no value goes with any column of its name.
    const tag = given ?? (tags.size > 0 ? tags.keys().next().value : 'texts');
    if (!tags.has(tag)) {
      const val = new Array(count).fill(NOTHING[tag]);
      tags.set(tag, { name, presence: new Array(count).fill('unchanged'), data: { tag, val } });
    }
    const column = tags.get(tag);
    column.presence[row] = presence;
    if (presence === 'value') column.data.val[row] = value;
  };
  for (let row = 0; row < count; row += 1) {
    const out = new Out();
    try {
      judge(new Row(batch, sides, row), out);
      reply.verdicts[row] = out.verdict;
      for (const [name, [tag, presence, value]] of out.cells) cell(row, name, tag, presence, value);
      for (const [effect, json] of out.documents) reply.documents.push({ row, effect, json });
    } catch (error) {
      const known = isRowError(error);
      reply.verdicts[row] = 'error';
      reply.errors.push({
        row,
        column: known ? error.column : '',
        message: known ? error.message : place(error),
        retry: known && error.retry,
      });
    }
  }
  for (const tags of columns.values()) reply.columns.push(...tags.values());
  return reply;
}

const KINDS = {
  string: (value) => typeof value === 'string',
  boolean: (value) => typeof value === 'boolean',
  integer: Number.isInteger,
  number: (value) => typeof value === 'number',
  array: Array.isArray,
  object: (value) => typeof value === 'object' && value !== null && !Array.isArray(value),
};

/** What the schema forbids: missing and unknown fields, and fields of another type. */
function refused(schema, config) {
  if (!KINDS.object(config)) return [wrong('', 'expected an object')];
  const properties = schema.properties ?? {};
  const missing = (schema.required ?? []).filter((name) => !Object.hasOwn(config, name));
  const all = missing.map((name) => wrong(name, 'is missing'));
  for (const [name, value] of Object.entries(config)) {
    if (!Object.hasOwn(properties, name)) {
      if (schema.additionalProperties === false) all.push(wrong(name, 'unknown field'));
      continue;
    }
    const kind = properties[name].type;
    if (Object.hasOwn(KINDS, kind) && !KINDS[kind](value)) all.push(wrong(name, `expected ${kind}`));
  }
  return all;
}

function configured(definition, text) {
  let config;
  try {
    config = JSON.parse(text);
  } catch {
    throw [wrong('', 'no JSON')];
  }
  const all = refused(definition.schema ?? {}, config);
  if (all.length === 0) all.push(...(definition.check?.(config) ?? []));
  if (all.length > 0) throw all;
  return config;
}

function lifecycle(definition, take) {
  return {
    describe() {
      const configSchema = JSON.stringify(definition.schema ?? { type: 'object' });
      // An instance is used for more than one batch, as a promise that nothing it keeps changes an
      // answer: starting an interpreter anew for each batch costs far more.
      return { configSchema, capabilities: [], warm: definition.warm ?? true, extra: [] };
    },
    configure(text) {
      const config = configured(definition, text);
      take(config);
      const given = definition.reads?.(config) ?? { columns: ['*'] };
      const reads = (Array.isArray(given) ? given : [given]).map((it) => ({
        table: it.table ?? '*',
        columns: it.columns ?? [],
        oldColumns: it.old ?? [],
        metadata: it.metadata ?? [],
      }));
      return { reads, packed: false, extra: [] };
    },
  };
}

function judgeOf(definition, role, config, sink) {
  if (role === 'transform') return (row, out) => definition.transform(row, out, config);
  if (role === 'route') {
    return (row, out) => {
      for (const [key, value] of Object.entries(definition.route(row, sink, config) ?? {})) out.set(key, value);
    };
  }
  return (row, out) => {
    const verdict = definition.filter(row, config);
    if (!VERDICTS.includes(verdict)) throw new RowError('the filter gave neither KEEP nor DROP nor EVICT');
    out.verdict = verdict;
  };
}

function made(definition, role) {
  let config;
  const run = role === 'route'
    ? (sink, batch) => judged(batch, judgeOf(definition, role, config, sink))
    : (batch) => judged(batch, judgeOf(definition, role, config));
  const plugin = { lifecycle: lifecycle(definition, (taken) => { config = taken; }), [role]: { run } };
  Object.defineProperty(plugin, 'definition', { value: [definition, role] });
  return plugin;
}

/** A filter: `filter(row, config)` gives KEEP, DROP or EVICT. Deletes pass it unseen. */
export const defineFilter = (definition) => made(definition, 'filter');

/** A transform: `transform(row, out, config)` says in `out` what becomes of the row. */
export const defineTransform = (definition) => made(definition, 'transform');

/** A router: `route(row, sink, config)` gives an object of that kind of sink's routing keys. */
export const defineRoute = (definition) => made(definition, 'route');

/**
 * For tests: what becomes of rows (objects) natively. Of a filter the verdicts; else an object of the
 * columns that were set (undefined: removed), `drop`, `evict`, a list of [effect, document], or the
 * RowError. Throws all that is wrong with the configuration.
 */
export function run(plugin, config, rows, { action = 'insert', table = 'public.t', sink = 'webhook' } = {}) {
  const [definition, role] = plugin.definition;
  const taken = configured(definition, JSON.stringify(config));
  const names = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const columns = names.map((name) => {
    const values = rows.map((row) => (Object.hasOwn(row, name) ? row[name] : UNCHANGED));
    const json = values.some((value) => KINDS.object(value) && !(value instanceof Uint8Array)) || values.some(Array.isArray);
    const presence = values.map((value) => {
      if (value === UNCHANGED) return 'unchanged';
      return value === null ? 'null' : 'value';
    });
    const val = json ? values.map((value) => (value === UNCHANGED ? 'null' : JSON.stringify(value))) : values;
    return { name, typeName: '', key: false, presence, data: { tag: json ? 'json' : 'texts', val } };
  });
  const [schema, name] = table.split('.');
  const actions = rows.map(() => action);
  const batch = { schema, table: name, actions, columns, old: [], metadata: [] };
  const sides = sidesOf(batch);
  const judge = judgeOf(definition, role, taken, sink);
  return rows.map((_, index) => {
    const out = new Out();
    try {
      judge(new Row(batch, sides, index), out);
    } catch (error) {
      if (isRowError(error)) return error;
      throw error;
    }
    if (role === 'filter' || out.verdict === DROP || out.verdict === EVICT) return out.verdict;
    if (out.documents.length > 0) return out.documents.map(([effect, json]) => [effect, JSON.parse(json)]);
    const cells = [...out.cells].map(([key, [tag, presence, value]]) => {
      if (presence !== 'value') return [key, presence === 'null' ? null : undefined];
      return [key, tag === 'json' ? JSON.parse(value) : value];
    });
    return Object.fromEntries(cells);
  });
}
