// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/masked_url.h"

static void masks_passwords(void **state) {
    (void)state;
    static const struct {
        const char *text, *shown;
    } cases[] = {
        {"postgresql://weir:s3cret@db/weir", "postgresql://weir:***@db/weir"},
        {"postgresql://weir:pa/ss@db/weir", "postgresql://weir:***@db/weir"},
        {"postgresql://weir:p@s:s@db:5432/weir", "postgresql://weir:***@db:5432/weir"},
        {"postgresql://weir:p,s?s@db,db2/weir", "postgresql://weir:***@db,db2/weir"},
        {"postgresql://weir:a@db:5432,db2:5433/weir", "postgresql://weir:***@db:5432,db2:5433/weir"},
        {"postgresql://db/weir?user=weir&password=s3cret", "postgresql://db/weir?user=weir&password=***"},
        {"postgresql://db/weir?password=s3,c/r@t&user=weir", "postgresql://db/weir?password=***&user=weir"},
        {"postgresql://db:5432?PASSWORD=a&sslpassword=b&x=c", "postgresql://db:5432?PASSWORD=***&sslpassword=***&x=c"},
        {"postgresql://db:5432?password=a@b", "postgresql://db:5432?password=***"},
        {"postgresql://weir:a@db/weir?sslpassword=b", "postgresql://weir:***@db/weir?sslpassword=***"},
        {"amqp://a:1@h, amqps://b:2@i/x?password=3,amqp://c:4@j", "amqp://a:***@h, amqps://b:***@i/x?password=***,amqp://c:***@j"},
        {"amqp://a:http://b@h/v", "amqp://a:***@h/v"},
    };
    for (size_t i = 0; i < array_len(cases); i++) {
        cleanup_free char *shown = masked_url(cases[i].text);
        assert_string_equal(shown, cases[i].shown);
    }
}

static void leaves_all_else(void **state) {
    (void)state;
    static const char *const texts[] = {
        "", "://", "password=x", "sqlite:/var/lib/weir.db", "amqp://host:5672/v", "amqp://host:5672/a@b", "amqp://user@host:5672",
        "postgresql://db/weir?password=", "postgresql://db/weir?user=a@b&sslmode=require", "http://a http://b",
    };
    for (size_t i = 0; i < array_len(texts); i++) {
        cleanup_free char *shown = masked_url(texts[i]);
        assert_string_equal(shown, texts[i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(masks_passwords),
        cmocka_unit_test(leaves_all_else),
    };
    return cmocka_run_group_tests_name("core/masked_url", tests, NULL, NULL);
}
