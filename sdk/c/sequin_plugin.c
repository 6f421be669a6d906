// See sequin_plugin.h. Compiled with SEQUIN_FILTER, SEQUIN_ROUTE or SEQUIN_TRANSFORM defined.
//
// What a function of the bindings is handed belongs to it, and what it answers is freed by them: a
// batch is freed here, and texts of an answer are copies.

#include "sequin_plugin.h"

#include <stdlib.h>
#include <string.h>

#include "plugin.h"

typedef sequin_plugin_types_batch_t batch_t;
typedef sequin_plugin_types_reply_t reply_t;
typedef sequin_plugin_types_column_t column_t;
typedef sequin_plugin_types_new_column_t new_column_t;
typedef exports_sequin_plugin_lifecycle_list_config_error_t config_errors_t;

// Memory of one call, freed when it is over.
typedef struct piece {
  struct piece *before;
  double bytes[];
} piece_t;
static piece_t *pieces;

static void *zeroed(size_t count, size_t bytes) {
  void *memory = calloc(count ? count : 1, bytes ? bytes : 1);
  if (!memory) __builtin_trap();
  return memory;
}

// One more element at the end of a list.
static void *grown(void *list, size_t len, size_t bytes) {
  char *more = realloc(list, (len + 1) * bytes);
  if (!more) __builtin_trap();
  memset(more + len * bytes, 0, bytes);
  return more;
}

void *sequin_alloc(size_t bytes) {
  piece_t *piece = zeroed(1, sizeof *piece + bytes);
  piece->before = pieces;
  pieces = piece;
  return piece->bytes;
}

static void free_pieces(void) {
  while (pieces) {
    piece_t *before = pieces->before;
    free(pieces);
    pieces = before;
  }
}

sequin_text sequin_of(const char *text) { return (sequin_text){text, strlen(text)}; }

bool sequin_same(sequin_text one, sequin_text other) {
  return one.len == other.len && memcmp(one.ptr, other.ptr, one.len) == 0;
}

static sequin_text view(plugin_string_t text) {
  return (sequin_text){(const char *)text.ptr, text.len};
}

static plugin_string_t copy(sequin_text text) {
  plugin_string_t made;
  plugin_string_dup_n(&made, text.ptr, text.len);
  return made;
}

void sequin_log(const char *line) {
  plugin_string_t message;
  plugin_string_set(&message, line);
  sequin_plugin_log_log(SEQUIN_PLUGIN_LOG_LEVEL_INFO, &message);
}

// ---------------------------------------------------------------------------- configuration

typedef enum { TEXT, NUMBER, BOOLEAN, OTHER } kind_t;

typedef struct {
  sequin_text name, text;
  kind_t kind;
  bool taken;
} field_t;

struct sequin_config {
  field_t *fields;
  size_t count;
  config_errors_t *errors;
  plugin_list_string_t columns;
};

// A reader of one flat JSON object.
typedef struct {
  const char *at, *end;
} reader_t;

static bool next(reader_t *in, char wanted) {
  while (in->at < in->end && strchr(" \t\r\n", *in->at)) in->at++;
  if (in->at == in->end || *in->at != wanted) return false;
  in->at++;
  return true;
}

// A text without its quotes; of the escapes all but \u.
static bool quoted(reader_t *in, sequin_text *out) {
  static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
  if (!next(in, '"')) return false;
  char *made = zeroed((size_t)(in->end - in->at) + 1, 1);
  size_t len = 0;
  while (in->at < in->end && *in->at != '"') {
    char letter = *in->at++;
    if (letter == '\\') {
      const char *escape = in->at < in->end ? memchr(from, *in->at, sizeof from - 1) : NULL;
      if (!escape) return false;
      letter = to[escape - from];
      in->at++;
    }
    made[len++] = letter;
  }
  *out = (sequin_text){made, len};
  return next(in, '"');
}

static bool value(reader_t *in, field_t *field) {
  reader_t before = *in;
  if (next(&before, '"')) {
    field->kind = TEXT;
    return quoted(in, &field->text);
  }
  while (in->at < in->end && strchr(" \t\r\n", *in->at)) in->at++;
  const char *first = in->at;
  while (in->at < in->end && !strchr(",} \t\r\n[{", *in->at)) in->at++;
  field->text = (sequin_text){first, (size_t)(in->at - first)};
  bool is_bool = sequin_same(field->text, sequin_of("true")) || sequin_same(field->text, sequin_of("false"));
  bool is_number = field->text.len && strchr("-0123456789", *first);
  field->kind = is_bool ? BOOLEAN : is_number ? NUMBER : OTHER;
  return field->text.len > 0;
}

static bool object(reader_t *in, sequin_config *config) {
  if (!next(in, '{')) return false;
  if (next(in, '}')) return true;
  do {
    config->fields = grown(config->fields, config->count, sizeof *config->fields);
    field_t *field = &config->fields[config->count++];
    if (!quoted(in, &field->name) || !next(in, ':') || !value(in, field)) return false;
  } while (next(in, ','));
  return next(in, '}');
}

static void refuse(sequin_config *config, sequin_text field, const char *message) {
  config_errors_t *errors = config->errors;
  errors->ptr = grown(errors->ptr, errors->len, sizeof *errors->ptr);
  errors->ptr[errors->len].field = copy(field);
  errors->ptr[errors->len++].message = copy(sequin_of(message));
}

void sequin_refuse(sequin_config *config, const char *field, const char *message) {
  refuse(config, sequin_of(field), message);
}

static field_t *find(sequin_config *config, const char *name) {
  field_t *found = NULL;
  for (size_t i = 0; i < config->count; i++) {
    if (sequin_same(config->fields[i].name, sequin_of(name))) found = &config->fields[i];
  }
  return found;
}

static field_t *take(sequin_config *config, const char *name, kind_t kind, const char *expected) {
  field_t *field = find(config, name);
  if (field) field->taken = true;
  if (field && field->kind == kind) return field;
  sequin_refuse(config, name, field ? expected : "is missing");
  return NULL;
}

bool sequin_config_has(sequin_config *config, const char *field) { return find(config, field); }

bool sequin_config_text(sequin_config *config, const char *name, sequin_text *out) {
  field_t *field = take(config, name, TEXT, "expected a text");
  if (field) *out = field->text;
  return field;
}

bool sequin_config_bool(sequin_config *config, const char *name, bool *out) {
  field_t *field = take(config, name, BOOLEAN, "expected true or false");
  if (field) *out = field->text.ptr[0] == 't';
  return field;
}

bool sequin_config_int(sequin_config *config, const char *name, int64_t *out) {
  static const char wrong[] = "expected an integer of at most 18 digits";
  field_t *field = take(config, name, NUMBER, wrong);
  if (!field) return false;
  bool is_negative = field->text.ptr[0] == '-';
  int64_t number = 0;
  size_t digits = field->text.len - is_negative;
  for (size_t i = is_negative; i < field->text.len || !digits; i++) {
    char digit = field->text.ptr[i];
    if (digit < '0' || digit > '9' || digits > 18) {
      sequin_refuse(config, name, wrong);
      return false;
    }
    number = number * 10 + (digit - '0');
  }
  *out = is_negative ? -number : number;
  return true;
}

void sequin_read(sequin_config *config, sequin_text column) {
  plugin_list_string_t *columns = &config->columns;
  columns->ptr = grown(columns->ptr, columns->len, sizeof *columns->ptr);
  columns->ptr[columns->len++] = copy(column);
}

void exports_sequin_plugin_lifecycle_describe(exports_sequin_plugin_lifecycle_description_t *ret) {
  *ret = (exports_sequin_plugin_lifecycle_description_t){
      .config_schema = copy(sequin_of(sequin_schema)),
      // What is kept is the configuration.
      .warm = true,
  };
}

bool exports_sequin_plugin_lifecycle_configure(
    plugin_string_t *json, exports_sequin_plugin_lifecycle_requirements_t *ret,
    config_errors_t *errors) {
  *errors = (config_errors_t){0};
  sequin_config config = {.errors = errors};
  // An instance is configured once: the text stays, since fields point into it.
  reader_t in = {(const char *)json->ptr, (const char *)json->ptr + json->len};
  if (!object(&in, &config)) {
    sequin_refuse(&config, "", "expected a flat object of texts, numbers, true and false");
    return false;
  }
  sequin_configure(&config);
  for (size_t i = 0; i < config.count; i++) {
    if (!config.fields[i].taken) refuse(&config, config.fields[i].name, "unknown field");
  }
  if (errors->len) return false;
  exports_sequin_plugin_lifecycle_reads_t *reads = zeroed(1, sizeof *reads);
  *reads = (exports_sequin_plugin_lifecycle_reads_t){.table = copy(sequin_of("*")), .columns = config.columns};
  *ret = (exports_sequin_plugin_lifecycle_requirements_t){.reads = {reads, 1}};
  return true;
}

// ---------------------------------------------------------------------------- rows

struct sequin_row {
  const batch_t *batch;
  reply_t *reply;
  size_t index;
};

sequin_action sequin_row_action(const sequin_row *row) {
  return (sequin_action)row->batch->actions.ptr[row->index];
}
sequin_text sequin_row_schema(const sequin_row *row) { return view(row->batch->schema); }
sequin_text sequin_row_table(const sequin_row *row) { return view(row->batch->table); }

void sequin_fail(sequin_row *row, sequin_text column, const char *message) {
  reply_t *reply = row->reply;
  if (reply->verdicts.ptr[row->index] == SEQUIN_PLUGIN_TYPES_VERDICT_ERROR) return;
  reply->verdicts.ptr[row->index] = SEQUIN_PLUGIN_TYPES_VERDICT_ERROR;
  reply->errors.ptr = grown(reply->errors.ptr, reply->errors.len, sizeof *reply->errors.ptr);
  reply->errors.ptr[reply->errors.len++] = (sequin_plugin_types_row_error_t){
      .row = (uint32_t)row->index, .column = copy(column), .message = copy(sequin_of(message))};
}

// A value of this case, or why there is none.
static sequin_state get(sequin_row *row, sequin_text name, uint8_t tag, const column_t **out) {
  for (size_t i = 0; i < row->batch->columns.len; i++) {
    const column_t *column = &row->batch->columns.ptr[i];
    if (!sequin_same(view(column->name), name)) continue;
    switch (column->presence.ptr[row->index]) {
      case SEQUIN_PLUGIN_TYPES_PRESENCE_VALUE: break;
      case SEQUIN_PLUGIN_TYPES_PRESENCE_NULL: return SEQUIN_NULL;
      default: return SEQUIN_UNCHANGED;
    }
    if (column->data.tag != tag) {
      sequin_fail(row, name, "the column is of another type than the plugin reads");
      return SEQUIN_FAILED;
    }
    *out = column;
    return SEQUIN_KNOWN;
  }
  sequin_fail(row, name, "no such column: it was not asked for, or the table lacks it");
  return SEQUIN_FAILED;
}

#define GET(function, type, case, value)                                          \
  sequin_state function(sequin_row *row, sequin_text name, type *out) {           \
    const column_t *column = NULL;                                                \
    sequin_state state = get(row, name, SEQUIN_PLUGIN_TYPES_DATA_##case, &column); \
    if (state == SEQUIN_KNOWN) *out = value;                                      \
    return state;                                                                 \
  }
GET(sequin_get_bool, bool, BOOLEANS, column->data.val.booleans.ptr[row->index])
GET(sequin_get_int, int64_t, INTEGERS, column->data.val.integers.ptr[row->index])
GET(sequin_get_float, double, FLOATS, column->data.val.floats.ptr[row->index])
GET(sequin_get_text, sequin_text, TEXTS, view(column->data.val.texts.ptr[row->index]))
GET(sequin_get_json, sequin_text, JSON, view(column->data.val.json.ptr[row->index]))

#define ANY 0xff

// The column of the answer with this name and case, which touches no row at first. What has no value
// goes with any case.
static new_column_t *column_of(sequin_row *row, sequin_text name, uint8_t tag) {
  static const size_t sizes[] = {sizeof(bool), sizeof(int64_t), sizeof(double), sizeof(plugin_string_t),
                                 sizeof(plugin_string_t)};
  reply_t *reply = row->reply;
  for (size_t i = 0; i < reply->columns.len; i++) {
    new_column_t *column = &reply->columns.ptr[i];
    if (sequin_same(view(column->name), name) && (tag == ANY || tag == column->data.tag)) return column;
  }
  if (tag == ANY) tag = SEQUIN_PLUGIN_TYPES_DATA_TEXTS;
  size_t rows = row->batch->actions.len;
  reply->columns.ptr = grown(reply->columns.ptr, reply->columns.len, sizeof(new_column_t));
  new_column_t *column = &reply->columns.ptr[reply->columns.len++];
  column->name = copy(name);
  column->presence.ptr = zeroed(rows, sizeof *column->presence.ptr);
  column->presence.len = rows;
  memset(column->presence.ptr, SEQUIN_PLUGIN_TYPES_PRESENCE_UNCHANGED, rows);
  column->data.tag = tag;
  // All lists are a pointer and a length.
  column->data.val.texts.ptr = zeroed(rows, sizes[tag]);
  column->data.val.texts.len = rows;
  return column;
}

// No other column of this name has anything for the row any more.
static new_column_t *set(sequin_row *row, sequin_text name, uint8_t tag, uint8_t presence) {
  new_column_t *column = column_of(row, name, tag);
  for (size_t i = 0; i < row->reply->columns.len; i++) {
    new_column_t *other = &row->reply->columns.ptr[i];
    if (sequin_same(view(other->name), name)) {
      other->presence.ptr[row->index] = SEQUIN_PLUGIN_TYPES_PRESENCE_UNCHANGED;
    }
  }
  column->presence.ptr[row->index] = presence;
  return column;
}

#define SET(function, type, case, field, made)                                            \
  void function(sequin_row *row, sequin_text name, type value) {                          \
    new_column_t *column = set(row, name, SEQUIN_PLUGIN_TYPES_DATA_##case,                \
                               SEQUIN_PLUGIN_TYPES_PRESENCE_VALUE);                       \
    column->data.val.field.ptr[row->index] = made;                                        \
  }
SET(sequin_set_bool, bool, BOOLEANS, booleans, value)
SET(sequin_set_int, int64_t, INTEGERS, integers, value)
SET(sequin_set_float, double, FLOATS, floats, value)
SET(sequin_set_text, sequin_text, TEXTS, texts, copy(value))
SET(sequin_set_json, sequin_text, JSON, json, copy(value))

void sequin_set_null(sequin_row *row, sequin_text name) {
  set(row, name, ANY, SEQUIN_PLUGIN_TYPES_PRESENCE_NULL);
}
void sequin_remove(sequin_row *row, sequin_text name) {
  set(row, name, ANY, SEQUIN_PLUGIN_TYPES_PRESENCE_ABSENT);
}

static void decide(sequin_row *row, uint8_t verdict) {
  uint8_t *known = &row->reply->verdicts.ptr[row->index];
  if (*known != SEQUIN_PLUGIN_TYPES_VERDICT_ERROR) *known = verdict;
}
void sequin_drop(sequin_row *row) { decide(row, SEQUIN_PLUGIN_TYPES_VERDICT_DROP); }
void sequin_evict(sequin_row *row) { decide(row, SEQUIN_PLUGIN_TYPES_VERDICT_EVICT); }

void sequin_send(sequin_row *row, sequin_effect effect, sequin_text json) {
  reply_t *reply = row->reply;
  if (reply->verdicts.ptr[row->index] == SEQUIN_PLUGIN_TYPES_VERDICT_ERROR) return;
  decide(row, SEQUIN_PLUGIN_TYPES_VERDICT_MANY);
  reply->documents.ptr = grown(reply->documents.ptr, reply->documents.len, sizeof *reply->documents.ptr);
  reply->documents.ptr[reply->documents.len++] = (sequin_plugin_types_document_t){
      .row = (uint32_t)row->index, .effect = (uint8_t)effect, .json = copy(json)};
}

// A row that failed has an error and nothing else.
static void clear_failed(reply_t *reply) {
  size_t kept = 0;
  for (size_t i = 0; i < reply->documents.len; i++) {
    sequin_plugin_types_document_t *document = &reply->documents.ptr[i];
    if (reply->verdicts.ptr[document->row] == SEQUIN_PLUGIN_TYPES_VERDICT_MANY) {
      reply->documents.ptr[kept++] = *document;
    } else {
      plugin_string_free(&document->json);
    }
  }
  reply->documents.len = kept;
  for (size_t row = 0; row < reply->verdicts.len; row++) {
    if (reply->verdicts.ptr[row] == SEQUIN_PLUGIN_TYPES_VERDICT_KEEP) continue;
    for (size_t i = 0; i < reply->columns.len; i++) {
      reply->columns.ptr[i].presence.ptr[row] = SEQUIN_PLUGIN_TYPES_PRESENCE_UNCHANGED;
    }
  }
}

static void begin(reply_t *reply, size_t rows) {
  *reply = (reply_t){0};
  reply->verdicts.ptr = zeroed(rows, sizeof *reply->verdicts.ptr);
  reply->verdicts.len = rows;
}

static bool end(batch_t *batch, reply_t *reply) {
  clear_failed(reply);
  sequin_plugin_types_batch_free(batch);
  free_pieces();
  return true;
}

#define EACH(call)                                       \
  begin(ret, batch->actions.len);                        \
  for (size_t i = 0; i < batch->actions.len; i++) {      \
    sequin_row row = {batch, ret, i};                    \
    call;                                                \
  }                                                      \
  return end(batch, ret)

#if defined(SEQUIN_TRANSFORM)
bool exports_sequin_plugin_transform_run(batch_t *batch, reply_t *ret, plugin_string_t *err) {
  (void)err;
  EACH(sequin_transform(&row));
}
#elif defined(SEQUIN_FILTER)
bool exports_sequin_plugin_filter_run(batch_t *batch, reply_t *ret, plugin_string_t *err) {
  (void)err;
  EACH(sequin_filter(&row));
}
#elif defined(SEQUIN_ROUTE)
bool exports_sequin_plugin_route_run(plugin_string_t *sink, batch_t *batch, reply_t *ret, plugin_string_t *err) {
  (void)err;
  EACH(sequin_route(&row, view(*sink)));
}
#else
#error "define SEQUIN_FILTER, SEQUIN_ROUTE or SEQUIN_TRANSFORM"
#endif
