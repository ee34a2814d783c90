// SPDX-License-Identifier: Apache-2.0
// The URL of the amqp backend: rabbitmq-c reads the part before the question mark, the options after it are ours.
#include <errno.h>

#include "core/queue_amqp_conn.h"

#define CA_FILE "/etc/ssl/certs/ca-certificates.crt"

static int parse_number(const char *key, const char *value, int64_t least, int64_t most, int64_t *ret, struct err *err) {
    char *rest;
    errno = 0;
    long long n = strtoll(value, &rest, 10);
    if (errno || *rest || rest == value || n < least || n > most)
        return err_set(err, ERR_INVALID, "queue URL: %s must be a number from %lld to %lld, not \"%s\"", key,
                       (long long)least, (long long)most, value);
    *ret = n;
    return 0;
}

static int set_option(struct mq_url *url, const char *key, const char *value, struct err *err) {
    if (strcmp(key, "queue_type") == 0) {
        url->classic = strcmp(value, "classic") == 0;
        if (url->classic || strcmp(value, "quorum") == 0) return 0;
        return err_set(err, ERR_INVALID, "queue URL: queue_type must be quorum or classic, not \"%s\"", value);
    }
    if (strcmp(key, "heartbeat") == 0) {
        int64_t seconds;
        int rc = parse_number(key, value, 1, 3600, &seconds, err);
        if (rc == 0) url->heartbeat_s = (int)seconds;
        return rc;
    }
    if (strcmp(key, "max_length") == 0) return parse_number(key, value, 0, INT64_MAX, &url->max_length, err);
    if (strcmp(key, "cacert") == 0) {
        free(url->ca_text);
        url->ca_text = mem_strdup(value);
        return 0;
    }
    return err_set(err, ERR_INVALID, "queue URL: no option \"%s\"; known are queue_type, heartbeat, max_length, cacert", key);
}

static int set_options(struct mq_url *url, char *query, struct err *err) {
    char *rest = NULL;
    for (char *at = strtok_r(query, "&", &rest); at; at = strtok_r(NULL, "&", &rest)) {
        char *value = strchr(at, '=');
        if (!value) return err_set(err, ERR_INVALID, "queue URL: option \"%s\" has no value", at);
        *value++ = '\0';
        int rc = set_option(url, at, value, err);
        if (rc) return rc;
    }
    return 0;
}

int mq_url_parse(const char *text, struct mq_url *ret, struct err *err) {
    struct mq_url url = {.text = mem_strdup(text), .ca_text = mem_strdup(CA_FILE), .heartbeat_s = 10};
    char *query = strchr(url.text, '?');
    if (query) *query++ = '\0';
    int rc = 0;
    amqp_default_connection_info(&url.at);
    if (amqp_parse_url(url.text, &url.at) != AMQP_STATUS_OK) // no text in the message: it may hold a password
        rc = err_set(err, ERR_INVALID, "queue URL: expected amqp://user:password@host:port/vhost");
    else if (query) rc = set_options(&url, query, err);
    if (rc) mq_url_done(&url);
    else *ret = url;
    return rc;
}

void mq_url_done(struct mq_url *url) {
    free(url->text);
    free(url->ca_text);
    *url = (struct mq_url){0};
}
