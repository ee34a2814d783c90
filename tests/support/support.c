// SPDX-License-Identifier: Apache-2.0
#include "tests/support/support.h"

#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

char *temp_dir_new(void) {
    const char *base = getenv("TMPDIR");
    char *dir = mem_printf("%s/weir-test-XXXXXX", base ? base : "/tmp");
    assert_non_null(mkdtemp(dir));
    assert_int_equal(chmod(dir, 0711), 0);
    return dir;
}

void temp_dir_remove(char *dir) {
    if (!dir) return;
    const char *argv[] = {"rm", "-rf", "--", dir, NULL};
    (void)run_program(argv);
    free(dir);
}

int run_program(const char *const argv[]) {
    union { // posix_spawn changes neither the array nor the texts
        const char *const *from;
        char *const *to;
    } p = {.from = argv};
    pid_t pid;
    if (posix_spawnp(&pid, argv[0], NULL, NULL, p.to, environ)) return -1;
    int status;
    if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status)) return -1;
    return WEXITSTATUS(status);
}

char *service_run(const char *name, const char *command, const char *dir) {
    cleanup_free char *line = mem_printf("exec tests/services/%s %s '%s'", name, command, dir);
    FILE *out = popen(line, "r");
    assert_non_null(out);
    char first[1024] = "", rest[1024];
    if (fgets(first, sizeof first, out)) first[strcspn(first, "\n")] = '\0';
    while (fgets(rest, sizeof rest, out)) continue;
    int status = pclose(out);
    if (status != 0) fail_msg("%s %s failed", name, command);
    return mem_strdup(first);
}
