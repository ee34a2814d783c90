// SPDX-License-Identifier: Apache-2.0
// weir trigger settings: what NAME=VALUE may be, from the table that the server's parser is made of.
#include "cli/commands.h"
#include "cli/trigger.h"
#include "triggers/spec.h"

static const struct setting {
    const char *name, *fallback, *words, *help;
    unsigned kinds;
    bool required;
} all_settings[] = {
#define X(member, name, type, fallback, kinds, required, least, most, words, help) {name, fallback, words, help, kinds, required},
    SPEC_SETTINGS(X)
#undef X
};

static const struct kind {
    const char *word;
    unsigned bit;
} all_kinds[] = {{"kafka", SPEC_KAFKA}, {"amqp", SPEC_AMQP}, {"timer", SPEC_TIMER}};

// "kafka amqp"
static const char *kind_words(unsigned kinds, char out[32]) {
    out[0] = '\0';
    for (size_t i = 0; i < array_len(all_kinds); i++)
        if (kinds & all_kinds[i].bit) snprintf(out + strlen(out), 32 - strlen(out), "%s%s", *out ? " " : "", all_kinds[i].word);
    return out;
}

static void print_settings(unsigned kinds) {
    static const char *const titles[] = {"NAME", "KIND", "DEFAULT", "MEANING", NULL};
    struct table t;
    table_init(&t, titles);
    for (size_t i = 0; i < array_len(all_settings); i++) {
        const struct setting *s = &all_settings[i];
        char words[32];
        if (!(s->kinds & kinds)) continue;
        table_add(&t, TONE_BOLD, "%s", s->name);
        table_add(&t, TONE_PLAIN, "%s", kind_words(s->kinds, words));
        table_add(&t, s->required ? TONE_WARN : TONE_PLAIN, "%s", s->required ? "needed" : *s->fallback ? s->fallback : "-");
        table_add(&t, TONE_PLAIN, "%s%s%s", s->words, *s->words ? ": " : "", s->help);
    }
    if (kinds & SPEC_KAFKA) {
        table_add(&t, TONE_BOLD, "kafka.*");
        table_add(&t, TONE_PLAIN, "kafka");
        table_add(&t, TONE_PLAIN, "-");
        table_add(&t, TONE_PLAIN, "settings of librdkafka, for TLS and SASL: kafka.security.protocol=SASL_SSL");
    }
    table_print(&t);
}

static json_t *settings_json(unsigned kinds) {
    json_t *list = json_array();
    for (size_t i = 0; i < array_len(all_settings); i++) {
        const struct setting *s = &all_settings[i];
        char words[32];
        if (!(s->kinds & kinds)) continue;
        json_t *one = json_pack("{s:s, s:s, s:s, s:b, s:s, s:s}", "name", s->name, "kind", kind_words(s->kinds, words), "default",
                                s->fallback, "required", (int)s->required, "words", s->words, "help", s->help);
        MUST(json_array_append_new(list, one) == 0);
    }
    return list;
}

static int run_settings(const struct args *a) {
    unsigned kinds = 0;
    for (size_t i = 0; i < array_len(all_kinds); i++)
        if (!a->word_count || strcmp(a->words[0], all_kinds[i].word) == 0) kinds |= all_kinds[i].bit;
    if (!kinds) return out_misuse("trigger settings: '%s' is neither kafka nor amqp nor timer", a->words[0]);
    if (args_has(a, "json")) {
        json_auto_t *shown = json_pack("{s:o}", "settings", settings_json(kinds));
        out_json(shown);
    } else {
        print_settings(kinds);
    }
    return EXIT_OK;
}

const struct command trigger_settings = {
    .name = "settings",
    .words = "[kafka|amqp|timer]",
    .summary = "Lists the settings that a trigger may have, with their defaults",
    .uses = USES_JSON,
    .most = 1,
    .run = run_settings,
};
