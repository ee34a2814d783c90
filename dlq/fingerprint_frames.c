// SPDX-License-Identifier: Apache-2.0
// Finds the frames of a stack, line by line. A stack may be the end of a program's stderr, so lines of logs may stand around it.
//
// Of several traces the last one counts, which makes it, of chained exceptions, the one that Python raised last, and the root cause in Java
// and Node.js. PHP prints the root cause first, so what follows "Next" is hidden. So are the exceptions that Java suppressed, all but the
// first of a Python exception group, and all goroutines but the one that panicked.
#include "dlq/fingerprint_impl.h"

struct top {
    struct frame frames[FINGERPRINT_FRAMES]; // a ring when the innermost frame comes last
    size_t count;                            // frames seen, those that repeat once
};

struct scan {
    enum language language; // of the trace that is read
    bool in_block;          // the line before belonged to it
    bool hidden;            // what is read does not count, until a line with less than hidden_indent
    size_t hidden_indent;
    bool panicked;          // Go: the next goroutine is the one
    bool caused;            // Java, Node.js: the next trace is the cause of this one
    bool outer;             // `user` is of the trace that the one that is read caused, for want of frames of its own
    struct str before;      // the line before; in Go a frame has two
    struct top user, library;
};

static bool contains(struct str s, const char *what) {
    return s.len && memmem(s.data, s.len, what, strlen(what));
}

static bool ends_with(struct str s, const char *tail) {
    size_t n = strlen(tail);
    return s.len >= n && memcmp(s.data + s.len - n, tail, n) == 0;
}

static bool cut_prefix(struct str *s, const char *prefix) {
    if (!str_starts(*s, prefix)) return false;
    *s = str_from(*s, strlen(prefix));
    return true;
}

// Splits s at the first `what`: *ret_head is before it; s becomes what follows it.
static bool cut_at(struct str *s, const char *what, struct str *ret_head) {
    const char *at = s->len ? memmem(s->data, s->len, what, strlen(what)) : NULL;
    if (!at) return false;
    *ret_head = str_head(*s, (size_t)(at - s->data));
    *s = str_from(*s, ret_head->len + strlen(what));
    return true;
}

// Drops digits and what stands in front of them (":12", " on line 12") from the end.
static bool cut_number(struct str *s, const char *in_front) {
    size_t n = s->len, width = strlen(in_front);
    while (n > 0 && is_digit((unsigned char)s->data[n - 1])) n--;
    if (n == s->len || n < width || memcmp(s->data + n - width, in_front, width) != 0) return false;
    s->len = n - width;
    return true;
}

// ---- what is of the user --------------------------------------------------------------------------------------------------

static bool has_folder(struct str file, const char *name) {
    size_t n = strlen(name);
    for (size_t i = 0; i + n < file.len; i++) {
        bool starts = i == 0 || file.data[i - 1] == '/' || file.data[i - 1] == '\\';
        if (starts && memcmp(file.data + i, name, n) == 0 && (file.data[i + n] == '/' || file.data[i + n] == '\\')) return true;
    }
    return false;
}

static bool starts_with_any(struct str s, const char *const *prefixes, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (str_starts(s, prefixes[i])) return true;
    return false;
}

static bool is_python_library(struct str file) {
    return str_starts(file, "<frozen ") || has_folder(file, "site-packages") || has_folder(file, "dist-packages") ||
           contains(file, "/lib/python") || contains(file, "/lib64/python") || str_starts(file, "/var/runtime/");
}

static bool is_node_library(struct str file) {
    static const char *const prefixes[] = {"node:", "internal/", "<anonymous>", "native", "index ", "/var/runtime/", "file:///var/runtime/"};
    return has_folder(file, "node_modules") || starts_with_any(file, prefixes, array_len(prefixes));
}

static bool is_java_library(struct str function) {
    static const char *const prefixes[] = {"java.", "javax.", "jakarta.", "jdk.", "sun.", "com.sun.", "kotlin.", "kotlinx.", "scala.", "groovy.",
        "clojure.", "akka.", "org.springframework.", "org.apache.", "org.codehaus.", "org.hibernate.", "org.eclipse.", "org.jboss.", "org.junit.",
        "org.slf4j.", "org.postgresql.", "org.aspectj.", "org.reactivestreams.", "ch.qos.logback.", "com.amazonaws.", "com.fasterxml.",
        "com.google.common.", "com.google.gson.", "com.mysql.", "com.rabbitmq.", "com.zaxxer.", "feign.", "io.lettuce.", "io.micronaut.",
        "io.netty.", "io.quarkus.", "io.reactivex.", "io.vertx.", "okhttp3.", "reactor.", "redis.clients.", "software.amazon."};
    return starts_with_any(function, prefixes, array_len(prefixes));
}

// The packages of Go's standard library, by the first part of their import path.
static bool is_go_standard(struct str function) {
    static const char *const names[] = {"archive", "bufio", "bytes", "cmp", "compress", "container", "context", "crypto", "database", "debug",
        "encoding", "errors", "expvar", "flag", "fmt", "go", "hash", "html", "image", "internal", "io", "iter", "log", "maps", "math", "mime",
        "net", "os", "panic", "path", "plugin", "reflect", "regexp", "runtime", "slices", "sort", "strconv", "strings", "sync", "syscall",
        "testing", "text", "time", "unicode", "unique", "unsafe", "vendor"};
    size_t n = 0;
    while (n < function.len && function.data[n] != '/') n++;
    if (n == function.len)
        for (n = 0; n < function.len && function.data[n] != '.'; n++) {}
    for (size_t i = 0; i < array_len(names); i++)
        if (str_is(str_head(function, n), names[i])) return true;
    return false;
}

static bool is_library(const struct frame *f) {
    switch (f->language) {
    case LANGUAGE_PYTHON: return is_python_library(f->file);
    case LANGUAGE_NODE: return is_node_library(f->file);
    case LANGUAGE_JAVA: return is_java_library(f->function);
    case LANGUAGE_PHP: return f->file.len == 0 || has_folder(f->file, "vendor") || str_starts(f->file, "phar:");
    case LANGUAGE_GO: return is_go_standard(f->function) || contains(f->file, "/pkg/mod/") || has_folder(f->file, "vendor");
    case LANGUAGE_OTHER: break;
    }
    return false;
}

// ---- collecting -----------------------------------------------------------------------------------------------------------

static bool innermost_last(enum language language) {
    return language == LANGUAGE_PYTHON;
}

static void begin(struct scan *s, enum language language) {
    s->outer = s->caused && s->language == language;
    s->hidden = s->panicked = s->caused = false;
    s->language = language;
    s->library.count = 0;
    if (!s->outer) s->user.count = 0;
}

// A frame that calls itself counts once, so that the depth of a recursion does not matter.
static void push(struct top *top, const struct frame *f) {
    size_t last = (top->count - 1) % FINGERPRINT_FRAMES;
    if (!innermost_last(f->language) && top->count == FINGERPRINT_FRAMES) return;
    if (top->count && str_eq(top->frames[last].file, f->file) && str_eq(top->frames[last].function, f->function)) return;
    top->frames[top->count++ % FINGERPRINT_FRAMES] = *f;
}

// With `joined`, a frame that follows on other lines begins a new trace.
static void add(struct scan *s, bool joined, struct frame f) {
    if (s->language != f.language) begin(s, f.language);
    if (s->hidden) return;
    if (joined && !s->in_block) begin(s, f.language);
    if (is_library(&f)) {
        push(&s->library, &f);
        return;
    }
    if (s->outer) s->user.count = 0;
    s->outer = false;
    push(&s->user, &f);
}

static void hide(struct scan *s, size_t indent) {
    s->hidden = true;
    s->hidden_indent = indent;
}

// ---- one line; each says whether the line is of its language and belongs to a trace -----------------------------------------

//   File "orders.py", line 36, in main
static bool read_python_frame(struct scan *s, struct str line) {
    struct str file;
    if (!cut_prefix(&line, "File \"") || !cut_at(&line, "\", line ", &file)) return false;
    size_t digits = digits_length(line);
    line = str_from(line, digits);
    if (digits == 0 || (line.len && !cut_prefix(&line, ", in "))) return false;
    add(s, false, (struct frame){LANGUAGE_PYTHON, file, line});
    return true;
}

// In an exception group each line has "|" in front, and "+---------------- 2 ----------------" is in front of the second of its exceptions.
static bool read_python(struct scan *s, struct str line, size_t indent) {
    if (ends_with(line, "Traceback (most recent call last):")) {
        if (!s->hidden || s->language != LANGUAGE_PYTHON) begin(s, LANGUAGE_PYTHON);
        return true;
    }
    struct str dashes;
    if (str_starts(line, "-") && s->language == LANGUAGE_PYTHON && cut_at(&line, "---- ", &dashes) && !str_starts(line, "1 ")) {
        if (!s->hidden) hide(s, indent);
        return true;
    }
    return read_python_frame(s, line);
}

// main (orders.js:12:5) · async Object.<anonymous> (/var/task/lib/x.js:1:2) · file:///srv/orders.mjs:3:9
static bool read_node(struct scan *s, struct str line) {
    struct str function = {line.data, 0}, where = line;
    if (ends_with(line, " {")) where.len -= 2; // the error's own fields follow
    if (ends_with(where, ")") && cut_at(&where, " (", &function)) where.len--;
    bool evaluated = str_starts(where, "eval at ");
    bool built_in = str_is(where, "<anonymous>") || str_is(where, "native") || str_starts(where, "index ");
    bool line_and_column = !built_in && cut_number(&where, ":");
    line_and_column = line_and_column && cut_number(&where, ":");
    if (!built_in && !line_and_column) return false;
    if (evaluated) where = STR_LIT("eval");
    if (str_starts(where, "index ")) where = STR_LIT("index ");
    (void)(cut_prefix(&function, "async ") || cut_prefix(&where, "async "));
    struct str name;
    if (cut_at(&function, " [as ", &name)) function = name;
    add(s, true, (struct frame){LANGUAGE_NODE, where, function});
    return true;
}

// com.acme.Orders.handle(Orders.java:36) · java.base/java.util.ArrayList.get(Unknown Source) ~[?:?]
static bool read_java(struct scan *s, struct str line) {
    struct str function, file, rest = line;
    if (!cut_at(&rest, "(", &function) || !cut_at(&rest, ")", &file) || (rest.len && rest.data[0] != ' ')) return false;
    if (file.len == 0 || contains(function, " ") || !contains(function, ".") || contains(rest, " in ")) return false;
    struct str name = function, loader;
    size_t generated = cut_at(&name, "$$", &loader) ? loader.len : function.len;
    for (size_t i = generated; i > 0; i--) {
        if (function.data[i - 1] != '/') continue;
        function = str_from(function, i);
        break;
    }
    (void)cut_number(&file, ":");
    add(s, true, (struct frame){LANGUAGE_JAVA, file, function});
    return true;
}

static bool read_at(struct scan *s, struct str line, size_t indent) {
    if (cut_prefix(&line, "at ")) return read_java(s, line) || read_node(s, line);
    s->caused = s->caused || (!s->hidden && (str_starts(line, "Caused by: ") || str_starts(line, "[cause]: ")));
    if (str_starts(line, "Suppressed: ") && s->language == LANGUAGE_JAVA && !s->hidden) hide(s, indent);
    return str_starts(line, "... "); // "... 12 more"
}

// The arguments begin at the first parenthesis that is in no {closure:…()}.
static struct str php_function(struct str call) {
    size_t depth = 0;
    for (size_t i = 0; i < call.len; i++) {
        if (call.data[i] == '{') depth++;
        else if (call.data[i] == '}' && depth) depth--;
        else if (call.data[i] == '(' && depth == 0) return str_head(call, i);
    }
    return call;
}

// #0 /srv/orders.php(36): Orders->main() · #1 [internal function]: array_map() · #2 {main}
static bool read_php_frame(struct scan *s, struct str line) {
    struct str rest = str_from(line, 1), file;
    size_t digits = digits_length(rest);
    rest = str_from(rest, digits);
    if (digits == 0 || !cut_prefix(&rest, " ")) return false;
    if (str_is(rest, "{main}")) return true;
    if (cut_prefix(&rest, "[internal function]: ")) {
        file = str_head(rest, 0);
    } else {
        if (!cut_at(&rest, "): ", &file) || !cut_number(&file, "(")) return false;
        struct str inner = file, script; // orders.php(12) : eval()'d code
        if (cut_at(&inner, "(", &script) && digits_length(inner)) file = script;
    }
    add(s, true, (struct frame){LANGUAGE_PHP, file, php_function(rest)});
    return true;
}

// … in /srv/orders.php:36 · … in /srv/orders.php on line 36: the place that threw, in front of the frames
static bool read_php_place(struct scan *s, struct str line) {
    struct str place = line, before;
    if (!cut_number(&place, ":") && !cut_number(&place, " on line ")) return false;
    if (!ends_with(place, ".php") || str_starts(line, "thrown in ")) return false;
    if (!cut_at(&place, " in ", &before)) return false;
    for (struct str more = place; cut_at(&more, " in ", &before);) place = more;
    if (str_starts(line, "Next ") && s->language == LANGUAGE_PHP) {
        hide(s, 0);
        return true;
    }
    begin(s, LANGUAGE_PHP);
    s->in_block = true;
    add(s, true, (struct frame){LANGUAGE_PHP, place, str_head(place, 0)});
    return true;
}

static bool read_php(struct scan *s, struct str line) {
    if (line.data[0] == '#') return read_php_frame(s, line);
    if (s->language == LANGUAGE_PHP && str_is(line, "Stack trace:")) return true;
    return is_digit((unsigned char)line.data[line.len - 1]) && read_php_place(s, line);
}

// main.(*Orders).handle(0xc000012345, 0x3)
//         /app/orders.go:36 +0x1d
static bool read_go_frame(struct scan *s, struct str line) {
    struct str file = line, rest = line, function = s->before;
    if (!is_hex((unsigned char)line.data[line.len - 1])) return false; // spares most lines the search
    if (!cut_at(&rest, ".go:", &file) && !cut_at(&rest, ".s:", &file)) return false;
    file.len = (size_t)(rest.data - file.data) - 1; // with its ending
    size_t digits = digits_length(rest);
    rest = str_from(rest, digits);
    if (digits == 0 || (rest.len && !str_starts(rest, " +0x"))) return false;
    size_t paren = function.len;
    while (paren > 0 && function.data[paren - 1] != '(') paren--;
    if (str_starts(function, "created by ")) return true; // who started it is not on its stack
    if (paren < 2 || !ends_with(function, ")") || function.data[0] == '\t') return false;
    add(s, false, (struct frame){LANGUAGE_GO, file, str_head(function, paren - 1)});
    return true;
}

static bool read_go(struct scan *s, struct str line, size_t indent) {
    if (indent) return read_go_frame(s, line);
    if (str_starts(line, "panic: ") || str_starts(line, "fatal error: ")) s->panicked = true;
    if (!str_starts(line, "goroutine ") || !ends_with(line, "]:")) return false;
    bool first = s->language != LANGUAGE_GO || s->panicked || s->user.count + s->library.count == 0;
    if (first || contains(line, " [running")) begin(s, LANGUAGE_GO);
    else hide(s, 0);
    return true;
}

static void read_line(struct scan *s, struct str line) {
    size_t indent = 0;
    while (line.len && (unsigned char)line.data[line.len - 1] <= ' ') line.len--;
    if (line.len == 0) return;
    struct str text = line;
    while (text.len > 1 && strchr(" \t|+", text.data[0]) && text.data[0]) {
        if (indent + text.len == line.len && (text.data[0] == ' ' || text.data[0] == '\t')) indent++;
        text = str_from(text, 1);
    }
    if (s->hidden && indent < s->hidden_indent) s->hidden = false;
    s->in_block = read_at(s, text, indent) || read_python(s, text, indent) || read_php(s, text) || read_go(s, text, indent);
    s->before = line;
}

// ---- plain text -----------------------------------------------------------------------------------------------------------

static struct str last_line(struct str *text) {
    while (text->len && (unsigned char)text->data[text->len - 1] <= ' ') text->len--;
    size_t n = text->len;
    while (n > 0 && text->data[n - 1] != '\n') n--;
    struct str line = str_from(*text, n);
    text->len = n;
    return line;
}

// Without any frame: the last lines, or the first ones of what the last line that is not indented begins.
static size_t plain_lines(struct str stack, struct frame top[FINGERPRINT_FRAMES]) {
    struct str lines[FINGERPRINT_FRAMES]; // the last read first
    size_t count = 0;
    for (bool begun = false; !begun || count < FINGERPRINT_FRAMES;) {
        struct str line = last_line(&stack);
        if (line.len == 0) break;
        begun = begun || (line.data[0] != ' ' && line.data[0] != '\t');
        if (count == FINGERPRINT_FRAMES) memmove(lines, lines + 1, sizeof lines - sizeof *lines);
        else count++;
        lines[count - 1] = line;
    }
    for (size_t i = 0; i < count; i++) top[i] = (struct frame){LANGUAGE_OTHER, STR_NONE, lines[count - 1 - i]};
    return count;
}

size_t fingerprint_frames(struct str stack, struct frame top[FINGERPRINT_FRAMES]) {
    if (stack.len > FINGERPRINT_BYTES) stack = str_from(stack, stack.len - FINGERPRINT_BYTES); // runtimes keep the end, too
    struct scan s = {.before = STR_LIT("")};
    for (struct str rest = stack; rest.len;) {
        const char *end = memchr(rest.data, '\n', rest.len);
        size_t n = end ? (size_t)(end - rest.data) : rest.len;
        read_line(&s, str_head(rest, n));
        rest = str_from(rest, end ? n + 1 : n);
    }
    const struct top *from = s.user.count ? &s.user : &s.library;
    size_t count = from->count < FINGERPRINT_FRAMES ? from->count : FINGERPRINT_FRAMES;
    for (size_t i = 0; i < count; i++) {
        size_t at = innermost_last(s.language) ? from->count - 1 - i : i;
        top[i] = from->frames[at % FINGERPRINT_FRAMES];
    }
    return count ? count : plain_lines(stack, top);
}
