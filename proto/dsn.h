/* dsn: what may be shown of a libpq connection string (conninfo or URI), whose password must
 * not be. Pure; libpq itself decides whether the string is right. */
#ifndef ONESLOT_PROTO_DSN_H
#define ONESLOT_PROTO_DSN_H

#include <stdbool.h>

#include "proto/base/buf.h"
#include "proto/base/str.h"

/* Appends dsn with ******** for passwords. False, with nothing of use appended, when it is
 * neither `key=value ...` nor a postgresql:// URI. In doubt it hides more than the password. */
bool dsn_mask(struct buf *b, struct str dsn);

#endif
