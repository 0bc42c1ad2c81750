/* sender: append batches on their way to the broker. Two buffers in turn: the stream fills one
 * while a thread of its own sends the other, one request in flight. A definite 503 (disk or log
 * full) is the same append again after Retry-After; any other failure is the end of the append
 * session: an outcome that is not known is never resent. It must not know what frames say. */
#ifndef ONESLOT_REPLICATOR_SENDER_H
#define ONESLOT_REPLICATOR_SENDER_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/api.h"
#include "proto/base/buf.h"
#include "proto/base/err.h"

enum {
    SENDER_GRACE_MS = 5000 /* for an append under way, once the process was asked to stop */
};

struct sender;
/* socket: the broker's append.sock. Starts the thread. */
int sender_open(const char *socket, const struct api_session *session, struct sender **ret,
    struct err *e) MUST_CHECK;
/* Waits for the request in flight (bounded by the client's time limit, and by SENDER_GRACE_MS
 * once the process stops); what was not handed over is dropped. Accepts NULL. */
void sender_close(struct sender *s);

/* The batch being filled: append frames to it. Another buffer after each sender_submit. */
struct buf *sender_batch(struct sender *s);
size_t sender_batch_bytes(const struct sender *s); /* of frames in it */
bool sender_is_idle(const struct sender *s); /* nothing in flight, and its result was taken */
/* Hands the batch over. Only when sender_is_idle and the batch is not empty. */
void sender_submit(struct sender *s);

/* Readable when a result waits. */
int sender_fd(const struct sender *s);
/* 1: the batch in flight is durable, and what may be acknowledged now; 0: no news; < 0: the
 * session is over. */
int sender_take(struct sender *s, struct api_appended *ret, struct err *e) MUST_CHECK;
/* True while the broker answers 503; *ret says why. */
bool sender_is_waiting(struct sender *s, struct err *ret);

#endif
