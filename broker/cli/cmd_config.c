/* cmd_config: `oneslot config`: the effective configuration, secrets masked. */
#include "broker/cli/cmd.h"
#include "broker/cli/cmd_sinks.h"
#include "proto/base/cleanup.h"
#include "proto/base/json.h"
#include "proto/config.h"

enum { CONFIG_MAX = 16 * 1024 * 1024 };

/* As comments, so that the whole remains a configuration. */
static void
put_commented(struct buf *b, struct str text)
{
    while (text.n > 0) {
        const char *nl = memchr(text.p, '\n', text.n);
        size_t n = nl == NULL ? text.n : (size_t)(nl - text.p);
        buf_puts(b, "#");
        buf_put(b, text.p, n);
        buf_putc(b, '\n');
        n += nl != NULL;
        text.p += n;
        text.n -= n;
    }
}

static int
put_sinks(const struct cmd_args *a, const struct config *conf, struct buf *b)
{
    for (size_t i = 0; i < conf->nsinks; i++) {
        auto_buf struct buf options;
        buf_init(&options, CMD_SINKS_OPTIONS_MAX);
        int status = cmd_sinks_options(a, &conf->sinks[i], &options);
        if (status != CMD_DONE) {
            return status;
        }
        buf_printf(b, "\n# sink %s: options of its kind (%s), defaults included:\n",
            conf->sinks[i].name, config_kind_name(conf->sinks[i].kind));
        put_commented(b, buf_str(&options));
    }
    return CMD_DONE;
}

static int
put_sinks_json(const struct cmd_args *a, const struct config *conf, struct jsonw *w)
{
    jsonw_object(w, "sinks");
    for (size_t i = 0; i < conf->nsinks; i++) {
        auto_buf struct buf sink;
        buf_init(&sink, CMD_SINKS_OPTIONS_MAX);
        int status = cmd_sinks_options(a, &conf->sinks[i], &sink);
        if (status != CMD_DONE) {
            return status;
        }
        struct str line = buf_str(&sink);
        line.n -= line.n > 0; /* its line end */
        jsonw_raw(w, conf->sinks[i].name, line);
    }
    jsonw_end_object(w);
    return CMD_DONE;
}

static int
put_json(const struct cmd_args *a, const struct config *conf, struct buf *b)
{
    struct jsonw w;
    jsonw_init(&w, b);
    jsonw_object(&w, NULL);
    config_print_json(&w, conf);
    int status = put_sinks_json(a, conf, &w);
    jsonw_end_object(&w);
    buf_putc(b, '\n');
    return status;
}

static int
put_yaml(const struct cmd_args *a, const struct config *conf, struct buf *b)
{
    config_print(b, conf);
    return put_sinks(a, conf, b);
}

static int
run(const struct cmd_args *a)
{
    struct config *conf;
    int status = cmd_load(a, &conf);
    if (status != CMD_DONE) {
        return status;
    }
    auto_buf struct buf b;
    buf_init(&b, CONFIG_MAX);
    status = a->json ? put_json(a, conf, &b) : put_yaml(a, conf, &b);
    config_free(conf);
    return status == CMD_DONE ? cmd_print(a, buf_str(&b)) : status;
}

static void
put_keys(struct buf *b)
{
    buf_puts(b, "\nKeys of the configuration (`oneslot-sink --help-kind KIND` has those of a "
                "sink's kind):\n");
    config_help(b);
}

static const struct cmd_option options[] = {
    CMD_OPTION_JSON, CMD_OPTION_CONFIG, CMD_OPTION_HELP, CMD_OPTION_END};

const struct cmd cmd_config = {
    .name = "config",
    .summary = "the effective configuration, secrets masked",
    .synopsis = "[--json] [-c FILE]",
    .about =
        "Prints the configuration as it takes effect: defaults filled in, ${ENV} "
        "replaced, relative\n"
        "paths made absolute, and what is secret shown as ********. It is YAML that "
        "oneslot could\n"
        "read again; the options of each sink's kind, with their defaults, follow as "
        "comments.\n"
        "With --json it is one document on one line, those options among the others of their\n"
        "sink; sizes and times are texts as in the file.\n",
    .examples = "  oneslot config\n"
                "  oneslot config -c other.yaml | diff - <(oneslot config)\n"
                "  oneslot config --json | jq -r .data_dir\n",
    .options = options,
    .more_help = put_keys,
    .run = run,
};
