/* cmd_config: `oneslot config`: the effective configuration, secrets masked. */
#include "broker/cli/cmd.h"
#include "broker/cli/cmd_sinks.h"
#include "proto/base/cleanup.h"
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
run(const struct cmd_args *a)
{
    struct config *conf;
    int status = cmd_load(a, &conf);
    if (status != CMD_DONE) {
        return status;
    }
    auto_buf struct buf b;
    buf_init(&b, CONFIG_MAX);
    config_print(&b, conf);
    status = put_sinks(a, conf, &b);
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

static const struct cmd_option options[] = {CMD_OPTION_CONFIG, CMD_OPTION_HELP, CMD_OPTION_END};

const struct cmd cmd_config = {
    .name = "config",
    .summary = "the effective configuration, secrets masked",
    .synopsis = "[-c FILE]",
    .about = "Prints the configuration as it takes effect: defaults filled in, ${ENV} "
             "replaced, relative\n"
             "paths made absolute, and what is secret shown as ********. It is YAML that "
             "oneslot could\n"
             "read again; the options of each sink's kind, with their defaults, follow as "
             "comments.\n",
    .examples = "  oneslot config\n"
                "  oneslot config -c other.yaml | diff - <(oneslot config)\n",
    .options = options,
    .more_help = put_keys,
    .run = run,
};
