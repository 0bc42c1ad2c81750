/* sig: signals as data. SIGINT, SIGTERM, SIGHUP ask to stop, but for a SIGINT or SIGHUP that
 * whoever started us ignores (nohup); SIGPIPE is ignored. */
#ifndef ONESLOT_BASE_SIG_H
#define ONESLOT_BASE_SIG_H

#include <stdbool.h>

/* Installs handlers; a readable eventfd tells that a stop was asked for. Call once, before any
 * thread. */
void sig_init(void);
bool sig_stop_requested(void);
/* The eventfd; it stays readable for good once a stop was asked for. Never read or close it. */
int sig_stop_fd(void);
/* Asks for the stop from inside the process. */
void sig_stop(void);
/* Restores in a forked child, before exec, what we were started with. */
void sig_reset_for_exec(void);

#endif
