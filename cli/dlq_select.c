// SPDX-License-Identifier: Apache-2.0
#include "cli/commands.h"
#include "cli/dlq.h"
#include "cli/out.h"

// The options in the order in which they are said: name, the request's member, and the words before its value.
static const struct {
    const char *option, *member, *words;
    bool is_time;
} fields[] = {
    {"function", "function", " of ", false},      {"group", "group", " of group ", false},
    {"error", "error", " with error ", false},    {"source", "source", " from ", false},
    {"search", "search", " with the text ", false}, {"since", "sinceMs", " since ", true},
    {"until", "untilMs", " until ", true},        {"where", "where", " where ", false},
};

static bool takes_all(const struct args *a) {
    return args_takes(a, "all") && args_has(a, "all");
}

static bool has_limit(const struct args *a) {
    return args_takes(a, "limit") && args_has(a, "limit");
}

bool dlq_has_selection(const struct args *a) {
    for (size_t i = 0; i < array_len(fields); i++)
        if (args_has(a, fields[i].option)) return true;
    return false;
}

// --- checking -----------------------------------------------------------------------------------------------------

int dlq_check_options(const struct args *a, const char *verb) {
    // The last one would win, and the letters would be others than meant.
    for (size_t i = 0; i < array_len(fields); i++)
        if (args_nth(a, fields[i].option, 1))
            return out_misuse("dlq %s: --%s can be given once; --where 'a and b' and --where 'a or b' join conditions", verb,
                              fields[i].option);
    for (size_t i = 0; i < array_len(fields); i++)
        if (args_has(a, fields[i].option) && !*args_text(a, fields[i].option))
            return out_misuse("dlq %s: --%s is empty; leave it out, or give a value", verb, fields[i].option);
    if (has_limit(a) && args_number(a, "limit", 0) == 0) return out_misuse("dlq %s: --limit must be at least 1", verb);
    return EXIT_OK;
}

int dlq_check_selection(const struct args *a, const char *verb) {
    bool options = dlq_has_selection(a), all = takes_all(a);
    const char *or_all = args_takes(a, "all") ? ", or --all" : "";
    if (a->word_count && (options || all || has_limit(a)))
        return out_misuse("dlq %s: give either ids or a selection, not both", verb);
    if (a->word_count > DLQ_IDS_MAX)
        return out_misuse("dlq %s: at most %d ids at once; select them with --group or --where, or call it several times", verb,
                          DLQ_IDS_MAX);
    if (options && all) return out_misuse("dlq %s: --all means all; leave the selection out, or --all", verb);
    if (!a->word_count && !options && !all)
        return out_misuse("dlq %s: say which letters: ids, --group, --function, --error, --where, --search, --source, --since, "
                          "--until%s", verb, or_all);
    return dlq_check_options(a, verb);
}

// --- for the server -----------------------------------------------------------------------------------------------

json_t *dlq_selection_json(const struct args *a, const char *state) {
    json_t *o = json_object();
    if (a->word_count) {
        json_t *ids = json_array();
        for (size_t i = 0; i < a->word_count; i++) json_array_append_new(ids, json_string(a->words[i]));
        json_object_set_new(o, "ids", ids);
        return o;
    }
    for (size_t i = 0; i < array_len(fields); i++) {
        if (!args_has(a, fields[i].option)) continue;
        json_object_set_new(o, fields[i].member, fields[i].is_time ? json_integer(args_number(a, fields[i].option, 0))
                                                                   : json_string(args_text(a, fields[i].option)));
    }
    if (takes_all(a)) json_object_set_new(o, "all", json_true());
    if (state) json_object_set_new(o, "state", json_string(state));
    return o;
}

void dlq_selection_query(const struct args *a, const char *state, const char *also, char **path) {
    const char *where = args_text(a, "where");
    cleanup_free char *both = also && where ? mem_printf("(%s) and %s", where, also) : NULL;
    if (also) path_query(path, "where", both ? both : also);
    for (size_t i = 0; i < array_len(fields); i++) {
        if (!args_has(a, fields[i].option) || (also && strcmp(fields[i].option, "where") == 0)) continue;
        if (fields[i].is_time) path_query_number(path, fields[i].member, args_number(a, fields[i].option, 0));
        else path_query(path, fields[i].member, args_text(a, fields[i].option));
    }
    path_query(path, "state", state);
}

// --- for people ---------------------------------------------------------------------------------------------------

char *dlq_selection_text(const struct args *a) {
    if (a->word_count) return mem_printf("%zu letter%s", a->word_count, plural((int64_t)a->word_count));
    char *text = mem_printf("%sletters", dlq_has_selection(a) ? "" : "all ");
    for (size_t i = 0; i < array_len(fields); i++) {
        if (!args_has(a, fields[i].option)) continue;
        char *longer = mem_printf("%s%s%s", text, fields[i].words, args_text(a, fields[i].option));
        free(text);
        text = longer;
    }
    return text;
}
