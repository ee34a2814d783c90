// SPDX-License-Identifier: Apache-2.0
// What changes a trigger: add, change, pause, resume, remove. Add and change check the settings before anything is stored.
#include "core/trigger_impl.h"

#define KIND_MAX 40

static bool is_letter_or_digit(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

// --- settings -----------------------------------------------------------------------------------------------------------

static int settings_check_all(json_t *settings, struct err *err) {
    const char *key;
    json_t *value;
    if (!json_is_object(settings)) return err_set(err, ERR_INVALID, "settings must be an object of strings");
    json_object_foreach(settings, key, value) {
        if (!json_is_string(value)) return err_set(err, ERR_INVALID, "setting %.100s must be a string", key);
        if (!key[0]) return err_set(err, ERR_INVALID, "a setting has no name: give NAME=VALUE");
    }
    size_t bytes = json_dumpb(settings, NULL, 0, JSON_COMPACT);
    if (bytes <= TRIGGER_SETTINGS_MAX) return 0;
    return err_set(err, ERR_TOO_LARGE, "the settings have %zu bytes as JSON; %d are the most", bytes, TRIGGER_SETTINGS_MAX);
}

// The draft has passed: what the check completed is looked at too.
static bool is_refused(struct trigger_op *op, int code, const struct err *err) {
    struct err why;
    if (!code) {
        code = settings_check_all(op->draft->settings, &why);
        err = &why;
    }
    if (code) trigger_op_finish(op, code, err, NULL, NULL);
    return code != 0;
}

// --- add ----------------------------------------------------------------------------------------------------------------

static int insert_run(struct store_job *job, struct sql *sql, struct err *err) {
    return trigger_sql_insert(sql, container_of(job, struct trigger_op, job), err);
}

static void insert_stored(struct store_job *job, int code, const struct err *err) {
    struct trigger_op *op = container_of(job, struct trigger_op, job);
    if (trigger_op_is_orphan(op)) return;
    if (code == 0) triggers_apply(op->ts, op->row);
    trigger_op_finish(op, code, err, op->row, NULL);
}

static void on_added_checked(void *arg, int code, const struct err *err) {
    struct trigger_op *op = arg;
    if (trigger_op_is_orphan(op) || is_refused(op, code, err)) return;
    trigger_op_to_store(op, insert_run, insert_stored);
}

static int name_check(const char *name, struct err *err) {
    size_t len = strlen(name);
    bool good = len >= 1 && len <= TRIGGER_NAME_MAX && is_letter_or_digit(name[0]);
    for (size_t i = 0; good && i < len; i++) good = is_letter_or_digit(name[i]) || strchr("._-", name[i]);
    if (good) return 0;
    return err_set(err, ERR_INVALID, "a trigger's name is 1 to %d letters, digits, '.', '_' and '-', and begins with a letter or digit",
                   TRIGGER_NAME_MAX);
}

static int kind_check(const char *kind, struct err *err) {
    size_t len = strlen(kind);
    bool good = len >= 1 && len <= KIND_MAX;
    for (size_t i = 0; good && i < len; i++) good = is_letter_or_digit(kind[i]) || kind[i] == '-';
    return good ? 0 : err_set(err, ERR_INVALID, "the kind of a trigger is one word, such as kafka or amqp");
}

static int draft_check(const struct triggers *ts, const struct trigger *draft, struct err *err) {
    struct str function = str_of(draft->function);
    size_t max = ts->config.max ? ts->config.max : TRIGGERS_MAX;
    const struct trigger *there = triggers_find(ts, str_of(draft->name));
    int rc = name_check(draft->name, err);
    if (rc == 0) rc = kind_check(draft->kind, err);
    if (rc == 0) rc = settings_check_all(draft->settings, err);
    if (rc) return rc;
    if (!ts->loaded) return err_set(err, ERR_UNAVAILABLE, "the triggers are not read yet: come again");
    if (ts->config.function_exists && !ts->config.function_exists(ts->config.arg, function))
        return err_set(err, ERR_NOT_FOUND, "there is no function '%.100s': deploy it first", draft->function);
    if (there)
        return err_set(err, ERR_CONFLICT, "there is a trigger %s already, of function %s: give this one another name (--name)",
                       there->name, there->function);
    if (HASH_COUNT(ts->map) < max) return 0;
    return err_set(err, ERR_TOO_LARGE, "there are %zu triggers already, which is the most: remove some", max);
}

static void begin_add(struct trigger_op *op) {
    struct triggers *ts = op->ts;
    struct err err;
    int rc = draft_check(ts, op->draft, &err);
    if (rc) trigger_op_finish(op, rc, &err, NULL, NULL);
    else if (ts->config.check) ts->config.check(ts->config.arg, op->draft, on_added_checked, op);
    else on_added_checked(op, 0, NULL);
}

// Topics may have characters and lengths that names must not.
static char *make_name(const struct triggers *ts, const struct trigger *draft) {
    char *name = ts->config.default_name ? ts->config.default_name(ts->config.arg, draft) : NULL;
    if (!name) name = mem_printf("%s-%s", draft->kind, draft->function);
    for (size_t i = 0; name[i]; i++) {
        if (i == TRIGGER_NAME_MAX) name[i] = '\0';
        if (!name[i]) break;
        if (!is_letter_or_digit(name[i]) && !strchr("._-", name[i])) name[i] = '-';
    }
    return name;
}

void triggers_add(struct triggers *ts, struct str name, struct str function, struct str kind, json_t *settings,
                  trigger_done_fn *done, void *arg) {
    struct trigger *draft = trigger_new(name, function, kind, settings ? settings : json_object());
    if (name.len == 0 && json_is_object(draft->settings)) {
        free(draft->name);
        draft->name = make_name(ts, draft);
    }
    struct trigger_op *op = trigger_op_new(ts, draft, begin_add, arg);
    op->done = done;
    trigger_op_start(op);
}

// --- change -------------------------------------------------------------------------------------------------------------

static int decide_settings(const struct trigger_op *op, struct trigger *row, struct err *err) {
    if (row->changed_ms != op->draft->changed_ms)
        return err_set(err, ERR_CONFLICT, "trigger %s was changed by somebody else meanwhile: look at it (weir trigger show %s) and try again",
                       row->name, row->name);
    json_decref(row->settings);
    row->settings = json_deep_copy(op->draft->settings);
    return 0;
}

static void on_change_checked(void *arg, int code, const struct err *err) {
    struct trigger_op *op = arg;
    if (!trigger_op_is_orphan(op) && !is_refused(op, code, err)) trigger_op_change(op, decide_settings);
}

// A masked value that comes back as it was shown means the value that it hides.
static bool is_mask_of(const char *key, const char *given, const json_t *value) {
    const char *real = json_string_value(value);
    cleanup_free char *shown = real ? trigger_mask_setting(key, real) : NULL;
    return shown && strcmp(shown, real) != 0 && strcmp(shown, given) == 0;
}

static int merge_changes(json_t *settings, json_t *changes, struct err *err) {
    const char *key;
    json_t *value;
    if (!json_is_object(changes)) return err_set(err, ERR_INVALID, "settings must be an object of strings");
    json_object_foreach(changes, key, value) {
        json_t *now = json_object_get(settings, key);
        if (json_is_null(value) && !now) return err_set(err, ERR_INVALID, "there is no setting '%.100s' to remove", key);
        if (json_is_null(value)) json_object_del(settings, key);
        else if (!json_is_string(value)) return err_set(err, ERR_INVALID, "setting %.100s must be a string, or null to remove it", key);
        else if (!is_mask_of(key, json_string_value(value), now)) json_object_set(settings, key, value);
    }
    return settings_check_all(settings, err);
}

static void begin_change(struct trigger_op *op) {
    struct triggers *ts = op->ts;
    struct err err;
    const struct trigger *t = trigger_op_find(op);
    if (!t) return;
    trigger_free(op->draft);
    op->draft = trigger_copy(t);
    int rc = merge_changes(op->draft->settings, op->changes, &err);
    if (rc || json_equal(op->draft->settings, t->settings)) trigger_op_finish(op, rc, &err, t, NULL);
    else if (ts->config.check) ts->config.check(ts->config.arg, op->draft, on_change_checked, op);
    else on_change_checked(op, 0, NULL);
}

static struct trigger_op *named_op(struct triggers *ts, struct str name, void (*begin)(struct trigger_op *), trigger_done_fn *done,
                                   void *arg) {
    struct trigger_op *op = trigger_op_new(ts, trigger_new(name, STR_NONE, STR_NONE, json_object()), begin, arg);
    op->done = done;
    return op;
}

void triggers_change(struct triggers *ts, struct str name, json_t *changes, trigger_done_fn *done, void *arg) {
    struct trigger_op *op = named_op(ts, name, begin_change, done, arg);
    op->changes = changes;
    trigger_op_start(op);
}

// --- pause, resume, remove ----------------------------------------------------------------------------------------------

static int decide_pause(const struct trigger_op *op, struct trigger *row, struct err *err) {
    (void)op;
    if (row->state == TRIGGER_SEEKING)
        return err_set(err, ERR_CONFLICT, "trigger %s is seeking: wait until its offsets are set, or end that with weir trigger resume %s",
                       row->name, row->name);
    row->state = TRIGGER_PAUSED;
    return 0;
}

static void begin_pause(struct trigger_op *op) {
    if (trigger_op_find(op)) trigger_op_change(op, decide_pause);
}

void triggers_pause(struct triggers *ts, struct str name, trigger_done_fn *done, void *arg) {
    trigger_op_start(named_op(ts, name, begin_pause, done, arg));
}

// Of a seek that was left behind nobody knows whether it set the offsets: the epoch rises as if it had. When it is still
// under way at another node, that one finds another epoch than it left and gives up.
static int decide_resume(const struct trigger_op *op, struct trigger *row, struct err *err) {
    (void)op, (void)err;
    if (row->state == TRIGGER_SEEKING) row->epoch++;
    row->state = TRIGGER_ACTIVE;
    return 0;
}

static void begin_resume(struct trigger_op *op) {
    if (trigger_op_find(op)) trigger_op_change(op, decide_resume);
}

void triggers_resume(struct triggers *ts, struct str name, trigger_done_fn *done, void *arg) {
    trigger_op_start(named_op(ts, name, begin_resume, done, arg));
}

static int delete_run(struct store_job *job, struct sql *sql, struct err *err) {
    return trigger_sql_delete(sql, container_of(job, struct trigger_op, job), err);
}

static void delete_stored(struct store_job *job, int code, const struct err *err) {
    struct trigger_op *op = container_of(job, struct trigger_op, job);
    if (trigger_op_is_orphan(op)) return;
    if (code == 0) triggers_drop(op->ts, str_of(op->draft->name));
    trigger_op_finish(op, code, err, NULL, NULL);
}

static void begin_remove(struct trigger_op *op) {
    if (trigger_op_find(op)) trigger_op_to_store(op, delete_run, delete_stored);
}

void triggers_remove(struct triggers *ts, struct str name, trigger_done_fn *done, void *arg) {
    trigger_op_start(named_op(ts, name, begin_remove, done, arg));
}
