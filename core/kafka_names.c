// SPDX-License-Identifier: Apache-2.0
// The properties are read from the table that rd_kafka_conf_properties_show prints (Markdown, one property a line:
// `name | C/P | range | …`), so that the list is always that of the library in use. Lines of another form are passed over:
// should the form ever change, there are no suggestions, and nothing else is lost.
#include "core/kafka_names.h"

#include <ctype.h>
#include <librdkafka/rdkafka.h>

#include "core/base/text.h"

static char *print_properties(void) {
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    MUST(f);
    rd_kafka_conf_properties_show(f);
    MUST(fclose(f) == 0);
    return text;
}

// "name   |  C  | …" in place; false for headings and rules.
static bool parse_line(char *line, struct kafka_property *ret) {
    char *bar = strchr(line, '|');
    if (!bar || !islower((unsigned char)line[0])) return false;
    const char *scope = bar + 1;
    scope += strspn(scope, " ");
    if (!strchr("CP*", *scope)) return false;
    line[strcspn(line, " |")] = '\0';
    *ret = (struct kafka_property){line, *scope != 'P', *scope != 'C'};
    return true;
}

void kafka_properties_init(struct kafka_properties *p) {
    *p = (struct kafka_properties){.text = print_properties()};
    size_t lines = 1;
    for (const char *c = p->text; *c; c++) lines += *c == '\n';
    p->list = mem_array(lines, sizeof *p->list);
    char *rest = p->text, *line;
    while ((line = strsep(&rest, "\n")))
        if (*line && parse_line(line, &p->list[p->count])) p->count++;
}

void kafka_properties_done(struct kafka_properties *p) {
    free(p->list);
    free(p->text);
    *p = (struct kafka_properties){0};
}

const struct kafka_property *kafka_properties_find(const struct kafka_properties *p, const char *name) {
    for (size_t i = 0; i < p->count; i++)
        if (strcmp(p->list[i].name, name) == 0) return &p->list[i];
    return NULL;
}

const char *kafka_properties_nearest(const struct kafka_properties *p, const char *name) {
    const char *best = NULL;
    size_t best_rank = 0, rank;
    for (size_t i = 0; i < p->count; i++) {
        if (strchr(p->list[i].name, '_')) continue; // callbacks: not for people
        if (!text_is_similar(name, p->list[i].name, &rank) || (best && rank >= best_rank)) continue;
        best = p->list[i].name;
        best_rank = rank;
    }
    return best;
}
