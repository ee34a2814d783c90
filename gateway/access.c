// SPDX-License-Identifier: Apache-2.0
#include "gateway/access.h"

#include <ctype.h>
#include <strings.h>

#include "core/base/text.h"
#include "core/digest.h"

#define UNVERIFIED " (unverified)"

struct token {
    struct str name, secret;
};

struct access {
    size_t count;
    struct token tokens[];
};

static struct str until(struct str s, char stop) {
    const char *end = s.len ? memchr(s.data, stop, s.len) : NULL;
    return (struct str){s.data, end ? (size_t)(end - s.data) : s.len};
}

// Names that mean somebody else in the audit.
static bool is_taken(struct str name) {
    return str_is(name, AUDIT_SELF) || str_is(name, "anonymous") || str_is(name, "token");
}

static bool is_name(struct str s) {
    for (size_t i = 0; i < s.len; i++)
        if (!isalnum((unsigned char)s.data[i]) && !strchr("._-@", s.data[i])) return false;
    return s.len > 0 && s.len <= AUDIT_WHO_MAX;
}

static int read_token(struct str one, size_t number, struct token *ret, struct err *err) {
    struct str name = until(one, ':');
    if (name.len >= one.len || name.len + 1 == one.len)
        return err_set(err, ERR_INVALID, "tokens: the entry %zu is not NAME:SECRET", number);
    if (!is_name(name))
        return err_set(err, ERR_INVALID, "tokens: the name of entry %zu is not 1 to %d letters, digits and . _ - @", number, AUDIT_WHO_MAX);
    if (is_taken(name)) return err_set(err, ERR_INVALID, "tokens: '%.*s' means somebody else in the audit; give another name", STR_ARG(name));
    *ret = (struct token){name, {one.data + name.len + 1, one.len - name.len - 1}};
    return 0;
}

int access_new(const struct options *o, struct access **ret, struct err *err) {
    struct str one = str_of(o->token.text), list = str_of(o->tokens.text);
    size_t room = 2;
    for (size_t i = 0; i < list.len; i++) room += list.data[i] == ',';
    if (room > ACCESS_TOKENS_MAX) return err_set(err, ERR_INVALID, "more than %d tokens", ACCESS_TOKENS_MAX);
    struct access *a = mem_zalloc(sizeof *a + room * sizeof a->tokens[0]);
    if (one.len) a->tokens[a->count++] = (struct token){STR_LIT("token"), one};
    bool more = list.len > 0;
    for (size_t number = 1; more; number++) {
        struct str entry = until(list, ',');
        int rc = read_token(entry, number, &a->tokens[a->count++], err);
        if (rc) {
            access_free(a);
            return rc;
        }
        more = entry.len < list.len;
        if (more) list = (struct str){list.data + entry.len + 1, list.len - entry.len - 1};
    }
    *ret = a;
    return 0;
}

void access_free(struct access *a) {
    free(a);
}

bool access_is_open(const struct access *a) {
    return a->count == 0;
}

// Nobody vouches for the name, so it cannot look like one that a token has.
static void name_unverified(struct str given, char ret_who[ACCESS_WHO_BYTES]) {
    struct buf who;
    buf_init(&who, AUDIT_WHO_MAX);
    MUST(text_append_clean(&who, given, AUDIT_WHO_MAX - strlen(UNVERIFIED)) == 0);
    struct str clean = buf_str(&who);
    memcpy(ret_who, clean.data, clean.len);
    for (size_t i = 0; i < clean.len; i++)
        if ((unsigned char)ret_who[i] < 0x20 || ret_who[i] == 0x7f) ret_who[i] = '?';
    strcpy(ret_who + clean.len, UNVERIFIED);
    buf_done(&who);
}

static const struct token *find_token(const struct access *a, struct str secret) {
    const struct token *found = NULL;
    for (size_t i = 0; i < a->count; i++) // all of them, so that the time does not tell which
        if (digest_equal_secret(secret, a->tokens[i].secret) && !found) found = &a->tokens[i];
    return found;
}

bool access_check(const struct access *a, const struct http_request *req, char ret_who[ACCESS_WHO_BYTES]) {
    strcpy(ret_who, "anonymous");
    if (access_is_open(a)) {
        struct str user = http_header(req, "x-weir-user");
        if (user.len) name_unverified(user, ret_who);
        return true;
    }
    struct str given = http_header(req, "authorization");
    if (given.len < 7 || strncasecmp(given.data, "Bearer ", 7) != 0) return false;
    const struct token *token = find_token(a, (struct str){given.data + 7, given.len - 7});
    if (!token) return false;
    memcpy(ret_who, token->name.data, token->name.len);
    ret_who[token->name.len] = '\0';
    return true;
}
