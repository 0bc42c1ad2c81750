#include "sinks/registry.h"

#include <string.h>

#include "proto/base/buf.h"

#define SINK(kind) extern const struct sink_ops sink_##kind##_ops;
#include "sinks/sinks.def"
#undef SINK

static const struct sink_ops *const kinds[] = {
#define SINK(kind) &sink_##kind##_ops,
#include "sinks/sinks.def"
#undef SINK
};

const struct sink_ops *
registry_at(size_t i)
{
    return i < sizeof kinds / sizeof kinds[0] ? kinds[i] : NULL;
}

const struct sink_ops *
registry_find(const char *kind)
{
    for (size_t i = 0; registry_at(i) != NULL; i++) {
        if (strcmp(kinds[i]->name, kind) == 0) {
            return kinds[i];
        }
    }
    return NULL;
}

int
registry_unknown(const char *kind, struct err *e)
{
    struct buf auto_buf names;
    buf_init(&names, 1024);
    for (size_t i = 0; registry_at(i) != NULL; i++) {
        buf_printf(&names, "%s%s", i == 0 ? "" : ", ", kinds[i]->name);
    }
    return err_set(e, ERR_UNSUPPORTED,
        "sinks of kind '%.64s' are not in this version; it has: %s", kind, buf_cstr(&names));
}
