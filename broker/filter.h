/* filter: which records a reader wants: by table (comma-separated patterns, proto/glob.h) and
 * by operation. Decides once per schema version. Pure. */
#ifndef ONESLOT_BROKER_FILTER_H
#define ONESLOT_BROKER_FILTER_H

#include "proto/schema.h"

enum { FILTER_PATTERNS_MAX = 256, FILTER_TEXT_MAX = 4096, FILTER_CACHE = 64 };

struct filter {
    char *text; /* the patterns, owned */
    struct str pattern[FILTER_PATTERNS_MAX];
    size_t npatterns; /* 0: every table, and messages */
    unsigned ops;     /* bit 1 << FRAME_x; 0: all */
    /* Decisions by schema id; 0 stands for nothing yet. */
    struct {
        uint32_t id;
        bool is_wanted;
    } cache[FILTER_CACHE];
};

/* Views may be empty: no restriction. ERR_PARSE. Nothing needs filter_fini on failure. */
int filter_init(struct filter *f, struct str tables, struct str ops, struct err *e) MUST_CHECK;
void filter_fini(struct filter *f); /* accepts a zeroed one */
/* A message has no table (s is NULL): patterns never select it. */
bool filter_wants(struct filter *f, uint8_t op, const struct schema *s);

#endif
