// SPDX-License-Identifier: Apache-2.0
// GLib tells only which interval a moment is in, so the borders are found by bisection, once, when the table is made. Its own copy of the
// zone is let go then; it keeps none that nobody holds, so the next zone_open after a zone_reload reads the file again.
#include "core/zone.h"

#include <ctype.h>
#include <fcntl.h>
#include <glib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uthash.h>

#include "core/base/text.h"

#define DAY_S 86400
// Two days more than 1970 to 2099 on both sides, for the local times of every zone.
#define FIRST_S (INT64_C(-2) * DAY_S)
#define END_S (INT64_C(4102444800) + 2 * DAY_S)
#define SPANS_MAX 4096

struct shared {
    struct zone zone;
    bool listed; // in zones
    UT_hash_handle hh;
};
static struct shared *zones; // those that zone_open gives again, by name

// --- the zone's file --------------------------------------------------------------------------------------------------

static const char *data_folder(void) {
    const char *dir = getenv("TZDIR");
    return dir && *dir ? dir : "/usr/share/zoneinfo";
}

// The last line of a zone's file is a TZ string of POSIX: the rule that holds past the last transition (RFC 9636). -1: no such file.
#define FOOTER_BYTES 256
#define HEADS_BYTES 88 // of the two in each file
static int read_footer(const char *path, char out[FOOTER_BYTES]) {
    struct stat st;
    char head[5];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return -1;
    bool good = fstat(fd, &st) == 0 && st.st_size > HEADS_BYTES &&
                pread(fd, head, sizeof head, 0) == sizeof head && memcmp(head, "TZif", 4) == 0 && head[4] >= '2';
    off_t from = good && st.st_size >= FOOTER_BYTES ? st.st_size - FOOTER_BYTES + 1 : 0;
    ssize_t n = good ? pread(fd, out, FOOTER_BYTES - 1, from) : 0;
    close(fd);
    if (n < 2 || out[n - 1] != '\n') return -1;
    out[n - 1] = '\0';
    const char *line = memrchr(out, '\n', (size_t)n - 1);
    if (!line) return -1;
    memmove(out, line + 1, strlen(line));
    return 0;
}

// --- the table --------------------------------------------------------------------------------------------------------

static int interval_at(GTimeZone *tz, int64_t unix_s) {
    return g_time_zone_find_interval(tz, G_TIME_TYPE_UNIVERSAL, unix_s);
}

// The first second after t that is in another interval, or END_S. Intervals are numbered in the order of time.
static int64_t next_border(GTimeZone *tz, int64_t t) {
    int here = interval_at(tz, t);
    int64_t low = t, high = t, step = 30 * DAY_S;
    do {
        if (high == END_S) return END_S;
        low = high;
        high = low + step < END_S ? low + step : END_S;
        step *= 2;
    } while (interval_at(tz, high) == here);
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (interval_at(tz, middle) == here) low = middle;
        else high = middle;
    }
    return high;
}

static void add_span(struct zone *z, GTimeZone *tz, int64_t begin) {
    int at = interval_at(tz, begin);
    struct zone_span s = {.begin = begin, .offset = g_time_zone_get_offset(tz, at), .dst = g_time_zone_is_dst(tz, at)};
    if (text_format(s.abbreviation, sizeof s.abbreviation, "%s", g_time_zone_get_abbreviation(tz, at))) s.abbreviation[0] = '\0';
    const struct zone_span *last = z->count ? &z->spans[z->count - 1] : NULL;
    if (last && last->offset == s.offset && strcmp(last->abbreviation, s.abbreviation) == 0) return;
    z->spans[z->count++] = s;
}

static const char *skip_abbreviation(const char *at) {
    if (*at == '<') return at + strcspn(at, ">") + (strchr(at, '>') != NULL);
    while (isalpha((unsigned char)*at)) at++;
    return at;
}

// GLib (2.74) takes a daylight offset that a footer gives as 0 for one that is not given, and so for an hour more than standard time. This is
// the Irish winter, "IST-1GMT0,…". Such spans are told by that hour; they get their offset back, and so the end that was reckoned with it. The
// change before the first of them is the file's, and right, or the rule's: the rule's are all at one time of day.
static void mend_zero_daylight(struct zone *z, const char *footer) {
    const char *name = skip_abbreviation(footer);
    name += strspn(name, "+-:0123456789");
    const char *offset = skip_abbreviation(name);
    struct str daylight = {name, (size_t)(offset - name)};
    size_t zeros = strspn(offset, "+-:0"), first = 0;
    int32_t wrong = 0;
    if (!zeros || offset[zeros] != ',') return;
    for (size_t i = 1; i < z->count; i++) {
        struct zone_span *s = &z->spans[i];
        if (!s->dst || s->offset != s[-1].offset + 3600 || !str_eq(str_of(s->abbreviation), daylight)) continue;
        if (!first) first = i;
        wrong = s->offset;
        s->offset = 0;
        if (i + 1 < z->count) s[1].begin += wrong;
    }
    struct zone_span *s = &z->spans[first];
    if (first && first + 1 < z->count && (s[1].begin - s[-1].begin) % DAY_S) s[-1].begin += wrong;
}

static int fill_table(struct zone *z, const char *path, const char *footer, struct err *err) {
    GTimeZone *tz = g_time_zone_new_identifier(path);
    if (!tz) return err_set(err, ERR_INVALID, "the zone data in %.200s cannot be read", path);
    z->spans = mem_array(SPANS_MAX, sizeof *z->spans);
    for (int64_t t = FIRST_S; t < END_S && z->count < SPANS_MAX; t = next_border(tz, t)) add_span(z, tz, t);
    g_time_zone_unref(tz);
    z->spans[0].begin = INT64_MIN;
    z->spans = mem_realloc(z->spans, z->count * sizeof *z->spans);
    mend_zero_daylight(z, footer);
    return 0;
}

static void fill_utc(struct zone *z) {
    z->spans = mem_array(1, sizeof *z->spans);
    z->spans[0] = (struct zone_span){.begin = INT64_MIN, .abbreviation = "UTC"};
    z->count = 1;
}

// --- names ------------------------------------------------------------------------------------------------------------

static bool is_utc(struct str name) {
    return str_is(name, "UTC") || str_is(name, "Etc/UTC") || str_is(name, "Z");
}

// What may be looked for in the folder of the zone data: nothing that leads out of it.
static bool is_harmless(struct str name) {
    if (name.len > ZONE_NAME_MAX || name.data[0] == '/') return false;
    for (size_t i = 0; i < name.len; i++)
        if (!isalnum((unsigned char)name.data[i]) && (!name.data[i] || !strchr("/_+-", name.data[i]))) return false;
    return true;
}

static int check_name(struct str name, struct err *err) {
    int shown = (int)(name.len < 80 ? name.len : 80);
    if (name.len == 0) return err_set(err, ERR_INVALID, "a time zone is needed, such as Europe/Berlin or UTC");
    if (memchr(name.data, ',', name.len))
        return err_set(err, ERR_INVALID, "\"%.*s\" is a rule, not a time zone: give a name such as America/New_York", shown, name.data);
    if (!is_harmless(name)) return err_set(err, ERR_INVALID, "\"%.*s\" is no time zone: they are called as Europe/Berlin is", shown, name.data);
    if (str_starts(name, "right/"))
        return err_set(err, ERR_INVALID, "%.*s counts leap seconds, which times here do not: leave right/ away", STR_ARG(name));
    return 0;
}

// The most similar of the names that tzdata.zi has, "" when there is none: its lines are "Z name …" and "L target name".
static void find_similar(const char *name, char out[ZONE_NAME_MAX + 1]) {
    cleanup_free char *path = mem_printf("%s/tzdata.zi", data_folder());
    cleanup_file FILE *list = fopen(path, "re");
    char line[512], known[ZONE_NAME_MAX + 1];
    size_t rank, least = SIZE_MAX;
    out[0] = '\0';
    while (list && fgets(line, sizeof line, list)) {
        if (sscanf(line, "Z %64s", known) != 1 && sscanf(line, "L %*s %64s", known) != 1) continue;
        if (!text_is_similar(name, known, &rank) || rank >= least) continue;
        least = rank;
        memcpy(out, known, sizeof known);
    }
}

static int refuse_unknown(const char *name, struct err *err) {
    char similar[ZONE_NAME_MAX + 1];
    if (access(data_folder(), R_OK))
        return err_set(err, ERR_INVALID, "there is no time zone %s but UTC: no zone data in %.200s (Debian: apt install tzdata)", name,
                       data_folder());
    find_similar(name, similar);
    if (similar[0]) return err_set(err, ERR_INVALID, "there is no time zone %s; did you mean %s?", name, similar);
    return err_set(err, ERR_INVALID, "there is no time zone %s", name);
}

// --- sharing ----------------------------------------------------------------------------------------------------------

static void zone_free(struct zone *z) {
    free(z->name);
    free(z->spans);
    free(container_of(z, struct shared, zone));
}

static int fill(struct zone *z, struct err *err) {
    if (is_utc(str_of(z->name))) {
        fill_utc(z);
        return 0;
    }
    cleanup_free char *path = mem_printf("%s/%s", data_folder(), z->name);
    char footer[FOOTER_BYTES];
    return read_footer(path, footer) ? refuse_unknown(z->name, err) : fill_table(z, path, footer, err);
}

int zone_open(struct str name, struct zone **ret, struct err *err) {
    struct shared *s;
    if (check_name(name, err)) return ERR_INVALID;
    HASH_FIND(hh, zones, name.data, name.len, s);
    if (!s) {
        s = mem_zalloc(sizeof *s);
        s->zone.name = mem_strndup(name);
        int rc = fill(&s->zone, err);
        if (rc) {
            zone_free(&s->zone);
            return rc;
        }
        s->listed = true;
        HASH_ADD_KEYPTR(hh, zones, s->zone.name, name.len, s);
    }
    *ret = zone_ref(&s->zone);
    return 0;
}

struct zone *zone_ref(struct zone *z) {
    z->users++;
    return z;
}

void zone_close(struct zone *z) {
    if (!z || --z->users) return;
    struct shared *s = container_of(z, struct shared, zone);
    if (s->listed) HASH_DEL(zones, s);
    zone_free(z);
}

void zone_reload(void) {
    struct shared *s, *next;
    HASH_ITER(hh, zones, s, next) {
        HASH_DEL(zones, s);
        s->listed = false;
    }
}

// --- looking ----------------------------------------------------------------------------------------------------------

size_t zone_span_at(const struct zone *z, int64_t unix_s) {
    size_t low = 0, high = z->count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (z->spans[middle].begin <= unix_s) low = middle;
        else high = middle;
    }
    return low;
}

int64_t zone_unix_of(const struct zone *z, const struct civil *local) {
    int64_t seconds = civil_seconds(local);
    // Offsets are below a day, so that the span of the day before does not come after what is sought.
    for (size_t i = zone_span_at(z, seconds - DAY_S);; i++) {
        int64_t t = seconds - z->spans[i].offset;
        if (i + 1 == z->count || t < z->spans[i + 1].begin) return t > z->spans[i].begin ? t : z->spans[i].begin;
    }
}

void zone_format(const struct zone *z, int64_t unix_s, char out[ZONE_TEXT_BYTES]) {
    out[0] = '\0';
    if (unix_s < INT64_C(-62167132800) || unix_s >= INT64_C(253402214400)) return; // a day within the years 0 and 9999
    // Before 1972 some offsets have seconds, which RFC 3339 cannot say: the same moment is told with a whole minute.
    int32_t minutes = z->spans[zone_span_at(z, unix_s)].offset / 60, size = minutes < 0 ? -minutes : minutes;
    struct civil c = civil_of(unix_s + minutes * 60);
    int rc = text_format(out, ZONE_TEXT_BYTES, "%04d-%02d-%02dT%02d:%02d:%02d%c%02d:%02d", c.year, c.month, c.day, c.hour, c.minute, c.second,
                         minutes < 0 ? '-' : '+', size / 60, size % 60);
    MUST(rc == 0);
}

// --- the calendar -----------------------------------------------------------------------------------------------------

// Years are counted from March here, so that the leap day is the last of its year; months of 31 and 30 days then take turns such that the n-th
// begins on day (153 n + 2) / 5.
#define DAYS_TO_1970 719468 // from 0000-03-01
#define DAYS_OF_4 1461
#define DAYS_OF_100 36524
#define DAYS_OF_400 146097

static int64_t floor_div(int64_t a, int64_t b) {
    return a / b - (a % b < 0);
}

static int64_t at_most(int64_t n, int64_t most) {
    return n < most ? n : most;
}

int64_t civil_seconds(const struct civil *c) {
    int64_t year = c->year - (c->month < 3), month = (c->month + 9) % 12;
    int64_t days = 365 * year + floor_div(year, 4) - floor_div(year, 100) + floor_div(year, 400) + (153 * month + 2) / 5 + c->day - 1 - DAYS_TO_1970;
    return days * DAY_S + c->hour * 3600 + c->minute * 60 + c->second;
}

struct civil civil_of(int64_t seconds) {
    int64_t days = floor_div(seconds, DAY_S), second = seconds - days * DAY_S;
    days += DAYS_TO_1970;
    int64_t year = floor_div(days, DAYS_OF_400) * 400, day = days - floor_div(days, DAYS_OF_400) * DAYS_OF_400;
    int64_t centuries = at_most(day / DAYS_OF_100, 3);
    day -= centuries * DAYS_OF_100;
    int64_t fours = day / DAYS_OF_4;
    day -= fours * DAYS_OF_4;
    int64_t years = at_most(day / 365, 3);
    day -= years * 365;
    int64_t month = (5 * day + 2) / 153;
    year += centuries * 100 + fours * 4 + years + (month >= 10);
    return (struct civil){.year = (int)year,
                          .month = (int)(month < 10 ? month + 3 : month - 9),
                          .day = (int)(day - (153 * month + 2) / 5 + 1),
                          .hour = (int)(second / 3600),
                          .minute = (int)(second / 60 % 60),
                          .second = (int)(second % 60)};
}

int civil_weekday(int64_t seconds) {
    int64_t days = floor_div(seconds, DAY_S) + 4; // 1970-01-01 was a Thursday
    return (int)(days - floor_div(days, 7) * 7);
}

int civil_days_of_month(int year, int month) {
    if (month == 2) return year % 4 == 0 && (year % 100 || year % 400 == 0) ? 29 : 28;
    return month == 4 || month == 6 || month == 9 || month == 11 ? 30 : 31;
}
