// SPDX-License-Identifier: Apache-2.0
// Formats a line into a local buffer and writes it at once, so that lines of several threads never mix.
#include "core/base/log.h"

#include <stdatomic.h>
#include <unistd.h>

#include "core/base/buf.h"
#include "core/base/clock.h"

#define LINE_MAX_BYTES 8192

static _Atomic int least_level = LOG_LEVEL_INFO;
static _Atomic bool as_json = false;

static const char *const level_words[] = {"error", "warn", "info", "debug"};

void log_setup(enum log_level least, bool json) {
    least_level = (int)least;
    as_json = json;
}

int log_level_parse(const char *word, enum log_level *ret) {
    for (size_t i = 0; i < array_len(level_words); i++)
        if (strcmp(word, level_words[i]) == 0) {
            *ret = (enum log_level)i;
            return 0;
        }
    return ERR_INVALID;
}

// A quoted, escaped copy; what does not fit into the line is cut.
static void put_quoted(struct buf *b, struct str s) {
    int rc = buf_append(b, STR_LIT("\""));
    for (size_t i = 0; i < s.len && rc == 0; i++) {
        unsigned char c = (unsigned char)s.data[i];
        if (c == '"' || c == '\\') rc = buf_printf(b, "\\%c", c);
        else if (c == '\n') rc = buf_append(b, STR_LIT("\\n"));
        else if (c < 0x20 || c == 0x7f) rc = buf_printf(b, "\\u%04x", c);
        else rc = buf_append(b, (struct str){(const char *)&s.data[i], 1});
        if (buf_len(b) > LINE_MAX_BYTES - 64) break;
    }
    if (rc == 0) rc = buf_append(b, STR_LIT("\""));
    (void)rc;
}

static bool is_plain(struct str s) {
    if (s.len == 0) return false;
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.data[i];
        if (c <= ' ' || c == '"' || c == '=' || c == '\\' || c >= 0x7f) return false;
    }
    return true;
}

static void put_field(struct buf *b, const char *key, struct str text, int64_t number, bool json) {
    int rc = json ? buf_printf(b, ",\"%s\":", key) : buf_printf(b, " %s=", key);
    if (rc) return;
    if (!text.data) rc = buf_printf(b, "%lld", (long long)number);
    else if (!json && is_plain(text)) rc = buf_append(b, text);
    else put_quoted(b, text);
    (void)rc;
}

void log_write(enum log_level level, const char *module, const char *what, const struct log_field *fields) {
    if ((int)level > least_level) return;
    bool json = as_json;
    char now[CLOCK_TEXT_BYTES];
    clock_format_utc(clock_unix_ms(), now);
    struct buf b;
    buf_init(&b, LINE_MAX_BYTES);
    int rc = json ? buf_printf(&b, "{\"time\":\"%s\",\"level\":\"%s\",\"module\":\"%s\"", now, level_words[level], module)
                  : buf_printf(&b, "%s %-5s %s:", now, level_words[level], module);
    if (json) put_field(&b, "message", str_of(what), 0, true);
    else if (rc == 0) rc = buf_printf(&b, " %s", what);
    for (const struct log_field *f = fields; f && f->key; f++) put_field(&b, f->key, f->text, f->number, json);
    if (buf_append(&b, json ? STR_LIT("}\n") : STR_LIT("\n"))) {
        b.data[b.end - 1] = '\n';
    }
    struct str line = buf_str(&b);
    if (write(STDERR_FILENO, line.data, line.len) < 0) {
        // Nowhere left to say it.
    }
    buf_done(&b);
}

void log_repeating(struct log_repeat *r, enum log_level level, const char *module, const char *what, const char *why) {
    int64_t now = clock_mono_ns();
    if (now < r->next_ns) {
        r->unsaid++;
        return;
    }
    uint64_t unsaid = r->unsaid;
    r->unsaid = 0;
    r->next_ns = now + LOG_REPEAT_INTERVAL_MS * NS_PER_MS;
    log_write(level, module, what,
              LOG_FIELDS(LOG_STR("error", why), {.key = unsaid ? "repeated" : NULL, .number = (int64_t)unsaid}));
}
