// The conformance plugin in C: what it does is written in ../README.md.
//
// The bindings are made by wit-bindgen (`bindings/`). What a function is handed belongs to it, and
// what it answers is freed by the bindings: so a batch is freed here, and texts of an answer are
// copies. Without WASI: of the C library, only what needs no operating system is used.

#include <stdlib.h>
#include <string.h>

#include "plugin.h"

#define NEW(type, count) ((type *)alloc((count) * sizeof(type)))

typedef sequin_plugin_types_batch_t batch_t;
typedef sequin_plugin_types_reply_t reply_t;
typedef sequin_plugin_types_column_t column_t;
typedef sequin_plugin_types_new_column_t new_column_t;
typedef sequin_plugin_types_presence_t presence_t;

static const char *const ACTIONS[] = {"insert", "update", "delete", "read"};
static const char *const PRESENCES[] = {"value", "null", "unchanged", "absent"};
static const char *const CASES[] = {"booleans", "integers", "floats", "texts",
                                    "json", "bytes", "packed-texts", "packed-json"};
static const char *const LEVELS[] = {"debug", "info", "warn", "error"};
static const char *const EFFECTS[] = {"usual", "write", "complete", "remove"};

// The configuration. An instance is configured once.
static struct {
  bool packed;
  plugin_string_t table;
  plugin_string_t only;
} config;

// Memory that is zero, or a trap.
static void *alloc(size_t bytes) {
  void *memory = calloc(bytes ? bytes : 1, 1);
  if (!memory) __builtin_trap();
  return memory;
}

static plugin_string_t text(const char *of) {
  plugin_string_t copy;
  plugin_string_dup(&copy, of);
  return copy;
}

static plugin_string_t copy(plugin_string_t of) {
  plugin_string_t copy;
  plugin_string_dup_n(&copy, (const char *)of.ptr, of.len);
  return copy;
}

static bool is(plugin_string_t one, const char *other) {
  return one.len == strlen(other) && memcmp(one.ptr, other, one.len) == 0;
}

// A text that grows; 0 at its end is not counted.
static void add_n(plugin_string_t *to, const void *what, size_t len) {
  uint8_t *grown = realloc(to->ptr, to->len + len + 1);
  if (!grown) __builtin_trap();
  memcpy(grown + to->len, what, len);
  grown[to->len + len] = 0;
  to->ptr = grown;
  to->len += len;
}

static void add(plugin_string_t *to, const char *what) { add_n(to, what, strlen(what)); }

static void add_number(plugin_string_t *to, uint64_t number) {
  char digits[21];
  size_t at = sizeof digits;
  do {
    digits[--at] = (char)('0' + number % 10);
    number /= 10;
  } while (number);
  add_n(to, digits + at, sizeof digits - at);
}

static void log_line(sequin_plugin_log_level_t level, const char *line) {
  plugin_string_t message;
  plugin_string_set(&message, line);
  sequin_plugin_log_log(level, &message);
}

// ---------------------------------------------------------------------------- configuration

// A reader of one flat JSON object of texts, true, false and numbers, without escapes.
typedef struct {
  const uint8_t *at, *end;
} reader_t;

static bool next(reader_t *in, char wanted) {
  while (in->at < in->end && (*in->at == ' ' || *in->at == '\n')) in->at++;
  if (in->at == in->end || *in->at != wanted) return false;
  in->at++;
  return true;
}

static bool quoted(reader_t *in, plugin_string_t *out) {
  if (!next(in, '"')) return false;
  out->ptr = (uint8_t *)in->at;
  while (in->at < in->end && *in->at != '"' && *in->at != '\\') in->at++;
  out->len = (size_t)(in->at - out->ptr);
  return next(in, '"');
}

// Anything but a text: up to what comes after it.
static plugin_string_t bare(reader_t *in) {
  while (next(in, ' ')) {
  }
  plugin_string_t out = {(uint8_t *)in->at, 0};
  while (in->at < in->end && !strchr(",} \n", *in->at)) in->at++;
  out.len = (size_t)(in->at - out.ptr);
  return out;
}

typedef exports_sequin_plugin_lifecycle_list_config_error_t config_errors_t;

static void object_to(config_errors_t *errors, plugin_string_t field, plugin_string_t message) {
  size_t bytes = (errors->len + 1) * sizeof *errors->ptr;
  errors->ptr = realloc(errors->ptr, bytes);
  if (!errors->ptr) __builtin_trap();
  errors->ptr[errors->len].field = copy(field);
  errors->ptr[errors->len].message = copy(message);
  errors->len++;
}

// Takes one field; what is wrong with it goes to the errors.
static void take(plugin_string_t name, bool is_text, plugin_string_t value, config_errors_t *errors,
                 bool *refused) {
  plugin_string_t unknown = {(uint8_t *)"unknown", 7}, wrong = {(uint8_t *)"wrong type", 10};
  if (is(name, "packed")) {
    if (is_text || !(is(value, "true") || is(value, "false"))) return object_to(errors, name, wrong);
    config.packed = is(value, "true");
  } else if (is(name, "table") || is(name, "only") || is(name, "refuse")) {
    if (!is_text) return object_to(errors, name, wrong);
    if (is(name, "table")) config.table = copy(value);
    if (is(name, "only")) config.only = copy(value);
    if (is(name, "refuse")) {
      object_to(errors, name, value);
      *refused = true;
    }
  } else {
    object_to(errors, name, unknown);
  }
}

static bool fields(reader_t *in, config_errors_t *errors, bool *refused) {
  if (!next(in, '{')) return false;
  if (next(in, '}')) return true;
  do {
    plugin_string_t name, value;
    if (!quoted(in, &name) || !next(in, ':')) return false;
    reader_t before = *in;
    bool is_text = next(&before, '"');
    if (!is_text) {
      value = bare(in);
    } else if (!quoted(in, &value)) {
      return false;
    }
    take(name, is_text, value, errors, refused);
  } while (next(in, ','));
  return next(in, '}');
}

static plugin_list_tuple2_string_string_t extra(void) {
  plugin_list_tuple2_string_string_t list = {NEW(plugin_tuple2_string_string_t, 1), 1};
  list.ptr[0].f0 = text("conformance");
  list.ptr[0].f1 = text("1");
  return list;
}

static plugin_list_string_t list(const char *const *names, size_t count) {
  plugin_list_string_t list = {NEW(plugin_string_t, count), count};
  for (size_t i = 0; i < count; i++) list.ptr[i] = text(names[i]);
  return list;
}

void exports_sequin_plugin_lifecycle_describe(exports_sequin_plugin_lifecycle_description_t *ret) {
  *ret = (exports_sequin_plugin_lifecycle_description_t){
      .config_schema = text("{\"type\":\"object\"}"),
      .warm = true,
      .extra = extra(),
  };
}

bool exports_sequin_plugin_lifecycle_configure(
    plugin_string_t *json, exports_sequin_plugin_lifecycle_requirements_t *ret,
    config_errors_t *errors) {
  static const char *const every[] = {"*"};
  static const char *const narrow[] = {"wide", "no_such", "say"};
  static const char *const metadata[] = {"commit_timestamp", "transaction_annotations",
                                         "idempotency_key", "of_the_future"};
  reader_t in = {json->ptr, json->ptr + json->len};
  plugin_string_t nothing = {(uint8_t *)"", 0};
  bool refused = false;
  *errors = (config_errors_t){0};
  if (!fields(&in, errors, &refused)) {
    plugin_string_t message = {(uint8_t *)"no flat object", 14};
    object_to(errors, nothing, message);
  }
  if (refused) {
    plugin_string_t message = {(uint8_t *)"as a whole", 10};
    object_to(errors, nothing, message);
  }
  plugin_string_free(json);
  if (errors->len) return false;
  exports_sequin_plugin_lifecycle_reads_t *reads = NEW(exports_sequin_plugin_lifecycle_reads_t, 2);
  reads[0].table = config.table.ptr ? copy(config.table) : text("*");
  reads[0].columns = list(every, 1);
  reads[0].old_columns = list(every, 1);
  reads[0].metadata = list(metadata, 4);
  reads[1].table = text("conformance.narrow");
  reads[1].columns = list(narrow, 3);
  *ret = (exports_sequin_plugin_lifecycle_requirements_t){
      .reads = {reads, 2},
      .packed = config.packed,
      .extra = extra(),
  };
  return true;
}

// --------------------------------------------------------------------------------------- rows

// What each row says; nothing where it says nothing. Copies, as their batch is taken apart.
static plugin_string_t *says(const batch_t *batch) {
  size_t rows = batch->actions.len;
  plugin_string_t *said = NEW(plugin_string_t, rows);
  for (size_t i = 0; i < batch->columns.len; i++) {
    const column_t *column = &batch->columns.ptr[i];
    if (!is(column->name, "say")) continue;
    for (size_t row = 0; row < rows; row++) {
      if (column->presence.ptr[row] != SEQUIN_PLUGIN_TYPES_PRESENCE_VALUE) continue;
      if (column->data.tag == SEQUIN_PLUGIN_TYPES_DATA_TEXTS) {
        said[row] = copy(column->data.val.texts.ptr[row]);
      } else if (column->data.tag == SEQUIN_PLUGIN_TYPES_DATA_PACKED_TEXTS) {
        const sequin_plugin_types_packed_t *packed = &column->data.val.packed_texts;
        uint32_t start = row ? packed->ends.ptr[row - 1] : 0;
        plugin_string_t one = {packed->bytes.ptr + start, packed->ends.ptr[row] - start};
        said[row] = copy(one);
      }
    }
  }
  return said;
}

static void forget(plugin_string_t *said, size_t rows) {
  for (size_t row = 0; row < rows; row++) plugin_string_free(&said[row]);
  free(said);
}

// A column that touches no row yet, with room for data of this case.
static new_column_t *column(reply_t *reply, plugin_string_t name, uint8_t tag, size_t rows) {
  size_t bytes = (reply->columns.len + 1) * sizeof *reply->columns.ptr;
  reply->columns.ptr = realloc(reply->columns.ptr, bytes);
  if (!reply->columns.ptr) __builtin_trap();
  new_column_t *column = &reply->columns.ptr[reply->columns.len++];
  *column = (new_column_t){.name = name, .presence = {NEW(presence_t, rows), rows}};
  memset(column->presence.ptr, SEQUIN_PLUGIN_TYPES_PRESENCE_UNCHANGED, rows);
  column->data.tag = tag;
  if (tag == SEQUIN_PLUGIN_TYPES_DATA_INTEGERS) {
    column->data.val.integers = (plugin_list_s64_t){NEW(int64_t, rows), rows};
  } else {
    column->data.val.texts = (plugin_list_string_t){NEW(plugin_string_t, rows), rows};
  }
  return column;
}

static void set(new_column_t *column, size_t row, plugin_string_t value) {
  column->presence.ptr[row] = SEQUIN_PLUGIN_TYPES_PRESENCE_VALUE;
  column->data.val.texts.ptr[row] = value;
}

// Gives back a list of columns: what was seen of each, and each itself, whose data move.
static void echo(reply_t *reply, const char *prefix, sequin_plugin_types_list_column_t *list,
                 const plugin_string_t *said, size_t rows) {
  for (size_t i = 0; i < list->len; i++) {
    column_t *given = &list->ptr[i];
    plugin_string_t name = {0}, name_seen = {0};
    add(&name, prefix);
    add_n(&name, given->name.ptr, given->name.len);
    add_n(&name_seen, name.ptr, name.len);
    add(&name_seen, ".seen");
    new_column_t *seen = column(reply, name_seen, SEQUIN_PLUGIN_TYPES_DATA_TEXTS, rows);
    for (size_t row = 0; row < rows; row++) {
      if (!is(said[row], "echo")) continue;
      plugin_string_t line = {0};
      add(&line, CASES[given->data.tag]);
      add(&line, " ");
      add_n(&line, given->type_name.ptr, given->type_name.len);
      add(&line, given->key ? " key " : " no-key ");
      add(&line, PRESENCES[given->presence.ptr[row]]);
      set(seen, row, line);
    }
    new_column_t *back = column(reply, name, SEQUIN_PLUGIN_TYPES_DATA_TEXTS, rows);
    sequin_plugin_types_data_free(&back->data);
    back->data = given->data;
    memset(&given->data, 0, sizeof given->data);
    for (size_t row = 0; row < rows; row++)
      if (is(said[row], "echo")) back->presence.ptr[row] = given->presence.ptr[row];
  }
}

static void facts(reply_t *reply, const batch_t *batch, const plugin_string_t *said) {
  size_t rows = batch->actions.len;
  new_column_t *column_ = column(reply, text("row"), SEQUIN_PLUGIN_TYPES_DATA_TEXTS, rows);
  for (size_t row = 0; row < rows; row++) {
    if (!is(said[row], "echo")) continue;
    plugin_string_t line = {0};
    add_n(&line, batch->schema.ptr, batch->schema.len);
    add(&line, " ");
    add_n(&line, batch->table.ptr, batch->table.len);
    add(&line, " ");
    add(&line, ACTIONS[batch->actions.ptr[row]]);
    add(&line, " ");
    add_number(&line, batch->positions.ptr[row].commit_lsn);
    add(&line, " ");
    add_number(&line, batch->positions.ptr[row].ordinal);
    set(column_, row, line);
  }
}

static void document(reply_t *reply, size_t row, sequin_plugin_types_effect_t effect) {
  size_t bytes = (reply->documents.len + 1) * sizeof *reply->documents.ptr;
  reply->documents.ptr = realloc(reply->documents.ptr, bytes);
  if (!reply->documents.ptr) __builtin_trap();
  plugin_string_t json = {0};
  add(&json, "{\"id\":\"");
  add(&json, EFFECTS[effect]);
  add(&json, "\"}");
  reply->documents.ptr[reply->documents.len++] =
      (sequin_plugin_types_document_t){(uint32_t)row, effect, json};
}

static void fail(reply_t *reply, size_t row, const char *column, const char *message, bool retry) {
  size_t bytes = (reply->errors.len + 1) * sizeof *reply->errors.ptr;
  reply->errors.ptr = realloc(reply->errors.ptr, bytes);
  if (!reply->errors.ptr) __builtin_trap();
  reply->errors.ptr[reply->errors.len++] = (sequin_plugin_types_row_error_t){
      (uint32_t)row, text(column), text(message), retry};
  reply->verdicts.ptr[row] = SEQUIN_PLUGIN_TYPES_VERDICT_ERROR;
}

// What is the same in every role: an answer that keeps all rows but those that fail.
static reply_t *begin(reply_t *reply, const plugin_string_t *said, size_t rows) {
  *reply = (reply_t){.verdicts = {NEW(sequin_plugin_types_verdict_t, rows), rows}};
  for (size_t row = 0; row < rows; row++) {
    if (is(said[row], "error")) fail(reply, row, "say", "as asked", false);
    if (is(said[row], "error-later")) fail(reply, row, "", "not yet", true);
    if (is(said[row], "log"))
      for (sequin_plugin_log_level_t level = 0; level < 4; level++) log_line(level, LEVELS[level]);
    if (is(said[row], "trap")) {
      log_line(SEQUIN_PLUGIN_LOG_LEVEL_ERROR, "trap as asked");
      __builtin_trap();
    }
  }
  return reply;
}

// Whether some row wants the whole batch refused.
static bool refused(const plugin_string_t *said, size_t rows, plugin_string_t *error) {
  for (size_t row = 0; row < rows; row++) {
    if (!is(said[row], "refuse")) continue;
    *error = text("refused as asked");
    return true;
  }
  return false;
}

static void out(reply_t *reply, const plugin_string_t *said, size_t rows) {
  for (size_t row = 0; row < rows; row++) {
    if (is(said[row], "drop")) reply->verdicts.ptr[row] = SEQUIN_PLUGIN_TYPES_VERDICT_DROP;
    if (is(said[row], "evict")) reply->verdicts.ptr[row] = SEQUIN_PLUGIN_TYPES_VERDICT_EVICT;
  }
}

bool exports_sequin_plugin_filter_run(batch_t *batch, reply_t *ret, plugin_string_t *err) {
  size_t rows = batch->actions.len;
  plugin_string_t *said = says(batch);
  bool is_refused = refused(said, rows, err);
  if (!is_refused) out(begin(ret, said, rows), said, rows);
  forget(said, rows);
  sequin_plugin_types_batch_free(batch);
  return !is_refused;
}

bool exports_sequin_plugin_route_run(plugin_string_t *sink, batch_t *batch, reply_t *ret,
                                     plugin_string_t *err) {
  size_t rows = batch->actions.len;
  plugin_string_t *said = says(batch);
  bool is_refused = refused(said, rows, err);
  if (!is_refused) {
    begin(ret, said, rows);
    new_column_t *path = column(ret, text("endpoint_path"), SEQUIN_PLUGIN_TYPES_DATA_TEXTS, rows);
    for (size_t row = 0; row < rows; row++) {
      if (!said[row].len || ret->verdicts.ptr[row]) continue;
      plugin_string_t line = {0};
      add(&line, "/");
      add_n(&line, sink->ptr, sink->len);
      add(&line, "/");
      add_n(&line, said[row].ptr, said[row].len);
      set(path, row, line);
    }
  }
  forget(said, rows);
  plugin_string_free(sink);
  sequin_plugin_types_batch_free(batch);
  return !is_refused;
}

static void documents(reply_t *reply, const plugin_string_t *said, size_t rows) {
  for (size_t row = 0; row < rows; row++) {
    bool many = is(said[row], "many");
    if (many) reply->verdicts.ptr[row] = SEQUIN_PLUGIN_TYPES_VERDICT_MANY;
    for (sequin_plugin_types_effect_t effect = 0; effect < 4; effect++) {
      bool this = is(said[row], EFFECTS[effect]);
      if (this) reply->verdicts.ptr[row] = SEQUIN_PLUGIN_TYPES_VERDICT_REPLACE;
      if (many || this) document(reply, row, effect);
    }
  }
}

// Columns that single rows ask for.
static void columns(reply_t *reply, const plugin_string_t *said, size_t rows) {
  new_column_t *say = column(reply, text("say"), SEQUIN_PLUGIN_TYPES_DATA_TEXTS, rows);
  for (size_t row = 0; row < rows; row++) {
    if (is(said[row], "null")) say->presence.ptr[row] = SEQUIN_PLUGIN_TYPES_PRESENCE_NULL;
    if (is(said[row], "absent")) say->presence.ptr[row] = SEQUIN_PLUGIN_TYPES_PRESENCE_ABSENT;
  }
  new_column_t *integers = column(reply, text("twin"), SEQUIN_PLUGIN_TYPES_DATA_INTEGERS, rows);
  for (size_t row = 0; row < rows; row++) {
    if (!is(said[row], "twin-integer")) continue;
    integers->presence.ptr[row] = SEQUIN_PLUGIN_TYPES_PRESENCE_VALUE;
    integers->data.val.integers.ptr[row] = -1;
  }
  new_column_t *texts = column(reply, text("twin"), SEQUIN_PLUGIN_TYPES_DATA_TEXTS, rows);
  for (size_t row = 0; row < rows; row++)
    if (is(said[row], "twin-text")) set(texts, row, text("one"));
}

bool exports_sequin_plugin_transform_run(batch_t *batch, reply_t *ret, plugin_string_t *err) {
  size_t rows = batch->actions.len;
  plugin_string_t *said = says(batch);
  bool is_refused = refused(said, rows, err);
  if (!is_refused) {
    out(begin(ret, said, rows), said, rows);
    documents(ret, said, rows);
    facts(ret, batch, said);
    echo(ret, "new.", &batch->columns, said, rows);
    echo(ret, "old.", &batch->old, said, rows);
    echo(ret, "meta.", &batch->metadata, said, rows);
    columns(ret, said, rows);
    if (config.only.ptr) {
      ret->only.is_some = true;
      ret->only.val = (plugin_list_string_t){NEW(plugin_string_t, 1), 1};
      ret->only.val.ptr[0] = copy(config.only);
    }
  }
  forget(said, rows);
  sequin_plugin_types_batch_free(batch);
  return !is_refused;
}
