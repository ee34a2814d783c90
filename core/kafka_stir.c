// SPDX-License-Identifier: Apache-2.0
// A fetcher of librdkafka before 2.2 whose queue was full sleeps for up to a second and does not see that there is room again
// (later ones have fetch.queue.backoff.ms): 93,000 records/s came where 300,000 were asked for. Any request to its broker wakes it.
// So while records flow and few wait, each broker of ours is asked for an offset every STIR_MS, and nobody waits for the answer.
#include "core/kafka_source.h"

#define STIR_MS 10 // KAFKA_QUEUED_RECORDS in this time is the most that can flow
#define STIR_PARTITIONS 16
#define FETCHERS_WAKE 0x02020000 // the version of librdkafka that needs none of this

void kafka_stir_soon(struct kafka_source *s) {
    if (s->stirring || rd_kafka_version() >= FETCHERS_WAKE) return;
    s->stirring = true;
    timer_start(s->stir, STIR_MS);
}

void kafka_on_stir(void *arg) {
    struct kafka_source *s = arg;
    s->stirring = false;
    if (!s->client || s->part_room == 0) return;
    if (rd_kafka_queue_length(s->client->records) > KAFKA_QUEUED_RECORDS / 2) {
        kafka_stir_soon(s);
        return;
    }
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(STIR_PARTITIONS);
    for (uint32_t n = 0; n < s->part_room && list->cnt < STIR_PARTITIONS; n++) {
        s->stir_at = (s->stir_at + 1) % s->part_room;
        if (!s->parts[s->stir_at]) continue;
        rd_kafka_topic_partition_list_add(list, s->conf.topic, (int32_t)s->stir_at)->offset = RD_KAFKA_OFFSET_END;
    }
    if (list->cnt) (void)rd_kafka_offsets_for_times(s->client->rk, list, 0);
    rd_kafka_topic_partition_list_destroy(list);
}
