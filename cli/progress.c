// SPDX-License-Identifier: Apache-2.0
#include "cli/progress.h"

#include <stdarg.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/out.h"
#include "core/base/clock.h"

#define ON_TERMINAL_MS 100
#define ELSEWHERE_MS 10000
#define BAR_WIDTH (PROGRESS_BAR_BYTES - 3)
#define COLUMNS_DEFAULT 80

void progress_begin(struct progress *p) {
    p->shown_ns = clock_mono_ns() - (out_is_terminal(stderr) ? ON_TERMINAL_MS * NS_PER_MS : 0);
}

bool progress_due(struct progress *p) {
    int64_t now_ns = clock_mono_ns(), every_ms = out_is_terminal(stderr) ? ON_TERMINAL_MS : ELSEWHERE_MS;
    if (now_ns - p->shown_ns < every_ms * NS_PER_MS) return false;
    p->shown_ns = now_ns;
    return true;
}

// Bytes of the text that fit; UTF-8 continuation bytes take no room.
static int fitting(const char *text) {
    struct winsize w;
    size_t columns = ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 1 ? w.ws_col : COLUMNS_DEFAULT, width = 0;
    int i = 0;
    for (; text[i]; i++)
        if (((unsigned char)text[i] & 0xc0) != 0x80 && ++width == columns) break;
    return i;
}

void progress_show(const char *fmt, ...) {
    cleanup_free char *text = NULL;
    va_list ap;
    va_start(ap, fmt);
    MUST(vasprintf(&text, fmt, ap) >= 0);
    va_end(ap);
    if (out_is_terminal(stderr)) out_progress("%.*s", fitting(text), text);
    else out_note("%s", text);
}

void progress_end(void) {
    out_progress(NULL);
}

const char *progress_bar(int64_t done, int64_t total, char out[PROGRESS_BAR_BYTES]) {
    double share = total > 0 ? (double)done / (double)total : 1;
    int filled = share >= 1 ? BAR_WIDTH : share <= 0 ? 0 : (int)(share * BAR_WIDTH);
    out[0] = '[';
    memset(out + 1, '#', (size_t)filled);
    memset(out + 1 + filled, '-', (size_t)(BAR_WIDTH - filled));
    out[BAR_WIDTH + 1] = ']';
    out[BAR_WIDTH + 2] = '\0';
    return out;
}
