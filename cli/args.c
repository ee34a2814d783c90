// SPDX-License-Identifier: Apache-2.0
// The walk through the tree of commands and the option parser. Everything is checked before a command runs, so that a
// command with a wrong value changes nothing.
#include "cli/args.h"

#include <errno.h>

#include "cli/args_text.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "core/base/clock.h"
#include "core/options.h"
#include "core/when.h"

static const struct arg_spec help_spec = {"help", 'h', ARG_FLAG, NULL, "show this text", NULL};
static const struct arg_spec json_spec = {"json", 0, ARG_FLAG, NULL, "print JSON", NULL};
static const struct arg_spec server_specs[] = {
    {"server", 0, ARG_TEXT, "URL", "the server (WEIR_SERVER; default http://127.0.0.1:9000)", NULL},
    {"token", 0, ARG_TEXT, "TEXT", "the server's token (WEIR_TOKEN)", NULL},
};

const struct arg_spec *args_spec_at(const struct command *c, size_t i) {
    for (const struct arg_spec *s = c->specs; s && s->name; s++)
        if (i-- == 0) return s;
    if (c->uses & USES_JSON && i-- == 0) return &json_spec;
    if (c->uses & USES_SERVER) {
        if (i < array_len(server_specs)) return &server_specs[i];
        i -= array_len(server_specs);
    }
    return i == 0 ? &help_spec : NULL;
}

const struct command *args_sub(const struct command *c, const char *name) {
    for (const struct command *const *sub = c->subs; sub && *sub; sub++)
        if (strcmp((*sub)->name, name) == 0) return *sub;
    return NULL;
}

// --- values -------------------------------------------------------------------------------------------------------

static int parse_count(const char *text, int64_t *ret, struct err *err) {
    char *end;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (end == text || *end || n < 0 || errno) return err_set(err, ERR_INVALID, "'%s' is not a whole number", text);
    *ret = n;
    return 0;
}

static int parse_when(const char *text, int64_t *ret, struct err *err) {
    int64_t ago_ms;
    if (parse_duration_ms(str_of(text), &ago_ms, err) == 0) {
        *ret = clock_unix_ms() - ago_ms;
        return 0;
    }
    if (when_parse(str_of(text), NULL, clock_unix_ms(), ret, NULL) == 0 && *text != '+') return 0;
    return err_set(err, ERR_INVALID, "'%s' is neither an age like 2h nor a time like 2026-01-31T12:00:00Z", text);
}

static bool word_listed(const char *words, const char *text) {
    size_t n = strlen(text);
    for (const char *w = words; n && w; w = strchr(w, '|') ? strchr(w, '|') + 1 : NULL)
        if (strncmp(w, text, n) == 0 && (w[n] == '|' || w[n] == '\0')) return true;
    return false;
}

static int check_durations(const char *text, struct err *err) {
    int64_t ms[64];
    int n = parse_durations_ms(str_of(text), ms, array_len(ms), err);
    return n < 0 ? n : 0;
}

// Digits with at most one point between them, then the rest, which *ret_end points to.
static bool read_real(const char *text, double *ret, const char **ret_end) {
    size_t digits = strspn(text, "0123456789");
    size_t point = text[digits] == '.' && digits ? 1 + strspn(text + digits + 1, "0123456789") : 0;
    if (digits == 0 || digits + point > 18 || point == 1) return false;
    struct str number = {text, digits + point};
    cleanup_free char *z = mem_strndup(number);
    *ret = strtod(z, NULL);
    *ret_end = text + number.len;
    return true;
}

int args_parse_rate(const char *text, double *ret, struct err *err) {
    double n;
    const char *unit;
    if (!read_real(text, &n, &unit) || n <= 0 || (*unit && strcmp(unit, "/s") != 0 && strcmp(unit, "/m") != 0))
        return err_set(err, ERR_INVALID, "'%s' is not a rate; it looks like 50/s or 600/m", text);
    *ret = strcmp(unit, "/m") == 0 ? n / 60 : n;
    return 0;
}

int args_parse_share(const char *text, double *ret, struct err *err) {
    double n;
    const char *unit;
    if (!read_real(text, &n, &unit) || n > 100 || strcmp(unit, "%") != 0)
        return err_set(err, ERR_INVALID, "'%s' is not a share; it looks like 5%%", text);
    *ret = n / 100;
    return 0;
}

static int value_parse(struct args_value *v, struct err *err) {
    switch (v->spec->kind) {
    case ARG_FLAG:
    case ARG_TEXT: return 0;
    case ARG_COUNT: return parse_count(v->text, &v->number, err);
    case ARG_BYTES: return parse_bytes(str_of(v->text), &v->number, err);
    case ARG_DURATION: return parse_duration_ms(str_of(v->text), &v->number, err);
    case ARG_DURATIONS: return check_durations(v->text, err);
    case ARG_WHEN: return parse_when(v->text, &v->number, err);
    case ARG_WORD:
        if (word_listed(v->spec->words, v->text)) return 0;
        return err_set(err, ERR_INVALID, "'%s' is not one of %s", v->text, v->spec->words);
    case ARG_RATE: return args_parse_rate(v->text, &v->real, err);
    case ARG_SHARE: return args_parse_share(v->text, &v->real, err);
    }
    return ERR_INTERNAL;
}

// --- parsing ------------------------------------------------------------------------------------------------------

struct parse {
    struct args *a;
    char **argv;
    int argc, at;
};

static int misuse(const struct args *a, const char *why) {
    return out_misuse("%s: %s\n      weir %s --help explains it", a->path, why, a->path);
}

static const struct arg_spec *find_long(const struct command *c, struct str name) {
    const struct arg_spec *s;
    for (size_t i = 0; (s = args_spec_at(c, i)); i++)
        if (str_is(name, s->name)) return s;
    return NULL;
}

static const struct arg_spec *find_letter(const struct command *c, char letter) {
    const struct arg_spec *s;
    for (size_t i = 0; (s = args_spec_at(c, i)); i++)
        if (s->letter == letter) return s;
    return NULL;
}

static int unknown_option(const struct args *a, struct str name) {
    cleanup_free char *given = mem_strndup(name);
    struct text_nearest best = text_nearest_init(given);
    const struct arg_spec *s;
    for (size_t i = 0; (s = args_spec_at(a->command, i)); i++) args_offer(&best, s->name);
    cleanup_free char *why =
        best.name ? mem_printf("unknown option --%s; did you mean --%s?", given, best.name)
                  : mem_printf("unknown option --%s", given);
    return misuse(a, why);
}

// inline_value: what stood behind `=` or behind the letter; NULL: the next word is the value.
static int take_option(struct parse *p, const struct arg_spec *spec, const char *inline_value) {
    struct args *a = p->a;
    struct args_value v = {.spec = spec, .text = inline_value};
    cleanup_free char *why = NULL;
    if (spec->kind == ARG_FLAG && inline_value) {
        why = mem_printf("--%s takes no value", spec->name);
        return misuse(a, why);
    }
    if (spec->kind != ARG_FLAG && !inline_value) {
        if (p->at + 1 >= p->argc) {
            why = mem_printf("--%s needs a value: --%s %s", spec->name, spec->name, spec->value);
            return misuse(a, why);
        }
        v.text = p->argv[++p->at];
    }
    struct err err = {0};
    if (value_parse(&v, &err) < 0) {
        why = mem_printf("--%s: %s", spec->name, err.text);
        return misuse(a, why);
    }
    a->values[a->value_count++] = v;
    return EXIT_OK;
}

static int take_long(struct parse *p, const char *text) {
    const char *equals = strchr(text, '=');
    struct str name = {text, equals ? (size_t)(equals - text) : strlen(text)};
    const struct arg_spec *spec = find_long(p->a->command, name);
    if (!spec) return unknown_option(p->a, name);
    return take_option(p, spec, equals ? equals + 1 : NULL);
}

static int take_letter(struct parse *p, const char *text) {
    const struct arg_spec *spec = find_letter(p->a->command, text[0]);
    if (!spec) {
        cleanup_free char *why = mem_printf("unknown option -%c", text[0]);
        return misuse(p->a, why);
    }
    return take_option(p, spec, text[1] ? text + 1 : NULL);
}

static int check_words(const struct args *a) {
    const struct command *c = a->command;
    cleanup_free char *why = NULL;
    if (a->word_count < c->least) why = mem_printf("it needs %s", c->words);
    else if (a->word_count > c->most) why = mem_printf("'%s' is one word too many", a->words[c->most]);
    return why ? misuse(a, why) : EXIT_OK;
}

static int parse_all(struct parse *p) {
    bool only_words = false;
    for (; p->at < p->argc; p->at++) {
        const char *text = p->argv[p->at];
        int rc = EXIT_OK;
        if (only_words || text[0] != '-' || text[1] == '\0') p->a->words[p->a->word_count++] = text;
        else if (strcmp(text, "--") == 0) only_words = true;
        else if (text[1] == '-') rc = take_long(p, text + 2);
        else rc = take_letter(p, text + 1);
        if (rc != EXIT_OK) return rc;
    }
    return EXIT_OK;
}

static bool asks_help(int argc, char **argv) {
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) return true;
    return false;
}

static int run_command(const struct command *c, const char *path, int argc, char **argv) {
    if (c->run_raw) return c->run_raw(argc, argv);
    if (asks_help(argc - 1, argv + 1)) {
        help_print(stdout, c, path);
        return EXIT_OK;
    }
    cleanup_free const char **words = mem_array((size_t)argc, sizeof *words);
    cleanup_free struct args_value *values = mem_array((size_t)argc, sizeof *values);
    struct args a = {.command = c, .path = path, .words = words, .values = values};
    struct parse p = {.a = &a, .argv = argv, .argc = argc, .at = 1};
    int rc = parse_all(&p);
    if (rc == EXIT_OK) rc = check_words(&a);
    return rc == EXIT_OK ? c->run(&a) : rc;
}

// --- the tree -----------------------------------------------------------------------------------------------------

// Words that other programs have for the same thing.
static const char *const same_words[][6] = {
    {"remove", "delete", "discard", "rm", "del"}, {"list", "ls"},       {"show", "get", "describe", "info"},
    {"change", "edit", "set", "update"},          {"add", "deploy", "create", "new"}, {"pause", "stop"},
    {"resume", "start", "continue"},              {"use", "switch", "activate"},      {"invoke", "call"},
};

// The command that is called otherwise here; NULL: there is none.
static const char *other_word(const struct command *c, const char *name) {
    for (size_t i = 0; i < array_len(same_words); i++) {
        bool listed = false;
        for (const char *const *word = same_words[i]; *word; word++) listed |= strcmp(*word, name) == 0;
        for (const char *const *word = same_words[i]; listed && *word; word++)
            if (args_sub(c, *word)) return *word;
    }
    return NULL;
}

static int unknown_command(const struct command *c, const char *path, const char *name) {
    struct text_nearest best = text_nearest_init(name);
    for (const struct command *const *sub = c->subs; *sub; sub++) args_offer(&best, (*sub)->name);
    const char *gap = *path ? " " : "", *other = other_word(c, name), *word = other ? other : best.name;
    if (word) return out_misuse("unknown command '%s%s%s'; did you mean 'weir %s%s%s'?", path, gap, name, path, gap, word);
    return out_misuse("unknown command '%s%s%s'; 'weir%s%s --help' lists what there is", path, gap, name, gap, path);
}

static char *join(const char *path, const char *name) {
    return mem_printf("%s%s%s", path, *path ? " " : "", name);
}

static int run_below(const struct command *c, const char *path, int argc, char **argv) {
    if (!c->subs) return run_command(c, path, argc, argv);
    if (argc < 2) {
        help_print(stderr, c, path);
        return EXIT_MISUSE;
    }
    if (asks_help(1, argv + 1)) {
        help_print(stdout, c, path);
        return EXIT_OK;
    }
    const struct command *sub = args_sub(c, argv[1]);
    if (!sub) return unknown_command(c, path, argv[1]);
    cleanup_free char *below = join(path, sub->name);
    return run_below(sub, below, argc - 1, argv + 1);
}

int args_run(const struct command *root, int argc, char **argv) {
    return run_below(root, "", argc, argv);
}

static int help_below(const struct command *c, const char *path, size_t count, char **words) {
    if (c->run_raw) {
        char *raw[] = {words[-1], (char[]){"--help"}, NULL};
        return c->run_raw(2, raw);
    }
    if (count == 0 || !c->subs) {
        help_print(stdout, c, path);
        return EXIT_OK;
    }
    const struct command *sub = args_sub(c, words[0]);
    if (!sub) return unknown_command(c, path, words[0]);
    cleanup_free char *below = join(path, sub->name);
    return help_below(sub, below, count - 1, words + 1);
}

int args_help(const struct command *root, size_t count, char **words) {
    return help_below(root, "", count, words);
}

// --- asking -------------------------------------------------------------------------------------------------------

static const struct args_value *last_value(const struct args *a, const char *name) {
    MUST(find_long(a->command, str_of(name)));
    for (size_t i = a->value_count; i > 0; i--)
        if (strcmp(a->values[i - 1].spec->name, name) == 0) return &a->values[i - 1];
    return NULL;
}

bool args_takes(const struct args *a, const char *name) {
    return find_long(a->command, str_of(name)) != NULL;
}

bool args_has(const struct args *a, const char *name) {
    return last_value(a, name) != NULL;
}

const char *args_text(const struct args *a, const char *name) {
    const struct args_value *v = last_value(a, name);
    return v ? v->text : NULL;
}

int64_t args_number(const struct args *a, const char *name, int64_t fallback) {
    const struct args_value *v = last_value(a, name);
    return v ? v->number : fallback;
}

double args_real(const struct args *a, const char *name, double fallback) {
    const struct args_value *v = last_value(a, name);
    return v ? v->real : fallback;
}

const char *args_nth(const struct args *a, const char *name, size_t i) {
    MUST(find_long(a->command, str_of(name)));
    for (size_t k = 0; k < a->value_count; k++)
        if (strcmp(a->values[k].spec->name, name) == 0 && i-- == 0) return a->values[k].text;
    return NULL;
}
