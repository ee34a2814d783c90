#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Halves a picture: ASCII PPM (P3) on stdin, the thumbnail on stdout, each pixel the mean of a 2x2 block. What goes to
# stderr becomes the event's log, and a non-zero exit makes the event fail.
#
#   weir deploy resize.sh
#   weir invoke resize --data @photo.ppm > thumbnail.ppm
set -eu

echo "resize: attempt $WEIR_ATTEMPT of $WEIR_REQUEST_ID" >&2

awk '
function fail(text) { print "resize: " text > "/dev/stderr"; failed = 1; exit 3 }
{ sub(/#.*/, ""); for (i = 1; i <= NF; i++) word[n++] = $i }
END {
    if (failed) exit 3
    if (word[0] != "P3") fail("not an ASCII PPM: it starts with \"" word[0] "\"")
    w = word[1]; h = word[2]; max = word[3]
    if (w < 2 || h < 2) fail("a picture of " w + 0 "x" h + 0 " cannot be halved")
    if (n < 4 + 3 * w * h) fail("cut short: " n - 4 " values for " w "x" h " pixels")
    printf "P3\n%d %d\n%d\n", int(w / 2), int(h / 2), max
    for (y = 0; y < int(h / 2); y++)
        for (x = 0; x < int(w / 2); x++) {
            for (c = 0; c < 3; c++) {
                a = 4 + 3 * (2 * y * w + 2 * x) + c
                b = a + 3 * w
                printf "%d%s", int((word[a] + word[a + 3] + word[b] + word[b + 3] + 2) / 4), c < 2 ? " " : "\n"
            }
        }
    printf "resize: %dx%d to %dx%d\n", w, h, int(w / 2), int(h / 2) > "/dev/stderr"
}'
