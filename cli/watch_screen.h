// SPDX-License-Identifier: Apache-2.0
// The terminal as a full screen (ncurses). Whatever ends the process by a signal of the kernel or by abort restores the terminal too.
//
// What other code writes to stderr meanwhile is kept and shown when the screen is left. One at a time.
// Threads: the main one. Errors: ERR_INVALID: the terminal cannot do it.
#ifndef CLI_WATCH_SCREEN_H
#define CLI_WATCH_SCREEN_H

#include "cli/watch.h"
#include "core/base/err.h"

struct screen;
int screen_open(struct screen **ret, struct err *err) must_use; // stdin and stdout are a terminal
void screen_close(struct screen *s);
// Gives the terminal to somebody else, and takes it back.
void screen_leave(struct screen *s);
void screen_return(struct screen *s);
void screen_resize(struct screen *s); // the terminal may have another size
void screen_size(const struct screen *s, size_t *ret_rows, size_t *ret_cols);
bool screen_key(struct screen *s, uint32_t *ret); // a character or enum watch_key; false: none is there
void screen_show(struct screen *s, const struct frame *f);

#endif
