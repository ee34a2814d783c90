// SPDX-License-Identifier: Apache-2.0
#include "cli/watch_screen.h"

#include <errno.h>
#include <fcntl.h>
#include <ncurses.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <termios.h>
#include <unistd.h>

#define ESCAPE_MS 50 // after which an escape is the key and not the beginning of another
#define RESTORE_BYTES 256
#define STDERR_SHOWN ((size_t)64 << 10)

struct screen {
    SCREEN *curses;
    bool colors;
};

// For the handler of deadly signals, which must not use ncurses.
static struct {
    volatile sig_atomic_t active;
    struct termios before;
    char bytes[RESTORE_BYTES]; // leave the full screen
    size_t len;
    int stderr_fd, kept_fd;    // the real stderr, and the file that stands for it; -1: none
} restore = {.stderr_fd = -1, .kept_fd = -1};

// --- stderr -------------------------------------------------------------------------------------------------------

static void keep_stderr(void) {
    restore.kept_fd = memfd_create("stderr", MFD_CLOEXEC);
    restore.stderr_fd = restore.kept_fd < 0 ? -1 : fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    if (restore.stderr_fd >= 0) (void)dup2(restore.kept_fd, STDERR_FILENO);
}

// Async-signal-safe.
static void show_stderr(void) {
    char bytes[512];
    ssize_t n;
    if (restore.stderr_fd >= 0) {
        (void)dup2(restore.stderr_fd, STDERR_FILENO);
        for (off_t at = 0; at < (off_t)STDERR_SHOWN && (n = pread(restore.kept_fd, bytes, sizeof bytes, at)) > 0; at += n)
            if (write(STDERR_FILENO, bytes, (size_t)n) < 0) break;
        (void)close(restore.stderr_fd);
    }
    if (restore.kept_fd >= 0) (void)close(restore.kept_fd);
    restore.stderr_fd = restore.kept_fd = -1;
}

// --- deadly signals -----------------------------------------------------------------------------------------------

static void on_deadly(int signo) {
    if (restore.active) {
        (void)!write(STDOUT_FILENO, restore.bytes, restore.len);
        (void)tcsetattr(STDIN_FILENO, TCSANOW, &restore.before);
        show_stderr();
    }
    (void)raise(signo); // with its default action
}

static void catch_deadly(void) {
    static const int signals[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGQUIT};
    struct sigaction act = {.sa_handler = on_deadly, .sa_flags = (int)(SA_RESETHAND | SA_NODEFER)};
    for (size_t i = 0; i < array_len(signals); i++) (void)sigaction(signals[i], &act, NULL);
}

static void add_restore(const char *capability) {
    const char *text = tigetstr(capability);
    if (!text || text == (const char *)-1 || strstr(text, "$<")) return; // not there, or with delays
    size_t n = strlen(text);
    if (restore.len + n > sizeof restore.bytes) return;
    memcpy(restore.bytes + restore.len, text, n);
    restore.len += n;
}

static void remember_terminal(void) {
    static const char *const capabilities[] = {"rmkx", "sgr0", "cnorm", "rmcup"};
    restore.len = 0;
    for (size_t i = 0; i < array_len(capabilities); i++) add_restore(capabilities[i]);
}

// --- open, close --------------------------------------------------------------------------------------------------

static bool has_capability(const char *name) {
    const char *text = tigetstr(name);
    return text && text != (const char *)-1;
}

static void start_colors(struct screen *s) {
    const char *no_color = getenv("NO_COLOR"); // no-color.org
    if ((no_color && *no_color) || !has_colors() || start_color() != OK) return;
    short background = use_default_colors() == OK ? -1 : COLOR_BLACK;
    init_pair(TONE_GOOD, COLOR_GREEN, background);
    init_pair(TONE_WARN, COLOR_YELLOW, background);
    init_pair(TONE_BAD, COLOR_RED, background);
    s->colors = true;
}

int screen_open(struct screen **ret, struct err *err) {
    const char *term = getenv("TERM");
    if (tcgetattr(STDIN_FILENO, &restore.before) < 0) return err_set_errno(err, ERR_INVALID, errno, "the terminal cannot be read");
    struct screen *s = mem_zalloc(sizeof *s);
    set_escdelay(ESCAPE_MS);
    s->curses = newterm(NULL, stdout, stdin);
    if (!s->curses || !has_capability("cup") || !has_capability("clear")) {
        if (s->curses) delscreen(s->curses);
        (void)tcsetattr(STDIN_FILENO, TCSANOW, &restore.before);
        free(s);
        return err_set(err, ERR_INVALID, "a terminal of the kind '%s' (TERM) has no full screen that is known here", term ? term : "");
    }
    remember_terminal();
    catch_deadly();
    restore.active = 1;
    keep_stderr();
    cbreak();
    noecho();
    nonl();
    keypad(stdscr, TRUE);
    nodelay(stdscr, TRUE);
    start_colors(s);
    *ret = s;
    return 0;
}

void screen_leave(struct screen *s) {
    (void)s;
    (void)curs_set(1);
    (void)endwin();
    restore.active = 0;
    show_stderr();
}

void screen_return(struct screen *s) {
    keep_stderr();
    restore.active = 1;
    screen_resize(s);
    (void)clearok(stdscr, TRUE);
}

void screen_close(struct screen *s) {
    if (!s) return;
    screen_leave(s);
    delscreen(s->curses);
    free(s);
}

void screen_resize(struct screen *s) {
    struct winsize size;
    (void)s;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row && size.ws_col) (void)resizeterm(size.ws_row, size.ws_col);
}

void screen_size(const struct screen *s, size_t *ret_rows, size_t *ret_cols) {
    (void)s;
    *ret_rows = (size_t)getmaxy(stdscr);
    *ret_cols = (size_t)getmaxx(stdscr);
}

// --- keys ---------------------------------------------------------------------------------------------------------

static uint32_t function_key(wint_t key) {
    static const struct {
        wint_t curses;
        uint32_t key;
    } keys[] = {{KEY_UP, WATCH_KEY_UP},          {KEY_DOWN, WATCH_KEY_DOWN},   {KEY_LEFT, WATCH_KEY_LEFT},
                {KEY_RIGHT, WATCH_KEY_RIGHT},    {KEY_HOME, WATCH_KEY_HOME},   {KEY_END, WATCH_KEY_END},
                {KEY_PPAGE, WATCH_KEY_PAGE_UP},  {KEY_NPAGE, WATCH_KEY_PAGE_DOWN}, {KEY_ENTER, WATCH_KEY_ENTER},
                {KEY_BACKSPACE, WATCH_KEY_BACKSPACE}, {KEY_DC, WATCH_KEY_DELETE}};
    for (size_t i = 0; i < array_len(keys); i++)
        if (keys[i].curses == key) return keys[i].key;
    return WATCH_KEY_OTHER;
}

static uint32_t character_key(wint_t c) {
    switch (c) {
    case '\r':
    case '\n': return WATCH_KEY_ENTER;
    case '\t': return WATCH_KEY_TAB;
    case '\b':
    case 0x7f: return WATCH_KEY_BACKSPACE;
    case 0x1b: return WATCH_KEY_ESCAPE;
    default: return c < WATCH_KEY_UP ? (uint32_t)c : WATCH_KEY_OTHER;
    }
}

// The rest of a sequence that stands for a key which ncurses does not know: its bytes are no keys.
static bool swallow_sequence(void) {
    wint_t c;
    if (get_wch(&c) == ERR) return false;
    if (c != '[' && c != 'O') {
        (void)unget_wch((wchar_t)c);
        return false;
    }
    while (get_wch(&c) != ERR && c < '@') continue; // parameters, then the letter that ends it
    return true;
}

bool screen_key(struct screen *s, uint32_t *ret) {
    wint_t c;
    int rc;
    (void)s;
    do rc = get_wch(&c);
    while (rc == KEY_CODE_YES && c == KEY_RESIZE); // resizeterm's own
    if (rc == ERR) return false;
    *ret = rc == KEY_CODE_YES ? function_key(c) : character_key(c);
    if (*ret == WATCH_KEY_ESCAPE && swallow_sequence()) *ret = WATCH_KEY_OTHER;
    if (*ret == ('L' & 0x1f)) (void)clearok(stdscr, TRUE);
    return true;
}

// --- drawing ------------------------------------------------------------------------------------------------------

static attr_t attributes_of(const struct screen *s, const struct span *span) {
    attr_t reversed = span->reversed ? A_REVERSE : 0;
    switch (span->tone) {
    case TONE_BOLD: return reversed | A_BOLD;
    case TONE_DIM: return reversed | A_DIM;
    case TONE_GOOD:
    case TONE_WARN:
    case TONE_BAD: return reversed | (s->colors ? (attr_t)COLOR_PAIR(span->tone) : span->tone == TONE_BAD ? A_BOLD : 0);
    case TONE_PLAIN: break;
    }
    return reversed;
}

// Clean UTF-8 as wide characters, whatever the locale has for them; caller frees.
static wchar_t *wide(const char *text) {
    wchar_t *out = mem_array(strlen(text) + 1, sizeof *out), *at = out;
    for (const unsigned char *b = (const unsigned char *)text; *b;) {
        int more = *b < 0x80 ? 0 : *b < 0xe0 ? 1 : *b < 0xf0 ? 2 : 3;
        uint32_t c = more ? *b & (0x3fu >> more) : *b;
        for (b++; more > 0; more--, b++) c = c << 6 | (*b & 0x3f);
        *at++ = (wchar_t)c;
    }
    return out;
}

void screen_show(struct screen *s, const struct frame *f) {
    erase();
    for (size_t i = 0; i < f->count; i++) {
        const struct span *span = &f->list[i];
        cleanup_free wchar_t *text = wide(span->text);
        (void)attrset((int)attributes_of(s, span));
        (void)mvaddwstr((int)span->row, (int)span->col, text);
    }
    (void)attrset(A_NORMAL);
    (void)curs_set(f->has_caret);
    (void)move(f->has_caret ? (int)f->caret_row : 0, f->has_caret ? (int)f->caret_col : 0);
    (void)refresh();
}
