/* registry: the kinds of sinks.def by name. Knows no kind itself. */
#ifndef ONESLOT_SINKS_REGISTRY_H
#define ONESLOT_SINKS_REGISTRY_H

#include <stddef.h>

#include "sinks/sink.h"

/* NULL when this program has no such kind. */
const struct sink_ops *registry_find(const char *kind);
/* The i-th kind in the order of sinks.def; NULL behind the last. */
const struct sink_ops *registry_at(size_t i);
/* ERR_UNSUPPORTED: "... not in this version", with the kinds that are. */
int registry_unknown(const char *kind, struct err *e);

#endif
