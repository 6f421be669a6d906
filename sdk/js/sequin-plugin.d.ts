/** Not sent: never to be read as null. */
export declare const UNCHANGED: unique symbol;
export declare const KEEP: 'keep';
export declare const DROP: 'drop';
export declare const EVICT: 'evict';

export type Verdict = 'keep' | 'drop' | 'evict';
export type Effect = 'usual' | 'write' | 'complete' | 'remove';
export type Action = 'insert' | 'update' | 'delete' | 'read';
export type JsonValue =
  | null | boolean | number | string | JsonValue[] | { [field: string]: JsonValue };

/** What a column has for a row. Text is also what numeric, times and uuid come as. */
export type Value = JsonValue | Uint8Array | typeof UNCHANGED;

/** What a column can be set to. */
export type Settable = Value | Json | Float;

export declare class RowError extends Error {
  constructor(message: string, column?: string, retry?: boolean);
  readonly column: string;
  readonly retry: boolean;
}

export declare class Json {
  constructor(text: string);
  readonly text: string;
}

export declare class Float {
  constructor(value: number);
  readonly value: number;
}

export interface Row {
  get(name: string): Value;
  jsonText(name: string): string | null | typeof UNCHANGED;
  has(name: string): boolean;
  names(): string[];
  typeName(name: string): string;
  isKey(name: string): boolean;
  readonly old: Row;
  readonly metadata: Row;
  readonly schema: string;
  readonly table: string;
  readonly action: Action;
}

export interface Out {
  set(name: string, value: Settable): void;
  remove(name: string): void;
  drop(): void;
  evict(): void;
  replace(document: JsonValue | Json): void;
  send(document: JsonValue | Json, effect?: Effect): void;
}

export interface Reads {
  /** `schema.table`, or `*` for every table. */
  table?: string;
  /** `['*']` is all. */
  columns?: string[];
  /** Of the row before an update. */
  old?: string[];
  /** `commit_timestamp`, `transaction_annotations`, `idempotency_key`, `enrichment`. */
  metadata?: string[];
}

export interface ConfigError {
  field: string;
  message: string;
}

export interface Definition<Config> {
  /** The JSON Schema of the configuration. */
  schema?: object;
  /** All columns of all tables, if it is not there. */
  reads?(config: Config): Reads | Reads[];
  /** All that is wrong with a configuration that fits the schema. */
  check?(config: Config): ConfigError[];
  /** Whether an instance is kept for more than one batch; true. */
  warm?: boolean;
}

export interface Plugin<Role extends string> {
  readonly lifecycle: object;
  readonly role?: Role;
}

export declare function defineFilter<Config = Record<string, JsonValue>>(
  definition: Definition<Config> & { filter(row: Row, config: Config): Verdict },
): Plugin<'filter'> & { readonly filter: object };

export declare function defineTransform<Config = Record<string, JsonValue>>(
  definition: Definition<Config> & { transform(row: Row, out: Out, config: Config): void },
): Plugin<'transform'> & { readonly transform: object };

export declare function defineRoute<Config = Record<string, JsonValue>>(
  definition: Definition<Config> & {
    route(row: Row, sink: string, config: Config): { [key: string]: Settable };
  },
): Plugin<'route'> & { readonly route: object };

/** For tests: what becomes of these rows, natively. */
export declare function run(
  plugin: Plugin<string>,
  config: object,
  rows: { [column: string]: Value }[],
  options?: { action?: Action; table?: string; sink?: string },
): unknown[];
