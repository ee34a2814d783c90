// SPDX-License-Identifier: Apache-2.0
// How far behind a Kafka source is: for all partitions of its topic, those of other members too.
//
// On a thread: which partitions there are, the committed offsets and ends; on the loop: what this member holds.
#include "core/kafka_source.h"
#include "core/offload.h"

#define ASK_MS 5000

struct lag_work {
    struct kafka_client *client; // NULL: the source is not consumed from
    rd_kafka_conf_t *conf;       // then of a client for this question only
    rd_kafka_t *rk;
    char *topic;
    rd_kafka_topic_partition_list_t *committed, *ends;
    rd_kafka_resp_err_t code;
    source_lag_fn *fn;
    void *arg;
};

static rd_kafka_resp_err_t ask_partitions(struct lag_work *w) {
    rd_kafka_topic_t *topic = rd_kafka_topic_new(w->rk, w->topic, NULL);
    if (!topic) return rd_kafka_last_error();
    const struct rd_kafka_metadata *md = NULL;
    rd_kafka_resp_err_t code = rd_kafka_metadata(w->rk, 0, topic, &md, ASK_MS);
    if (!code && md->topic_cnt == 1) {
        code = md->topics[0].err;
        for (int i = 0; i < md->topics[0].partition_cnt && !code; i++)
            rd_kafka_topic_partition_list_add(w->committed, w->topic, md->topics[0].partitions[i].id);
    }
    if (md) rd_kafka_metadata_destroy(md);
    rd_kafka_topic_destroy(topic);
    return code;
}

static void ask(struct lag_work *w) {
    w->code = ask_partitions(w);
    if (w->code || w->committed->cnt == 0) return;
    rd_kafka_topic_partition_list_sort(w->committed, NULL, NULL);
    for (int i = 0; i < w->committed->cnt; i++)
        rd_kafka_topic_partition_list_add(w->ends, w->topic, w->committed->elems[i].partition)->offset = RD_KAFKA_OFFSET_END;
    w->code = rd_kafka_committed(w->rk, w->committed, ASK_MS);
    if (!w->code) w->code = rd_kafka_offsets_for_times(w->rk, w->ends, ASK_MS);
}

static void work_lag(void *arg) { // on a thread
    struct lag_work *w = arg;
    w->rk = w->client->rk;
    ask(w);
}

// A trigger that rests is behind too.
static void work_alone(void *arg) { // on a thread
    struct lag_work *w = arg;
    char why[300];
    w->rk = w->conf ? rd_kafka_new(RD_KAFKA_CONSUMER, w->conf, why, sizeof why) : NULL;
    if (!w->rk) {
        if (w->conf) rd_kafka_conf_destroy(w->conf);
        w->code = RD_KAFKA_RESP_ERR__INVALID_ARG;
        return;
    }
    ask(w);
    rd_kafka_destroy_flags(w->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
}

static json_t *why_paused(const struct kafka_source *s, const struct kafka_part *p) {
    if (p->revoking) return json_string("revoking");
    if (p->full)
        return json_sprintf("commit metadata is full: %lld records wait for offset %lld",
                            (long long)offsets_finished_beyond(&p->offsets), (long long)offsets_commit_point(&p->offsets));
    if (s->paused) return json_string("paused");
    if (s->in_flight >= s->config.credit) return json_string("credit");
    if (s->in_flight_bytes >= s->config.credit_bytes) return json_string("bytes");
    return json_null();
}

static int64_t cached_end(const struct kafka_source *s, int32_t number) {
    int64_t low, high;
    if (rd_kafka_get_watermark_offsets(s->client->rk, s->conf.topic, number, &low, &high)) return -1;
    return high;
}

// committed and end: -1 unknown.
static json_t *describe(const struct kafka_source *s, int32_t number, int64_t committed, int64_t end) {
    const struct kafka_part *p = s ? kafka_part_of(s, number) : NULL;
    int64_t position = p ? p->offsets.position : committed, beyond = 0;
    if (p && p->committed >= 0) committed = p->committed;
    if (p && end < 0) end = cached_end(s, number);
    if (p) beyond = offsets_finished_beyond(&p->offsets) + offsets_commit_point(&p->offsets) - (committed < 0 ? 0 : committed);
    int64_t lag = end < 0 ? -1 : end - (committed < 0 ? 0 : committed) - beyond;
    return json_pack("{s:i, s:b, s:I, s:I, s:I, s:I, s:I, s:o}", "partition", (int)number, "assigned", p ? 1 : 0, "committed",
                     (json_int_t)committed, "position", (json_int_t)(position < 0 ? -1 : position), "end", (json_int_t)end, "lag",
                     (json_int_t)(end >= 0 && lag < 0 ? 0 : lag), "inFlight",
                     (json_int_t)(p ? p->offsets.count - p->offsets.released : 0), "paused", p ? why_paused(s, p) : json_null());
}

static void add_known(json_t *partitions, const struct kafka_source *s) {
    for (uint32_t i = 0; i < s->part_room; i++)
        if (s->parts[i]) json_array_append_new(partitions, describe(s, (int32_t)i, -1, -1));
}

static void add_asked(json_t *partitions, const struct kafka_source *s, const struct lag_work *w) {
    for (int i = 0; i < w->committed->cnt; i++) {
        const rd_kafka_topic_partition_t *c = &w->committed->elems[i], *e = &w->ends->elems[i];
        int64_t end = e->err || e->offset < 0 ? -1 : e->offset;
        json_array_append_new(partitions, describe(s, c->partition, c->err || c->offset < 0 ? -1 : c->offset, end));
    }
}

static void answer(const struct kafka_source *s, const struct lag_work *w) {
    static const struct err none = {0};
    json_t *partitions = json_array();
    const char *error = w->code ? rd_kafka_err2str(w->code) : s && s->error[0] ? s->error : NULL;
    if (w->code == RD_KAFKA_RESP_ERR_NO_ERROR && w->committed) add_asked(partitions, s, w);
    else if (s) add_known(partitions, s);
    json_t *result = json_pack("{s:b, s:s?, s:o}", "up", (!s || s->up) && !w->code ? 1 : 0, "error", error, "partitions", partitions);
    w->fn(w->arg, ERR_OK, &none, result);
}

static void on_asked(void *arg) {
    struct lag_work *w = arg;
    answer(w->client ? w->client->source : NULL, w);
    if (w->committed) rd_kafka_topic_partition_list_destroy(w->committed);
    if (w->ends) rd_kafka_topic_partition_list_destroy(w->ends);
    if (w->client) kafka_client_unref(w->client);
    free(w->topic);
    free(w);
}

void kafka_lag(struct source *base, source_lag_fn *fn, void *arg) {
    struct kafka_source *s = container_of(base, struct kafka_source, base);
    struct lag_work *w = mem_zalloc(sizeof *w);
    *w = (struct lag_work){.client = s->client, .topic = mem_strdup(s->conf.topic), .fn = fn, .arg = arg};
    w->committed = rd_kafka_topic_partition_list_new(8);
    w->ends = rd_kafka_topic_partition_list_new(8);
    if (s->client) {
        kafka_client_ref(s->client);
        offload_run(s->loop, work_lag, on_asked, w);
    } else {
        struct err err;
        w->conf = kafka_conf_make(&s->conf, true, &err); // NULL: a file that it names has gone since the trigger was added
        offload_run(s->loop, work_alone, on_asked, w);
    }
}
