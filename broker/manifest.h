/* manifest: SEGMENT/MANIFEST, the JSON file whose presence says that a segment is sealed, and
 * which tells about it what positions and retention need without opening it. Written once,
 * atomically. */
#ifndef ONESLOT_BROKER_MANIFEST_H
#define ONESLOT_BROKER_MANIFEST_H

#include "broker/segment.h"

#define MANIFEST_NAME "MANIFEST"

int manifest_write(const struct segment *sg, struct err *e) MUST_CHECK;
/* Fills head, tail, first_* and file_bytes. ERR_NOTFOUND: not sealed. ERR_CORRUPT also when
 * data.mdb is missing or shorter than the manifest says. */
int manifest_read(struct segment *sg, struct err *e) MUST_CHECK;

#endif
