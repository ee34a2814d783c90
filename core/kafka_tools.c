// SPDX-License-Identifier: Apache-2.0
// What is asked of a broker now and then: is a trigger's topic there (kafka_check), and where does its group go on (kafka_seek).
//
// Each runs on a thread (core/offload) with a client of its own, which joins no group, and is let go of afterwards. What brokers
// say while they refuse a client (TLS, SASL, a name that does not resolve) comes only as errors of the client's main queue; the
// one that says most is kept for the answer.
// A group's offsets are set by a commit of somebody who is no member: the coordinator takes it from a group that has none, and
// says UNKNOWN_MEMBER_ID or REBALANCE_IN_PROGRESS otherwise.
#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <time.h>

#include "core/base/clock.h"
#include "core/base/text.h"
#include "core/kafka_impl.h"
#include "core/offload.h"

#define ASK_MS 8000        // for an answer of any kind
#define AGAIN_MS 250       // between two looks at a group that has members
#define SIMILAR_MAX 5
#define CHECK_GROUP "weir-check" // of a client that joins none

struct work {
    struct loop *loop;
    struct kafka_config config;
    char *to; // of kafka_seek; NULL: kafka_check
    int64_t wait_ms;
    kafka_done_fn *fn;
    void *arg;
    bool refused;
    // The thread's:
    rd_kafka_t *client;
    struct err err, trouble;
    int trouble_rank;
    bool all_down;
};

// --- what brokers say -----------------------------------------------------------------------------------------------

// A rejected login tells more than "all brokers are down", which follows it.
static int rank_of(rd_kafka_resp_err_t e) {
    switch (e) {
    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
    case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED: return 4;
    case RD_KAFKA_RESP_ERR__SSL: return 3;
    case RD_KAFKA_RESP_ERR__RESOLVE: return 3;
    case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN: return 1;
    default: return 2;
    }
}

// What to look at, where librdkafka tells only what OpenSSL says.
static const char *advice_on(const char *reason) {
    static const struct {
        const char *said, *advice;
    } known[] = {
        {"certificate verify failed", "the broker's certificate is signed by no authority of kafka.ssl.ca.location, is for another host, or has "
                                      "expired: "},
        {"alert bad certificate", "the broker wants a certificate: kafka.ssl.certificate.location and kafka.ssl.key.location: "},
        {"certificate required", "the broker wants a certificate: kafka.ssl.certificate.location and kafka.ssl.key.location: "},
        {"unexpected eof", "no TLS there; is the port one without (kafka.security.protocol)? "},
        {"wrong version number", "no TLS there; is the port one without (kafka.security.protocol)? "},
    };
    for (size_t i = 0; i < array_len(known); i++)
        if (strstr(reason, known[i].said)) return known[i].advice;
    return "";
}

static void on_error(rd_kafka_t *client, int e, const char *reason, void *opaque) {
    (void)client;
    struct work *w = opaque;
    const char *advice = advice_on(reason);
    int rank = *advice ? 3 : rank_of((rd_kafka_resp_err_t)e);
    w->all_down = w->all_down || e == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN;
    if (rank <= w->trouble_rank) return;
    w->trouble_rank = rank;
    err_set(&w->trouble, rank == 4 ? ERR_DENIED : ERR_UNAVAILABLE, "%s%s: %s", advice, rd_kafka_err2str((rd_kafka_resp_err_t)e), reason);
}

static void on_log(const rd_kafka_t *client, int level, const char *facility, const char *text) {
    (void)client, (void)level, (void)facility, (void)text;
}

static bool is_denial(rd_kafka_resp_err_t e) {
    return e == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED || e == RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED ||
           e == RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED || e == RD_KAFKA_RESP_ERR__AUTHENTICATION ||
           e == RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED;
}

static int fail(struct work *w, rd_kafka_resp_err_t e, const char *what) {
    while (rd_kafka_poll(w->client, 0) > 0) {
        // on_error hears what came meanwhile
    }
    if (is_denial(e)) return err_set(&w->err, ERR_DENIED, "Kafka does not allow it to %s: %s", what, rd_kafka_err2str(e));
    if (w->trouble_rank)
        return err_set(&w->err, w->trouble.code, "cannot %s from Kafka at %.100s: %.300s", what, w->config.brokers, w->trouble.text);
    return err_set(&w->err, ERR_UNAVAILABLE, "cannot %s from Kafka at %.100s: %s", what, w->config.brokers, rd_kafka_err2str(e));
}

// --- the client -----------------------------------------------------------------------------------------------------

static int open_client(struct work *w) {
    struct kafka_config c = w->config;
    c.member = NULL; // a commit in the name of a static member would be a member's
    if (!c.group) c.group = CHECK_GROUP;
    rd_kafka_conf_t *conf = kafka_conf_make(&c, true, &w->err);
    if (!conf) return w->err.code;
    char why[300] = "";
    rd_kafka_conf_set_opaque(conf, w);
    rd_kafka_conf_set_error_cb(conf, on_error);
    rd_kafka_conf_set_log_cb(conf, on_log); // the answer tells it
    w->client = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof why);
    if (w->client) return 0;
    rd_kafka_conf_destroy(conf);
    return err_set(&w->err, ERR_INVALID, "the kafka.* settings do not go together: %s", why);
}

// One topic's, or NULL of all. Asks in short steps, so that a refused login or connection is told before
// the time is over.
static int get_metadata(struct work *w, rd_kafka_topic_t *topic, const struct rd_kafka_metadata **ret) {
    int64_t until_ns = clock_mono_ns() + ASK_MS * NS_PER_MS;
    rd_kafka_resp_err_t e;
    do {
        e = rd_kafka_metadata(w->client, topic == NULL, topic, ret, 1000);
        if (e == RD_KAFKA_RESP_ERR_NO_ERROR) return 0;
        while (rd_kafka_poll(w->client, 0) > 0) {
            // on_error
        }
    } while (clock_mono_ns() < until_ns && w->trouble_rank < 3 && !w->all_down);
    return fail(w, e, "get metadata");
}

// --- is the topic there ---------------------------------------------------------------------------------------------

struct similar {
    const char *name;
    size_t rank;
};

static void keep_similar(struct similar *list, size_t *count, const char *name, size_t rank) {
    size_t at = *count;
    while (at && list[at - 1].rank > rank) at--;
    if (at == SIMILAR_MAX) return;
    if (*count < SIMILAR_MAX) ++*count;
    memmove(list + at + 1, list + at, (*count - at - 1) * sizeof *list);
    list[at] = (struct similar){name, rank};
}

static int tell_missing(struct work *w) {
    struct similar list[SIMILAR_MAX];
    size_t count = 0, rank;
    const struct rd_kafka_metadata *all = NULL;
    struct buf names;
    buf_init(&names, 320);
    if (get_metadata(w, NULL, &all)) all = NULL; // then without suggestions
    for (int i = 0; all && i < all->topic_cnt; i++)
        if (strncmp(all->topics[i].topic, "__", 2) != 0 && text_is_similar(w->config.topic, all->topics[i].topic, &rank))
            keep_similar(list, &count, all->topics[i].topic, rank);
    for (size_t i = 0; i < count; i++)
        if (buf_printf(&names, "%s%s", i ? ", " : "; similar ones are: ", list[i].name)) break;
    err_set(&w->err, ERR_NOT_FOUND, "Kafka has no topic '%.100s'%.*s", w->config.topic, STR_ARG(buf_str(&names)));
    buf_done(&names);
    if (all) rd_kafka_metadata_destroy(all);
    return w->err.code;
}

static int judge_topic(struct work *w, const struct rd_kafka_metadata *m, int *ret_partitions) {
    if (m->topic_cnt != 1) return tell_missing(w);
    const struct rd_kafka_metadata_topic *topic = &m->topics[0];
    switch (topic->err) {
    case RD_KAFKA_RESP_ERR_NO_ERROR: break;
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION: return tell_missing(w);
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
        return err_set(&w->err, ERR_DENIED, "Kafka does not allow this user to read topic '%.100s'", w->config.topic);
    default: return fail(w, topic->err, "get metadata");
    }
    if (topic->partition_cnt == 0) return tell_missing(w);
    if (ret_partitions) *ret_partitions = topic->partition_cnt;
    return 0;
}

static int look_at_topic(struct work *w, int *ret_partitions) {
    rd_kafka_topic_t *topic = rd_kafka_topic_new(w->client, w->config.topic, NULL);
    if (!topic) return fail(w, rd_kafka_last_error(), "use the topic");
    const struct rd_kafka_metadata *m = NULL;
    int rc = get_metadata(w, topic, &m);
    if (rc == 0) rc = judge_topic(w, m, ret_partitions);
    if (m) rd_kafka_metadata_destroy(m);
    rd_kafka_topic_destroy(topic);
    return rc;
}

// --- where to -------------------------------------------------------------------------------------------------------

static int get_range(struct work *w, int32_t partition, int64_t *ret_first, int64_t *ret_end) {
    rd_kafka_resp_err_t e = rd_kafka_query_watermark_offsets(w->client, w->config.topic, partition, ret_first, ret_end, ASK_MS);
    return e ? fail(w, e, "get the offsets") : 0;
}

static int to_edges(struct work *w, rd_kafka_topic_partition_list_t *list, bool end) {
    int rc = 0;
    for (int i = 0; i < list->cnt && rc == 0; i++) {
        int64_t first, last;
        rc = get_range(w, list->elems[i].partition, &first, &last);
        if (rc == 0) list->elems[i].offset = end ? last : first;
    }
    return rc;
}

static int to_time(struct work *w, rd_kafka_topic_partition_list_t *list, const char *text) {
    char *end;
    int64_t ms = strtoll(text, &end, 10);
    if (end == text || *end || ms < 0) return err_set(&w->err, ERR_INVALID, "'%.60s' is no time in Unix milliseconds", text);
    for (int i = 0; i < list->cnt; i++) list->elems[i].offset = ms;
    rd_kafka_resp_err_t e = rd_kafka_offsets_for_times(w->client, list, ASK_MS);
    int rc = e ? fail(w, e, "find the time") : 0;
    for (int i = 0; i < list->cnt && rc == 0; i++) {
        rd_kafka_topic_partition_t *p = &list->elems[i];
        int64_t first, last;
        if (p->err) rc = fail(w, p->err, "find the time");
        else if (p->offset < 0 && (rc = get_range(w, p->partition, &first, &last)) == 0) p->offset = last; // no record so late
    }
    return rc;
}

static int take_offset(struct work *w, rd_kafka_topic_partition_list_t *list, const char **at) {
    char *end;
    const char *text = *at;
    long long partition = strtoll(text, &end, 10), offset = 0;
    bool good = end > text && *end == '=' && *text != '-';
    if (good) {
        text = end + 1;
        offset = strtoll(text, &end, 10);
        good = end > text && (*end == ',' || *end == '\0') && *text != '-';
    }
    if (!good) return err_set(&w->err, ERR_INVALID, "offset:%.60s is not PARTITION=OFFSET[,PARTITION=OFFSET…]", *at);
    *at = *end ? end + 1 : NULL;
    if (partition > INT32_MAX || rd_kafka_topic_partition_list_find(list, w->config.topic, (int32_t)partition))
        return err_set(&w->err, ERR_INVALID, "partition %lld is named twice, or is none", partition);
    rd_kafka_topic_partition_list_add(list, w->config.topic, (int32_t)partition)->offset = offset;
    return 0;
}

static int check_offset(struct work *w, const rd_kafka_topic_partition_t *p, int partitions) {
    int64_t first, end;
    if (p->partition >= partitions)
        return err_set(&w->err, ERR_INVALID, "topic '%.100s' has no partition %" PRId32 ": it has 0 to %d", w->config.topic, p->partition,
                       partitions - 1);
    int rc = get_range(w, p->partition, &first, &end);
    if (rc || (p->offset >= first && p->offset <= end)) return rc;
    return err_set(&w->err, ERR_INVALID,
                   "partition %" PRId32 " of topic '%.100s' has the offsets %" PRId64 " to %" PRId64 "; %" PRId64 " is outside", p->partition,
                   w->config.topic, first, end, p->offset);
}

// Only the partitions that are named: the others stay where they are.
static int to_offsets(struct work *w, rd_kafka_topic_partition_list_t *list, const char *text, int partitions) {
    while (list->cnt) rd_kafka_topic_partition_list_del_by_idx(list, list->cnt - 1);
    int rc = 0;
    while (text && rc == 0) rc = take_offset(w, list, &text);
    for (int i = 0; i < list->cnt && rc == 0; i++) rc = check_offset(w, &list->elems[i], partitions);
    return rc;
}

static int resolve(struct work *w, rd_kafka_topic_partition_list_t *list, int partitions) {
    const char *to = w->to;
    if (strcmp(to, "earliest") == 0 || strcmp(to, "latest") == 0) return to_edges(w, list, to[0] == 'l');
    if (strncmp(to, "time:", 5) == 0) return to_time(w, list, to + 5);
    if (strncmp(to, "offset:", 7) == 0) return to_offsets(w, list, to + 7, partitions);
    return err_set(&w->err, ERR_INVALID, "'%.60s' is no place to go to: earliest, latest, a time, or offset:PARTITION=OFFSET", to);
}

// --- setting --------------------------------------------------------------------------------------------------------

static bool has_members(rd_kafka_resp_err_t e) {
    return e == RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID || e == RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION ||
           e == RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS || e == RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID;
}

static bool is_passing(rd_kafka_resp_err_t e) {
    return e == RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS || e == RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE ||
           e == RD_KAFKA_RESP_ERR_NOT_COORDINATOR || e == RD_KAFKA_RESP_ERR__WAIT_COORD;
}

static rd_kafka_resp_err_t commit_once(struct work *w, rd_kafka_topic_partition_list_t *list) {
    rd_kafka_resp_err_t e = rd_kafka_commit(w->client, list, 0);
    for (int i = 0; i < list->cnt && !e; i++) e = list->elems[i].err;
    for (int i = 0; i < list->cnt; i++) list->elems[i].err = RD_KAFKA_RESP_ERR_NO_ERROR;
    return e;
}

static void pause_ms(int64_t ms) {
    const struct timespec t = {.tv_nsec = ms * NS_PER_MS};
    nanosleep(&t, NULL); // a thread of our own, which waits for others to leave
}

static int set_offsets(struct work *w, rd_kafka_topic_partition_list_t *list) {
    int64_t now = clock_mono_ns(), members_until = now + w->wait_ms * NS_PER_MS, passing_until = now + ASK_MS * NS_PER_MS;
    for (;;) {
        rd_kafka_resp_err_t e = commit_once(w, list);
        if (!e) return 0;
        now = clock_mono_ns();
        if (has_members(e) && now >= members_until)
            return err_set(&w->err, ERR_CONFLICT,
                           "group '%.100s' still has members, whose offsets cannot be set: stop its other consumers, then seek again",
                           w->config.group);
        if (!has_members(e) && (!is_passing(e) || now >= passing_until)) return fail(w, e, "set the offsets of the group");
        pause_ms(AGAIN_MS);
    }
}

static int seek(struct work *w) {
    int partitions = 0;
    int rc = look_at_topic(w, &partitions);
    if (rc) return rc;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(partitions);
    for (int i = 0; i < partitions; i++) rd_kafka_topic_partition_list_add(list, w->config.topic, i);
    rc = resolve(w, list, partitions);
    if (rc == 0) rc = set_offsets(w, list);
    rd_kafka_topic_partition_list_destroy(list);
    return rc;
}

// --- the thread -----------------------------------------------------------------------------------------------------

static void do_work(void *arg) {
    struct work *w = arg;
    if (w->refused || open_client(w)) return;
    if (w->to) (void)seek(w);
    else (void)look_at_topic(w, NULL);
    rd_kafka_destroy_flags(w->client, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE); // it is no member
}

static void tell(void *arg) {
    struct work *w = arg;
    w->fn(w->arg, w->err.code, w->err.code ? &w->err : NULL);
    kafka_config_done(&w->config);
    free(w->to);
    free(w);
}

static void start(struct loop *loop, const struct kafka_config *c, const char *to, int64_t wait_ms, kafka_done_fn *fn, void *arg) {
    struct work *w = mem_zalloc(sizeof *w);
    *w = (struct work){.loop = loop, .to = mem_strdup(to), .wait_ms = wait_ms, .fn = fn, .arg = arg};
    kafka_config_copy(&w->config, c);
    w->refused = kafka_config_check(c, &w->err) != 0; // told like any other answer: later
    offload_run(loop, do_work, tell, w);
}

void kafka_check(struct loop *loop, const struct kafka_config *c, kafka_done_fn *fn, void *arg) {
    start(loop, c, NULL, 0, fn, arg);
}

void kafka_seek(struct loop *loop, const struct kafka_config *c, const char *to, int64_t wait_ms, kafka_done_fn *fn, void *arg) {
    start(loop, c, to, wait_ms, fn, arg);
}
