// SPDX-License-Identifier: Apache-2.0
// The settings of a Kafka trigger: copies, what is wrong with them, and the configuration of librdkafka that they make.
//
// Every setting is checked without the network: the spelling here, the value of a kafka.* one by librdkafka itself, and at last how
// they fit together (files of certificates, SASL names) by a client that is made without brokers and let go of again.
// weir sets itself what its promises stand on: offsets are committed by weir, after the work; assignment is cooperative; a
// producer waits for every replica. Whoever sets one of these by hand is told why not. Sessions, fetching and security are the
// user's.
#include <ctype.h>
#include <errno.h>
#include <librdkafka/rdkafka.h>
#include <unistd.h>

#include "core/base/log.h"
#include "core/base/text.h"
#include "core/kafka_impl.h"
#include "core/kafka_names.h"

#define NAME_MAX_BYTES 249 // of a topic, as Kafka says; a group and a member get the same room
#define VALUE_SHOWN 60     // bytes of a wrong value in an error

void kafka_config_init(struct kafka_config *c) {
    *c = (struct kafka_config){.from = "latest", .shape = "", .trigger = "", .commit_ms = 1000, .revoke_ms = 30000};
}

void kafka_config_copy(struct kafka_config *to, const struct kafka_config *c) {
    struct kafka_pair *extra = c->extra_count ? mem_array(c->extra_count, sizeof *extra) : NULL;
    for (size_t i = 0; i < c->extra_count; i++)
        extra[i] = (struct kafka_pair){mem_strdup(c->extra[i].name), mem_strdup(c->extra[i].value)};
    *to = *c;
    to->brokers = mem_strdup(c->brokers);
    to->topic = mem_strdup(c->topic);
    to->group = mem_strdup(c->group);
    to->from = mem_strdup(c->from);
    to->member = mem_strdup(c->member);
    to->trigger = mem_strdup(c->trigger);
    to->shape = mem_strdup(c->shape);
    to->extra = extra;
}

static void free_text(const char *const_text) {
    union { // a copy of ours, whose owner shows it to others as read-only
        const void *from;
        void *to;
    } p = {.from = const_text};
    free(p.to);
}

void kafka_config_done(struct kafka_config *c) {
    free_text(c->brokers);
    free_text(c->topic);
    free_text(c->group);
    free_text(c->from);
    free_text(c->member);
    free_text(c->trigger);
    free_text(c->shape);
    for (size_t i = 0; i < c->extra_count; i++) {
        free_text(c->extra[i].name);
        free_text(c->extra[i].value);
    }
    free_text((const char *)c->extra);
    *c = (struct kafka_config){0};
}

// --- plain settings -------------------------------------------------------------------------------------------------

static bool is_name(const char *name) {
    size_t len = strlen(name);
    if (len == 0 || len > NAME_MAX_BYTES || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) return false;
    return strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == len;
}

static int check_name(const char *setting, const char *name, struct err *err) {
    if (!name || !*name) return err_set(err, ERR_INVALID, "%s is missing", setting);
    if (is_name(name)) return 0;
    return err_set(err, ERR_INVALID, "%s: '%.*s' is no name that Kafka takes: 1 to %d letters, digits, dots, _ and -", setting,
                   VALUE_SHOWN, name, NAME_MAX_BYTES);
}

// "host", "host:port", "[v6]:port"
static bool is_broker(struct str s) {
    size_t host = 0;
    if (s.len && s.data[0] == '[') {
        const char *end = memchr(s.data, ']', s.len);
        if (!end) return false;
        host = (size_t)(end - s.data) + 1;
        for (size_t i = 1; i + 1 < host; i++)
            if (!isxdigit((unsigned char)s.data[i]) && !strchr(":.", s.data[i])) return false;
        if (host < 4) return false;
    } else {
        while (host < s.len && (isalnum((unsigned char)s.data[host]) || strchr("._-", s.data[host]))) host++;
    }
    if (host == 0 || host == s.len) return host != 0;
    if (s.data[host] != ':' || s.len - host - 1 == 0 || s.len - host - 1 > 5) return false;
    long port = 0;
    for (size_t i = host + 1; i < s.len; i++) {
        if (!isdigit((unsigned char)s.data[i])) return false;
        port = port * 10 + (s.data[i] - '0');
    }
    return port >= 1 && port <= 65535;
}

static int check_brokers(const char *brokers, struct err *err) {
    if (!brokers || !*brokers) return err_set(err, ERR_INVALID, "brokers is missing: host:port, several separated by commas");
    for (const char *at = brokers; at;) {
        const char *comma = strchr(at, ',');
        struct str one = {at, comma ? (size_t)(comma - at) : strlen(at)};
        if (!is_broker(one))
            return err_set(err, ERR_INVALID, "brokers: '%.*s' is not host:port; several are separated by commas, without spaces",
                           one.len > VALUE_SHOWN ? VALUE_SHOWN : (int)one.len, one.data);
        at = comma ? comma + 1 : NULL;
    }
    return 0;
}

static int check_group(const char *group, struct err *err) {
    if (!group || !*group) return err_set(err, ERR_INVALID, "group is missing: the name of the consumer group");
    bool good = strlen(group) <= NAME_MAX_BYTES && text_is_utf8(str_of(group));
    for (const char *c = group; *c; c++) good = good && !iscntrl((unsigned char)*c);
    if (good) return 0;
    return err_set(err, ERR_INVALID, "group: must be 1 to %d bytes of UTF-8 without control characters", NAME_MAX_BYTES);
}

static int check_range(const char *setting, int64_t ms, int64_t least, int64_t most, struct err *err) {
    if (ms >= least && ms <= most) return 0;
    return err_set(err, ERR_INVALID, "%s: must be %lld to %lld ms, not %lld", setting, (long long)least, (long long)most,
                   (long long)ms);
}

static int check_from(const char *from, struct err *err) {
    if (from && (strcmp(from, "earliest") == 0 || strcmp(from, "latest") == 0)) return 0;
    return err_set(err, ERR_INVALID, "from: must be earliest or latest (another place: weir trigger seek), not '%.*s'", VALUE_SHOWN,
                   from ? from : "");
}

static int check_plain(const struct kafka_config *c, struct err *err) {
    int rc = check_brokers(c->brokers, err);
    if (rc == 0) rc = check_name("topic", c->topic, err);
    if (rc == 0) rc = check_group(c->group, err);
    if (rc == 0) rc = check_from(c->from, err);
    if (rc == 0 && c->member) rc = check_name("node", c->member, err);
    if (rc == 0) rc = check_range("commit", c->commit_ms, 100, 60000, err);
    if (rc == 0) rc = check_range("revoke", c->revoke_ms, 0, 600000, err);
    return rc;
}

// --- kafka.* --------------------------------------------------------------------------------------------------------

#define WEIR_COMMITS "weir commits an offset after its record is finished, never before; how often: commit=1s"
#define WEIR_ASSIGNS "weir assigns cooperatively, so that a rebalance stops only what moves"
#define WEIR_CONFIRMS "a message counts as sent only when every replica has it"
#define WEIR_CAPS "weir fits it to the trigger's memory cap"
#define WEIR_DRIVES "weir drives the client itself"

static const struct {
    const char *name, *why;
} own[] = {
    {"bootstrap.servers", "use brokers=host:port"},
    {"metadata.broker.list", "use brokers=host:port"},
    {"group.id", "use group="},
    {"group.instance.id", "give the node a name: weir serve --node"},
    {"auto.offset.reset", "use from=earliest or from=latest"},
    {"enable.auto.commit", WEIR_COMMITS},
    {"auto.commit.enable", WEIR_COMMITS},
    {"auto.commit.interval.ms", WEIR_COMMITS},
    {"enable.auto.offset.store", WEIR_COMMITS},
    {"offset.store.method", WEIR_COMMITS},
    {"offset.store.path", WEIR_COMMITS},
    {"offset.store.sync.interval.ms", WEIR_COMMITS},
    {"partition.assignment.strategy", WEIR_ASSIGNS},
    {"group.protocol.type", WEIR_ASSIGNS},
    {"acks", WEIR_CONFIRMS},
    {"request.required.acks", WEIR_CONFIRMS},
    {"enable.idempotence", WEIR_CONFIRMS},
    {"transactional.id", WEIR_CONFIRMS},
    {"message.timeout.ms", WEIR_CONFIRMS},
    {"delivery.timeout.ms", WEIR_CONFIRMS},
    {"delivery.report.only.error", WEIR_CONFIRMS},
    {"queued.max.messages.kbytes", WEIR_CAPS},
    {"queue.buffering.max.messages", WEIR_CAPS},
    {"queue.buffering.max.kbytes", WEIR_CAPS},
    {"enable.partition.eof", WEIR_DRIVES},
    {"consume.callback.max.messages", WEIR_DRIVES},
    {"enabled_events", WEIR_DRIVES},
    {"log.queue", WEIR_DRIVES},
    {"opaque", WEIR_DRIVES},
    {"internal.termination.signal", WEIR_DRIVES},
    {"allow.auto.create.topics", "a topic that is not there is a mistake to be told, not to be made"},
    {"plugin.library.paths", "weir loads no code of others into itself"},
    {"test.mock.num.brokers", "it replaces the brokers by imagined ones"},
};

static int refuse(const char *name, const char *why, struct err *err) {
    return err_set(err, ERR_INVALID, "kafka.%s is weir's to set: %s", name, why);
}

static int check_own(const char *name, struct err *err) {
    for (size_t i = 0; i < array_len(own); i++)
        if (strcmp(name, own[i].name) == 0) return refuse(name, own[i].why, err);
    return 0;
}

static int unknown_property(const struct kafka_properties *known, const char *name, struct err *err) {
    const char *near = kafka_properties_nearest(known, name);
    if (near) return err_set(err, ERR_INVALID, "kafka.%.*s: no such setting; did you mean kafka.%s?", VALUE_SHOWN, name, near);
    return err_set(err, ERR_INVALID, "kafka.%.*s: no such setting of librdkafka %s (its CONFIGURATION.md lists them)", VALUE_SHOWN,
                   name, rd_kafka_version_str());
}

// librdkafka says of a certificate that is not there no more than that it could not use it.
static int check_file(const struct kafka_pair *pair, struct err *err) {
    size_t len = strlen(pair->name), end = strlen(".location");
    if (len < end || strcmp(pair->name + len - end, ".location") != 0) return 0;
    if (!pair->value || strcmp(pair->value, "probe") == 0 || access(pair->value, R_OK) == 0) return 0;
    return err_set_errno(err, ERR_INVALID, errno, "kafka.%s: cannot read '%.200s'", pair->name, pair->value);
}

enum client { CLIENT_CONSUMER, CLIENT_PRODUCER, CLIENT_ANY };

static bool is_for(const struct kafka_property *property, enum client client) {
    if (!property || client == CLIENT_ANY) return true;
    return client == CLIENT_CONSUMER ? property->consumer : property->producer;
}

static int set_extra(rd_kafka_conf_t *conf, const struct kafka_properties *known, const struct kafka_pair *pair,
                     enum client client, struct err *err) {
    const struct kafka_property *property = kafka_properties_find(known, pair->name);
    int rc = check_own(pair->name, err);
    if (rc) return rc;
    // A name with a _ is a pointer of the program's, not text.
    if (property && strchr(pair->name, '_')) return refuse(pair->name, WEIR_DRIVES, err);
    if (!is_for(property, client)) return 0;
    char why[400] = "";
    switch (rd_kafka_conf_set(conf, pair->name, pair->value ? pair->value : "", why, sizeof why)) {
    case RD_KAFKA_CONF_OK: return check_file(pair, err);
    case RD_KAFKA_CONF_UNKNOWN: return unknown_property(known, pair->name, err);
    default: return err_set(err, ERR_INVALID, "kafka.%s: %s", pair->name, why);
    }
}

static int set_extras(rd_kafka_conf_t *conf, const struct kafka_config *c, enum client client, struct err *err) {
    if (c->extra_count == 0) return 0;
    struct kafka_properties known;
    kafka_properties_init(&known);
    int rc = 0;
    for (size_t i = 0; i < c->extra_count && rc == 0; i++) rc = set_extra(conf, &known, &c->extra[i], client, err);
    kafka_properties_done(&known);
    return rc;
}

// --- librdkafka's configuration -------------------------------------------------------------------------------------

// Called on threads of librdkafka, which says a thing that repeats once in a while only.
static void on_log(const rd_kafka_t *client, int level, const char *facility, const char *text) {
    enum log_level ours = level <= 4 ? LOG_LEVEL_WARN : level <= 5 ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG;
    log_write(ours, "kafka", text, LOG_FIELDS(LOG_STR("facility", facility), LOG_STR("client", client ? rd_kafka_name(client) : "")));
}

static void on_log_nowhere(const rd_kafka_t *client, int level, const char *facility, const char *text) {
    (void)client, (void)level, (void)facility, (void)text;
}

// What weir knows to be right, or what was checked before, such as a broker list.
static int set_own(rd_kafka_conf_t *conf, const char *name, const char *value, struct err *err) {
    char why[400] = "";
    if (rd_kafka_conf_set(conf, name, value, why, sizeof why) == RD_KAFKA_CONF_OK) return 0;
    return err_set(err, ERR_INVALID, "%s: %s", name, why);
}

static int set_consumer(rd_kafka_conf_t *conf, const struct kafka_config *c, struct err *err) {
    int rc = set_own(conf, "group.id", c->group, err);
    if (rc == 0 && c->member) rc = set_own(conf, "group.instance.id", c->member, err);
    if (rc == 0) rc = set_own(conf, "auto.offset.reset", c->from, err);
    if (rc == 0) rc = set_own(conf, "enable.auto.commit", "false", err);
    if (rc == 0) rc = set_own(conf, "enable.auto.offset.store", "false", err);
    if (rc == 0) rc = set_own(conf, "partition.assignment.strategy", "cooperative-sticky", err);
    return rc;
}

static int set_producer(rd_kafka_conf_t *conf, struct err *err) {
    int rc = set_own(conf, "acks", "all", err);
    if (rc == 0) rc = set_own(conf, "enable.idempotence", "true", err);
    return rc;
}

static int fill(rd_kafka_conf_t *conf, const struct kafka_config *c, bool consumer, struct err *err) {
    int rc = set_own(conf, "client.id", "weir", err); // the user's own name for it wins
    if (rc == 0) rc = set_extras(conf, c, consumer ? CLIENT_CONSUMER : CLIENT_PRODUCER, err);
    if (rc == 0) rc = consumer ? set_consumer(conf, c, err) : set_producer(conf, err);
    return rc;
}

rd_kafka_conf_t *kafka_conf_make(const struct kafka_config *c, bool consumer, struct err *err) {
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set_log_cb(conf, on_log);
    int rc = check_brokers(c->brokers, err);
    if (rc == 0) rc = set_own(conf, "bootstrap.servers", c->brokers, err);
    if (rc == 0) rc = fill(conf, c, consumer, err);
    if (rc == 0) return conf;
    rd_kafka_conf_destroy(conf);
    return NULL;
}

// --- the check ------------------------------------------------------------------------------------------------------

// A value is wrong for a consumer and for a producer alike, so one look at all of them is enough.
static int check_extras(const struct kafka_config *c, struct err *err) {
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    int rc = set_extras(conf, c, CLIENT_ANY, err);
    rd_kafka_conf_destroy(conf);
    return rc;
}

// Do they go together? A client without brokers reads certificates and starts SASL, and connects nowhere.
static int conf_try(const struct kafka_config *c, bool consumer, struct err *err) {
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set_log_cb(conf, on_log_nowhere);
    int rc = fill(conf, c, consumer, err);
    char why[400] = "";
    rd_kafka_t *client = rc ? NULL : rd_kafka_new(consumer ? RD_KAFKA_CONSUMER : RD_KAFKA_PRODUCER, conf, why, sizeof why);
    if (client) {
        rd_kafka_destroy_flags(client, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
        return 0;
    }
    rd_kafka_conf_destroy(conf); // not taken over
    return rc ? rc : err_set(err, ERR_INVALID, "the kafka.* settings do not go together: %s", why);
}

int kafka_config_check(const struct kafka_config *c, struct err *err) {
    int rc = check_plain(c, err);
    if (rc == 0) rc = check_extras(c, err);
    if (rc == 0) rc = conf_try(c, true, err);
    return rc;
}

int kafka_config_check_sink(const struct kafka_config *c, struct err *err) {
    int rc = check_brokers(c->brokers, err);
    if (rc == 0) rc = check_extras(c, err);
    if (rc == 0) rc = conf_try(c, false, err);
    return rc;
}
