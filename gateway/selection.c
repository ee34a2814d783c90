// SPDX-License-Identifier: Apache-2.0
#include "gateway/selection.h"

#include "core/base/clock.h"

// --- members of a body ------------------------------------------------------------------------------------------------------

int body_text(const json_t *body, const char *name, struct str *ret, struct err *err) {
    const json_t *value = json_object_get(body, name);
    if (!value) return 0;
    if (!json_is_string(value)) return err_set(err, ERR_INVALID, "%s must be a string", name);
    *ret = (struct str){json_string_value(value), json_string_length(value)};
    return 0;
}

int body_number(const json_t *body, const char *name, int64_t least, int64_t most, int64_t *ret, struct err *err) {
    const json_t *value = json_object_get(body, name);
    if (!value) return 0;
    int64_t n = json_integer_value(value);
    if (!json_is_integer(value) || n < least || n > most)
        return err_set(err, ERR_INVALID, "%s must be a whole number from %lld to %lld", name, (long long)least, (long long)most);
    *ret = n;
    return 0;
}

int body_real(const json_t *body, const char *name, double least, double most, double *ret, struct err *err) {
    const json_t *value = json_object_get(body, name);
    if (!value || json_is_null(value)) return 0;
    double n = json_number_value(value);
    if (!json_is_number(value) || !(n >= least && n <= most)) return err_set(err, ERR_INVALID, "%s must be a number from %g to %g", name, least, most);
    *ret = n;
    return 0;
}

int body_flag(const json_t *body, const char *name, bool *ret, struct err *err) {
    const json_t *value = json_object_get(body, name);
    if (!value) return 0;
    if (!json_is_boolean(value)) return err_set(err, ERR_INVALID, "%s must be true or false", name);
    *ret = json_is_true(value);
    return 0;
}

// --- selections -------------------------------------------------------------------------------------------------------------

int selection_of_query(struct call *call, const char *state, struct selection **ret, struct err *err) {
    struct select_spec spec = {.where = call_text(call, "where"),
                               .search = call_text(call, "search"),
                               .function = call_text(call, "function"),
                               .error_type = call_text(call, "error"),
                               .state = call_text(call, "state"),
                               .group = call_text(call, "group"),
                               .source = call_text(call, "source"),
                               .now_ms = clock_unix_ms(),
                               .redact = call->gw->c.redact};
    if (spec.state.len == 0) spec.state = str_of(state);
    int rc = call_number(call, "sinceMs", 0, INT64_MAX, &spec.since_ms, err);
    if (rc == 0) rc = call_number(call, "untilMs", 0, INT64_MAX, &spec.until_ms, err);
    return rc ? rc : selection_new(&spec, ret, err);
}

static int body_ids(const json_t *list, struct id **ret, size_t *ret_count, struct err *err) {
    size_t count = json_array_size(list);
    if (!json_is_array(list) || count == 0 || count > SELECT_IDS_MAX)
        return err_set(err, ERR_INVALID, "ids must be a list of 1 to %d ids", SELECT_IDS_MAX);
    *ret = mem_array(count, sizeof **ret);
    *ret_count = count;
    for (size_t i = 0; i < count; i++) {
        const char *text = json_string_value(json_array_get(list, i));
        if (!text || id_parse(str_of(text), &(*ret)[i])) return err_set(err, ERR_INVALID, "ids: '%.60s' is not an id", text ? text : "");
    }
    return 0;
}

static bool is_blank(const json_t *value) {
    const char *text = json_string_value(value);
    return text && strspn(text, " \t\r\n") == json_string_length(value);
}

// A time of 0 restricts nothing.
static bool is_zero(const json_t *value) {
    return json_is_integer(value) && json_integer_value(value) == 0;
}

static int check_which(const json_t *body, bool all, struct err *err) {
    static const char *const filters[] = {"function", "error", "group", "state", "source", "where", "search", "sinceMs", "untilMs"};
    bool ids = json_object_get(body, "ids"), any = false;
    for (size_t i = 0; i < array_len(filters); i++) {
        const json_t *value = json_object_get(body, filters[i]);
        if (is_blank(value)) return err_set(err, ERR_INVALID, "%s is empty: leave it out, or say what it should be", filters[i]);
        any |= value && !is_zero(value);
    }
    if (ids && (any || all)) return err_set(err, ERR_INVALID, "give either ids or a filter, not both");
    if (ids || any || all) return 0;
    return err_set(err, ERR_INVALID,
                   "say which letters: ids, function, error, group, state, source, where, search, sinceMs, untilMs, or \"all\": true");
}

int selection_of_body(const struct call *call, const json_t *body, const char *state, struct selection **ret, struct err *err) {
    struct select_spec spec = {.now_ms = clock_unix_ms(), .redact = call->gw->c.redact};
    struct id *ids = NULL;
    bool all = false;
    const json_t *list = json_object_get(body, "ids");
    int rc = body_flag(body, "all", &all, err);
    if (rc == 0) rc = check_which(body, all, err);
    if (rc == 0) rc = body_text(body, "where", &spec.where, err);
    if (rc == 0) rc = body_text(body, "search", &spec.search, err);
    if (rc == 0) rc = body_text(body, "function", &spec.function, err);
    if (rc == 0) rc = body_text(body, "error", &spec.error_type, err);
    if (rc == 0) rc = body_text(body, "state", &spec.state, err);
    if (rc == 0) rc = body_text(body, "group", &spec.group, err);
    if (rc == 0) rc = body_text(body, "source", &spec.source, err);
    if (rc == 0) rc = body_number(body, "sinceMs", 0, INT64_MAX, &spec.since_ms, err);
    if (rc == 0) rc = body_number(body, "untilMs", 0, INT64_MAX, &spec.until_ms, err);
    if (rc == 0 && list) rc = body_ids(list, &ids, &spec.id_count, err);
    spec.ids = ids;
    if (spec.state.len == 0 && !list) spec.state = str_of(state);
    if (rc == 0) rc = selection_new(&spec, ret, err);
    free(ids);
    return rc;
}
