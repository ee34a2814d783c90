// SPDX-License-Identifier: Apache-2.0
#include "cli/args_text.h"

#include "cli/complete.h"
#include "cli/out.h"
#include "core/options.h"

// --- help ---------------------------------------------------------------------------------------------------------

// "-n, --name NAME"; caller frees.
static char *option_head(const struct arg_spec *s) {
    char letter[5] = "    ";
    if (s->letter) memcpy(letter, (char[]){'-', s->letter, ',', ' ', '\0'}, sizeof letter);
    return mem_printf("%s--%s%s%s", letter, s->name, s->value ? " " : "", s->value ? s->value : "");
}

static void print_options(FILE *f, const struct command *c) {
    const struct arg_spec *s;
    int widest = 0;
    for (size_t i = 0; (s = args_spec_at(c, i)); i++) {
        cleanup_free char *head = option_head(s);
        if ((int)strlen(head) > widest) widest = (int)strlen(head);
    }
    fputs("\nOptions:\n", f);
    for (size_t i = 0; (s = args_spec_at(c, i)); i++) {
        cleanup_free char *head = option_head(s);
        fprintf(f, "  %-*s  %s\n", widest, head, s->help);
    }
}

static void print_commands(FILE *f, const struct command *c, const char *path) {
    int widest = 0;
    for (const struct command *const *sub = c->subs; *sub; sub++)
        if ((int)strlen((*sub)->name) > widest) widest = (int)strlen((*sub)->name);
    fputs("\nCommands:\n", f);
    for (const struct command *const *sub = c->subs; *sub; sub++)
        fprintf(f, "  %s%-*s%s  %s\n", out_tone(f, TONE_BOLD), widest, (*sub)->name, out_tone(f, TONE_PLAIN),
                (*sub)->summary);
    fprintf(f, "\n'weir help %s%sCOMMAND' tells more about one of them.\n", path, *path ? " " : "");
}

void help_print(FILE *f, const struct command *c, const char *path) {
    fprintf(f, "usage: weir%s%s", *path ? " " : "", path);
    if (c->subs) fputs(" COMMAND", f);
    if (c->words) fprintf(f, " %s", c->words);
    if (!c->subs) fputs(" [options]", f);
    fprintf(f, "\n\n%s.\n", c->summary);
    if (c->about) fputs(c->about, f);
    if (c->subs) print_commands(f, c, path);
    else print_options(f, c);
}

// --- the nearest name ---------------------------------------------------------------------------------------------

void args_offer(struct text_nearest *n, const char *word) {
    size_t len = strlen(n->given);
    if (len < 2 || strncmp(word, n->given, len) != 0) text_nearest_offer(n, word);
    else if (n->distance > 1) *n = (struct text_nearest){.given = n->given, .name = word, .distance = 1};
}

// --- completion ---------------------------------------------------------------------------------------------------

static void complete_words(const char *words) {
    for (const char *w = words; *w; w++) putchar(*w == '|' ? '\n' : *w);
    putchar('\n');
}

static void complete_options(const struct command *c) {
    const struct arg_spec *s;
    if (c->run_raw)
        for (const struct option_spec *o = option_specs; o->name; o++) printf("--%s\n", o->name);
    else
        for (size_t i = 0; (s = args_spec_at(c, i)); i++) printf("--%s\n", s->name);
}

// The option whose value stands at the end of the words, or NULL.
static const struct arg_spec *awaits_value(const struct command *c, const char *before) {
    const struct arg_spec *s;
    for (size_t i = 0; (s = args_spec_at(c, i)); i++) {
        if (s->kind == ARG_FLAG) continue;
        if (strncmp(before, "--", 2) == 0 && strcmp(before + 2, s->name) == 0) return s;
        if (s->letter && before[0] == '-' && before[1] == s->letter && before[2] == '\0') return s;
    }
    return NULL;
}

void args_complete(const struct command *root, size_t count, char **words) {
    const struct command *c = root;
    size_t at = 0;
    while (c->subs && at + 1 < count) {
        const struct command *sub = args_sub(c, words[at]);
        if (!sub) return;
        c = sub;
        at++;
    }
    if (c->subs) {
        for (const struct command *const *sub = c->subs; *sub; sub++) puts((*sub)->name);
        return;
    }
    const struct arg_spec *open = at + 1 < count && !c->run_raw ? awaits_value(c, words[count - 2]) : NULL;
    if (open && open->kind == ARG_WORD) complete_words(open->words);
    else if (open) complete_names(c, open);
    else if (count > 0 && words[count - 1][0] == '-') complete_options(c);
    else if (at + 1 == count) complete_names(c, NULL);
}
