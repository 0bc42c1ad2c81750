/* A receiver of webhooks that answers as told (peer.h), and anything but a POST with 501. */
#ifndef ONESLOT_TESTS_HTTP_PEER_H
#define ONESLOT_TESTS_HTTP_PEER_H

#include "http_support.h"
#include "peer.h"

static _Atomic size_t http_peer_others; /* requests that were no POST */

static inline bool
peer_answer(int fd)
{
    if (!peer_begins("POST ")) {
        http_peer_others++;
        peer_send(fd, 501, NULL, NULL);
        return true;
    }
    enum peer_judgement judgement = peer_judge(fd);
    if (judgement == PEER_ACCEPTS) {
        peer_send(fd, 204, NULL, NULL);
    }
    return judgement != PEER_CLOSES;
}

#endif
