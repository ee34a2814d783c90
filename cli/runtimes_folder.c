// SPDX-License-Identifier: Apache-2.0
#include "cli/runtimes_folder.h"

#include <limits.h>
#include <unistd.h>

char *runtimes_folder(const char *given) {
    char self[PATH_MAX];
    if (given && *given) return mem_strdup(given);
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(self, '/');
    if (slash) *slash = '\0';
    char *installed = mem_printf("%s/../share/weir/runtimes", self);
    if (access(installed, R_OK) == 0) return installed;
    free(installed);
    return mem_printf("%s/../runtimes", self);
}
