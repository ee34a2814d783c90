// SPDX-License-Identifier: Apache-2.0
// One table drives it: a setting is looked up, its text is checked by its type, and what the settings mean together is
// checked last. Nothing here talks to a broker.
#include "triggers/spec.h"

#include "core/base/text.h"
#include "core/options.h"

struct setting {
    const char *name;
    enum spec_type type;
    const char *fallback;
    int kinds;
    bool required;
    int64_t least, most;
    const char *words;
    size_t offset; // of the struct spec_value
};

static const struct setting settings_table[] = {
#define X(member, name, type, fallback, kinds, required, least, most, words, help) \
    {name, type, fallback, kinds, required, least, most, words, offsetof(struct spec, member)},
    SPEC_SETTINGS(X)
#undef X
};

static const struct {
    const char *word;
    enum spec_kind kind;
} kinds[] = {{"kafka", SPEC_KAFKA}, {"amqp", SPEC_AMQP}, {"timer", SPEC_TIMER}};

int spec_kind_parse(struct str word, enum spec_kind *ret, struct err *err) {
    for (size_t i = 0; i < array_len(kinds); i++) {
        if (!str_is(word, kinds[i].word)) continue;
        *ret = kinds[i].kind;
        return 0;
    }
    return err_set(err, ERR_INVALID, "no trigger kind \"%.*s\"; there are kafka, amqp and timer", STR_ARG(word));
}

const char *spec_kind_word(enum spec_kind kind) {
    for (size_t i = 0; i < array_len(kinds); i++)
        if (kinds[i].kind == kind) return kinds[i].word;
    return "?";
}

static struct spec_value *value_of(struct spec *s, const struct setting *setting) {
    return (struct spec_value *)(void *)((char *)s + setting->offset);
}

// --- values -----------------------------------------------------------------------------------------------------------

static bool is_word(const char *words, const char *text) {
    size_t len = strlen(text);
    for (const char *at = words; len > 0; at++) {
        size_t n = strcspn(at, "|");
        if (n == len && memcmp(at, text, n) == 0) return true;
        at += n;
        if (!*at) break;
    }
    return false;
}

static int parse_count(const char *text, int64_t *ret) {
    char *rest;
    if (text[0] < '0' || text[0] > '9' || strlen(text) > 15) return -1;
    *ret = strtoll(text, &rest, 10);
    return *rest ? -1 : 0;
}

static int parse_flag(const struct setting *s, struct spec_value *v, struct err *err) {
    v->number = is_word("yes|true|on", v->text);
    if (v->number || is_word("no|false|off", v->text)) return 0;
    return err_set(err, ERR_INVALID, "%s must be yes or no, not \"%s\"", s->name, v->text);
}

static int parse_auto(const struct setting *s, struct spec_value *v, struct err *err) {
    if (strcmp(v->text, "auto") == 0) return 0;
    if (parse_count(v->text, &v->number) == 0 && v->number >= s->least && v->number <= s->most) return 0;
    return err_set(err, ERR_INVALID, "%s must be auto or a number from %lld to %lld, not \"%s\"", s->name, (long long)s->least,
                   (long long)s->most, v->text);
}

static int parse_share(const struct setting *s, struct spec_value *v, struct err *err) {
    if (is_word("off|no|false", v->text)) return 0;
    size_t len = strlen(v->text);
    if (len > 1 && v->text[len - 1] == '%') {
        cleanup_free char *digits = mem_strndup((struct str){v->text, len - 1});
        if (parse_count(digits, &v->number) == 0 && v->number >= s->least && v->number <= s->most) return 0;
    }
    return err_set(err, ERR_INVALID, "%s must be off or a share from %lld%% to %lld%%, not \"%s\"", s->name, (long long)s->least,
                   (long long)s->most, v->text);
}

static int parse_number(const struct setting *s, struct spec_value *v, struct err *err) {
    static const char *const forms[] = {
        [SPEC_COUNT] = "a whole number", [SPEC_BYTES] = "a size such as 512KiB or 6MiB", [SPEC_DURATION] = "a time such as 50ms or 5s"};
    struct err form = {0};
    int rc = s->type == SPEC_COUNT   ? parse_count(v->text, &v->number)
             : s->type == SPEC_BYTES ? parse_bytes(str_of(v->text), &v->number, &form)
                                     : parse_duration_ms(str_of(v->text), &v->number, &form);
    const char *unit = s->type == SPEC_BYTES ? " bytes" : s->type == SPEC_DURATION ? " ms" : "";
    if (rc) return err_set(err, ERR_INVALID, "%s must be %s, not \"%s\"", s->name, forms[s->type], v->text);
    if (v->number >= s->least && v->number <= s->most) return 0;
    return err_set(err, ERR_INVALID, "%s must be from %lld to %lld%s, not %s", s->name, (long long)s->least, (long long)s->most, unit,
                   v->text);
}

static int parse_value(const struct setting *s, struct spec_value *v, struct err *err) {
    switch (s->type) {
    case SPEC_TEXT: return 0;
    case SPEC_WORD:
        if (is_word(s->words, v->text)) return 0;
        return err_set(err, ERR_INVALID, "%s must be one of %s, not \"%s\"", s->name, s->words, v->text);
    case SPEC_FLAG: return parse_flag(s, v, err);
    case SPEC_AUTO: return parse_auto(s, v, err);
    case SPEC_SHARE: return parse_share(s, v, err);
    case SPEC_COUNT:
    case SPEC_BYTES:
    case SPEC_DURATION: return parse_number(s, v, err);
    }
    return 0;
}

// --- names ------------------------------------------------------------------------------------------------------------

static const char *kinds_words(int set) {
    return set == (SPEC_KAFKA | SPEC_AMQP) ? "kafka and amqp" : spec_kind_word((enum spec_kind)set);
}

static int refuse_unknown(enum spec_kind kind, const char *name, struct err *err) {
    struct text_nearest n = text_nearest_init(name);
    char known[400] = "";
    for (size_t i = 0; i < array_len(settings_table); i++) {
        const struct setting *s = &settings_table[i];
        bool elsewhere = !(s->kinds & kind);
        if (elsewhere && strcmp(s->name, name) == 0)
            return err_set(err, ERR_INVALID, "%s is a setting of %s triggers, not of %s ones", name, kinds_words(s->kinds),
                           spec_kind_word(kind));
        if (elsewhere) continue;
        size_t used = strlen(known);
        if (used + strlen(s->name) + 3 < sizeof known) snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", s->name);
        text_nearest_offer(&n, s->name);
    }
    if (n.name)
        return err_set(err, ERR_INVALID, "a %s trigger has no setting \"%.60s\"; did you mean %s?", spec_kind_word(kind), name, n.name);
    return err_set(err, ERR_INVALID, "a %s trigger has no setting \"%.60s\"; it takes %s%s", spec_kind_word(kind), name, known,
                   kind == SPEC_KAFKA ? " and kafka.* for librdkafka" : "");
}

static const struct setting *find_setting(enum spec_kind kind, const char *name) {
    for (size_t i = 0; i < array_len(settings_table); i++)
        if (settings_table[i].kinds & kind && strcmp(settings_table[i].name, name) == 0) return &settings_table[i];
    return NULL;
}

static void add_extra(struct spec *s, const char *name, const char *value) {
    s->extra = mem_realloc(s->extra, (s->extra_count + 1) * sizeof *s->extra);
    s->extra[s->extra_count++] = (struct spec_pair){mem_strdup(name), mem_strdup(value)};
}

static int take_setting(struct spec *s, const char *name, const json_t *value, struct err *err) {
    if (!json_is_string(value)) return err_set(err, ERR_INVALID, "the value of %s must be a string", name);
    const char *text = json_string_value(value);
    if (s->kind == SPEC_KAFKA && strncmp(name, "kafka.", 6) == 0) {
        add_extra(s, name + 6, text);
        return 0;
    }
    const struct setting *setting = find_setting(s->kind, name);
    if (!setting) return refuse_unknown(s->kind, name, err);
    struct spec_value *v = value_of(s, setting);
    free(v->text);
    v->text = mem_strdup(text);
    v->given = true;
    return 0;
}

// --- all together -----------------------------------------------------------------------------------------------------

static void fill_defaults(struct spec *s, const char *function) {
    for (size_t i = 0; i < array_len(settings_table); i++) {
        struct spec_value *v = value_of(s, &settings_table[i]);
        if (!v->text) v->text = mem_strdup(settings_table[i].fallback);
    }
    if (s->group.text[0] == '\0') {
        free(s->group.text);
        s->group.text = mem_printf("weir-%s", function);
    }
    if (s->batch.text[0]) return;
    free(s->batch.text);
    s->batch.text = mem_strdup(strcmp(s->shape.text, "raw") == 0 ? "1" : "100");
}

static int check_values(struct spec *s, struct err *err) {
    for (size_t i = 0; i < array_len(settings_table); i++) {
        const struct setting *setting = &settings_table[i];
        struct spec_value *v = value_of(s, setting);
        if (!(setting->kinds & s->kind)) continue;
        bool empty = v->text[0] == '\0';
        if (empty && !setting->required && setting->type == SPEC_DURATION && !v->given) continue; // none is the default
        if (setting->required && empty)
            return err_set(err, ERR_INVALID, "a %s trigger needs %s=…", spec_kind_word(s->kind), setting->name);
        int rc = parse_value(setting, v, err);
        if (rc) return rc;
    }
    return 0;
}

static int check_sink(const struct spec *s, const char *name, const char *text, struct err *err) {
    struct spec_sink sink;
    int rc = spec_sink_parse(s->kind, name, text, &sink, err);
    if (rc == 0) spec_sink_done(&sink);
    return rc;
}

static int check_filter(const struct spec *s, struct err *err) {
    if (s->filter.text[0] == '\0') return 0;
    struct filter *filter;
    int rc = filter_parse(str_of(s->filter.text), &filter, err);
    if (rc == 0) filter_free(filter);
    return rc;
}

static int check_amqp_source(const struct spec *s, struct err *err) {
    bool queue = s->queue.text[0], exchange = s->exchange.text[0];
    if (queue == exchange)
        return err_set(err, ERR_INVALID, "an amqp trigger needs %s: queue=NAME to consume from a queue, or exchange=NAME to have one of its own",
                       queue ? "only one of queue and exchange" : "queue or exchange");
    if (queue && s->routing.given)
        return err_set(err, ERR_INVALID, "binding goes with exchange=…; the queue %s has its bindings already", s->queue.text);
    if (exchange && s->declare.given)
        return err_set(err, ERR_INVALID, "declare goes with queue=…; with exchange=… the queue is always declared");
    if (strlen(s->queue.text) > 255 || strlen(s->exchange.text) > 255 || strlen(s->routing.text) > 255)
        return err_set(err, ERR_INVALID, "queue, exchange and binding are at most 255 bytes (AMQP 0-9-1)");
    return 0;
}

static int check_timer(const struct spec *s, struct err *err) {
    if (!s->cron.text[0] == !s->every.text[0])
        return err_set(err, ERR_INVALID, "a timer trigger needs %s: cron='0 30 2 * * * *' or every=5m",
                       s->cron.text[0] ? "only one of cron and every" : "cron or every");
    if (s->catchup_max.given && strcmp(s->catchup.text, "all") != 0)
        return err_set(err, ERR_INVALID, "max goes with catchup=all; catchup=%s runs %s", s->catchup.text,
                       strcmp(s->catchup.text, "none") == 0 ? "none" : "one");
    if (strlen(s->message.text) > SPEC_MESSAGE_MAX)
        return err_set(err, ERR_INVALID, "message is at most %d bytes", SPEC_MESSAGE_MAX);
    return 0;
}

static int check_together(const struct spec *s, struct err *err) {
    if (s->kind == SPEC_TIMER) return check_timer(s, err);
    int rc = s->kind == SPEC_AMQP ? check_amqp_source(s, err) : 0;
    if (rc == 0 && shape_is_single(spec_shape(s)) && s->batch.number > 1)
        rc = err_set(err, ERR_INVALID, "shape=%s is one record a call: batch must be 1, not %lld; other shapes carry batches",
                     s->shape.text, (long long)s->batch.number);
    if (rc == 0 && s->relay.number && spec_order(s) != ORDER_NONE)
        rc = err_set(err, ERR_INVALID, "relay=yes copies into the function's queue, which keeps no order: say order=none, or leave relay out");
    if (rc == 0 && s->relay.number && (s->on_success.given || s->on_failure.given))
        rc = err_set(err, ERR_INVALID, "on_success and on_failure are of records that run in place, which relay=yes does not do");
    if (rc == 0) rc = check_filter(s, err);
    if (rc == 0) rc = check_sink(s, "on_success", s->on_success.text, err);
    return rc ? rc : check_sink(s, "on_failure", s->on_failure.text, err);
}

int spec_parse(enum spec_kind kind, const json_t *settings, const char *function, struct spec *ret, struct err *err) {
    struct spec s = {.kind = kind};
    const char *name;
    json_t *value;
    int rc = json_is_object(settings) ? 0 : err_set(err, ERR_INVALID, "settings must be an object of strings");
    if (rc == 0) {
        void *at = json_object_iter((json_t *)(void *)(uintptr_t)settings); // jansson's iterator changes nothing
        for (; at && rc == 0; at = json_object_iter_next((json_t *)(void *)(uintptr_t)settings, at)) {
            name = json_object_iter_key(at);
            value = json_object_iter_value(at);
            rc = take_setting(&s, name, value, err);
        }
    }
    if (rc == 0) {
        fill_defaults(&s, function);
        rc = check_values(&s, err);
    }
    if (rc == 0) rc = check_together(&s, err);
    if (rc) spec_done(&s);
    else *ret = s;
    return rc;
}

void spec_done(struct spec *s) {
    for (size_t i = 0; i < array_len(settings_table); i++) free(value_of(s, &settings_table[i])->text);
    for (size_t i = 0; i < s->extra_count; i++) {
        free(s->extra[i].name);
        free(s->extra[i].value);
    }
    free(s->extra);
    *s = (struct spec){0};
}

enum order spec_order(const struct spec *s) {
    if (s->kind != SPEC_KAFKA || strcmp(s->order.text, "none") == 0) return ORDER_NONE;
    return strcmp(s->order.text, "key") == 0 ? ORDER_KEY : ORDER_PARTITION;
}

enum shape spec_shape(const struct spec *s) {
    enum shape shape = SHAPE_RAW;
    MUST(shape_parse(str_of(s->shape.text), &shape, NULL) == 0); // one of the words of the table
    return shape;
}

const char *spec_source_name(const struct spec *s) {
    if (s->kind == SPEC_KAFKA) return s->topic.text;
    return s->queue.text[0] ? s->queue.text : s->exchange.text;
}
