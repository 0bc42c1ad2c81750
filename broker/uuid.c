#include "broker/uuid.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

int
uuid_make(uint8_t to[UUID_BYTES], struct err *e)
{
    if (getrandom(to, UUID_BYTES, 0) != UUID_BYTES) {
        return err_set_sys(e, ERR_IO, errno, "cannot get random bytes for the log's identity");
    }
    to[6] = (uint8_t)((to[6] & 0x0f) | 0x40);
    to[8] = (uint8_t)((to[8] & 0x3f) | 0x80);
    return 0;
}

void
uuid_format(const uint8_t uuid[UUID_BYTES], char to[UUID_TEXT_MAX])
{
    size_t n = 0;
    for (size_t i = 0; i < UUID_BYTES; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) {
            to[n++] = '-';
        }
        (void)snprintf(to + n, 3, "%02x", uuid[i]);
        n += 2;
    }
}

bool
uuid_parse(struct str text, uint8_t to[UUID_BYTES])
{
    if (text.n != UUID_TEXT_MAX - 1) {
        return false;
    }
    uint8_t got[UUID_BYTES];
    size_t at = 0;
    for (size_t i = 0; i < UUID_BYTES; i++) {
        if ((i == 4 || i == 6 || i == 8 || i == 10) && text.p[at++] != '-') {
            return false;
        }
        int high = str_hex_digit(text.p[at]);
        int low = str_hex_digit(text.p[at + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        got[i] = (uint8_t)(high * 16 + low);
        at += 2;
    }
    memcpy(to, got, UUID_BYTES);
    return true;
}
