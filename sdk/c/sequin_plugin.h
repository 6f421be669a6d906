// Write plugins for the Sequin change-data-capture engine in C.
//
// A plugin judges rows one at a time; sequin_plugin.c deals with the batches and columns in which
// they cross the boundary. A plugin defines `sequin_schema`, `sequin_configure` and one of
// `sequin_filter`, `sequin_route` and `sequin_transform`; `sequin plugin build` compiles it with the
// bindings of its role (`transform/plugin.h` and so on), made by wit-bindgen.
//
// - SEQUIN_UNCHANGED is not SEQUIN_NULL. Postgres leaves out large values that an update did not
//   touch, and of deleted rows all but the key; never guess at them.
// - No state. The same row must get the same answer in any batch; keep nothing between rows but what
//   `sequin_configure` set.
// - One bad row fails alone: `sequin_fail`, with the column and not the value. A column that was not
//   asked for, that the table lacks, or that is of another type than asked for fails the row.
// - There is no operating system: of the C library only what needs none is there.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Bytes, without 0 at their end. What is read lives as long as the call.
typedef struct {
  const char *ptr;
  size_t len;
} sequin_text;

typedef enum { SEQUIN_KNOWN, SEQUIN_NULL, SEQUIN_UNCHANGED, SEQUIN_FAILED } sequin_state;
typedef enum { SEQUIN_INSERT, SEQUIN_UPDATE, SEQUIN_DELETE, SEQUIN_READ } sequin_action;
typedef enum { SEQUIN_USUAL, SEQUIN_WRITE, SEQUIN_COMPLETE, SEQUIN_REMOVE } sequin_effect;

typedef struct sequin_row sequin_row;
typedef struct sequin_config sequin_config;

sequin_text sequin_of(const char *text);
bool sequin_same(sequin_text one, sequin_text other);
void sequin_log(const char *line);
// Memory that is zero, until the batch is over; never NULL.
void *sequin_alloc(size_t bytes);

// ------------------------------------------------------------------------- the plugin defines

// The JSON Schema of the configuration.
extern const char *const sequin_schema;

// Takes the configuration: fields it does not take are refused by name. Says what is to be read.
void sequin_configure(sequin_config *config);

void sequin_transform(sequin_row *row);
void sequin_filter(sequin_row *row);
void sequin_route(sequin_row *row, sequin_text sink);

// ------------------------------------------------------------------------- while it is configured

// A field of the flat JSON object that the configuration is; false, and refused, if it is missing or
// of another type. Texts live as long as the plugin.
bool sequin_config_text(sequin_config *config, const char *field, sequin_text *out);
bool sequin_config_int(sequin_config *config, const char *field, int64_t *out);
bool sequin_config_bool(sequin_config *config, const char *field, bool *out);
// Whether it is there, for fields that need not be.
bool sequin_config_has(sequin_config *config, const char *field);
// Something else is wrong with it.
void sequin_refuse(sequin_config *config, const char *field, const char *message);
// A column to be handed over, of every table; "*" is all.
void sequin_read(sequin_config *config, sequin_text column);

// ------------------------------------------------------------------------- of a row

sequin_action sequin_row_action(const sequin_row *row);
sequin_text sequin_row_schema(const sequin_row *row);
sequin_text sequin_row_table(const sequin_row *row);

sequin_state sequin_get_bool(sequin_row *row, sequin_text column, bool *out);
sequin_state sequin_get_int(sequin_row *row, sequin_text column, int64_t *out);
sequin_state sequin_get_float(sequin_row *row, sequin_text column, double *out);
// Text, and what has no type of its own here: numeric, uuid, times.
sequin_state sequin_get_text(sequin_row *row, sequin_text column, sequin_text *out);
// A JSON document as it stands.
sequin_state sequin_get_json(sequin_row *row, sequin_text column, sequin_text *out);

// What becomes of it; nothing said, it goes on as it is. What is set is copied.
void sequin_set_bool(sequin_row *row, sequin_text column, bool value);
void sequin_set_int(sequin_row *row, sequin_text column, int64_t value);
void sequin_set_float(sequin_row *row, sequin_text column, double value);
void sequin_set_text(sequin_row *row, sequin_text column, sequin_text value);
void sequin_set_json(sequin_row *row, sequin_text column, sequin_text value);
void sequin_set_null(sequin_row *row, sequin_text column);
// It goes on without this column.
void sequin_remove(sequin_row *row, sequin_text column);
// It is of no interest; it is outside the set.
void sequin_drop(sequin_row *row);
void sequin_evict(sequin_row *row);
// One more document goes on in its place.
void sequin_send(sequin_row *row, sequin_effect effect, sequin_text json);
// It failed; the first reason counts.
void sequin_fail(sequin_row *row, sequin_text column, const char *message);
