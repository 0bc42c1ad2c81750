/* cmd_version: `oneslot version`: this program, its siblings, and the libraries that are
 * loaded: as files, since their headers belong to one module each. */
#include <link.h>
#include <stdlib.h>
#include <string.h>

#include "broker/cli/cmd.h"
#include "broker/cli/cmd_spawn.h"
#include "proto/base/cleanup.h"
#include "proto/base/json.h"

enum { OUT_MAX = 64 * 1024 };

struct libraries {
    struct buf *b;
    struct jsonw *w; /* NULL: text */
};

static int
put_library(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct libraries *l = arg;
    static const char *const ours[] = {"liblmdb", "libzstd", "libxxhash", "libmicrohttpd",
        "libcurl", "libmsgpack", "libjansson", "libyaml", "libc.so"};
    (void)size;
    const char *slash = strrchr(info->dlpi_name, '/');
    const char *base = slash != NULL ? slash + 1 : info->dlpi_name;
    bool is_ours = false;
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
        is_ours = is_ours || strncmp(base, ours[i], strlen(ours[i])) == 0;
    }
    if (!is_ours) {
        return 0;
    }
    auto_free char *path = realpath(info->dlpi_name, NULL);
    const char *shown = path != NULL ? path : info->dlpi_name;
    if (l->w != NULL) {
        jsonw_cstr(l->w, NULL, shown);
    } else {
        buf_printf(l->b, "  %s\n", shown);
    }
    return 0;
}

/* The first line of PROGRAM --version, or nothing where it is missing. */
static void
put_sibling(struct buf *b, const char *program)
{
    auto_free char *path = cmd_spawn_path(program);
    char *argv[] = {path, (char *)"--version", NULL};
    auto_buf struct buf out;
    int status = 0;
    buf_init(&out, OUT_MAX);
    if (cmd_spawn_run(argv, &out, &status, NULL) == 0 && status == 0) {
        const char *text = buf_cstr(&out);
        buf_put(b, text, strcspn(text, "\n"));
        buf_putc(b, '\n');
    }
}

static void
put_text(struct buf *b)
{
    struct libraries l = {.b = b};
    buf_puts(b, "oneslot " ONESLOT_VERSION "\n");
    put_sibling(b, "oneslot-replicator");
    put_sibling(b, "oneslot-sink");
    buf_puts(b, "libraries loaded by oneslot:\n");
    (void)dl_iterate_phdr(put_library, &l);
}

static void
put_json(struct buf *b)
{
    struct jsonw w;
    struct libraries l = {.b = b, .w = &w};
    jsonw_init(&w, b);
    jsonw_object(&w, NULL);
    jsonw_cstr(&w, "version", ONESLOT_VERSION);
    jsonw_array(&w, "libraries");
    (void)dl_iterate_phdr(put_library, &l);
    jsonw_end_array(&w);
    jsonw_end_object(&w);
    buf_putc(b, '\n');
}

static int
run(const struct cmd_args *a)
{
    auto_buf struct buf b;
    buf_init(&b, OUT_MAX);
    if (a->json) {
        put_json(&b);
    } else {
        put_text(&b);
    }
    return cmd_print(a, buf_str(&b));
}

static const struct cmd_option options[] = {
    CMD_OPTION_JSON, CMD_OPTION_CONFIG, CMD_OPTION_HELP, CMD_OPTION_END};

const struct cmd cmd_version = {
    .name = "version",
    .summary = "versions of the programs, and the libraries in use",
    .synopsis = "[--json]",
    .about = "Prints the version of oneslot and of the programs beside it (all of one release\n"
             "belong together), and the files of the libraries that are loaded.\n",
    .examples = "  oneslot version\n",
    .options = options,
    .run = run,
};
