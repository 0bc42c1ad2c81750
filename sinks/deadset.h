/* deadset: the dead letters of this sink as its worker has to know them: which keys have some,
 * from where on, in which state. The broker keeps them; this is loaded when a session opens and
 * follows what is buried and raised. A letter is its key's; the former key of a key change only
 * finds it with deadset_move_before. Not thread-safe: the worker's lock guards it. Pure. */
#ifndef ONESLOT_SINKS_DEADSET_H
#define ONESLOT_SINKS_DEADSET_H

#include "proto/api.h"
#include "proto/base/str.h"

struct letter;

struct deadset {
    struct letter **slots;     /* hash table of chains, by key */
    struct letter **formers;   /* likewise, of key changes, by their former key */
    size_t nslots, n, n_moves; /* n_moves: the key changes among the n */
};

void deadset_init(struct deadset *l);
void deadset_fini(struct deadset *l);
void deadset_reset(struct deadset *l);
/* Copies it; replaces one of that key and offset. */
void deadset_add(struct deadset *l, const struct api_letter *letter);
/* Those of key at or below offset go; without a key (empty), the one at that very offset: so
 * for deadset_has too. */
void deadset_remove(struct deadset *l, struct str key, uint64_t offset);
/* Those of every key that begins with prefix. */
void deadset_remove_prefix(struct deadset *l, struct str prefix, uint64_t offset);
/* Whether the key has any at or below offset; *ret_first: the lowest one's. ret_first may be
 * NULL. */
bool deadset_has(const struct deadset *l, struct str key, uint64_t offset, uint64_t *ret_first);
bool deadset_has_prefix(const struct deadset *l, struct str prefix, uint64_t offset);
/* The lowest offset below `offset` of a key change, to or from that key, that is open: it has
 * its record (DEAD, RETRY), so the target can still be told. A mark cannot: what a person gave
 * up (DISCARDED) is forgone, and of a REREAD the former row is gone already. 0: none. */
uint64_t deadset_move_before(const struct deadset *l, struct str key, uint64_t offset);
/* Whether that very letter is there and in that state. */
bool deadset_is(const struct deadset *l, struct str key, uint64_t offset, uint8_t state);
/* The lowest offset >= from of a letter that a person wants to be sent once more; false: none.
 */
bool deadset_next_retry(const struct deadset *l, uint64_t from, uint64_t *ret_offset);

#endif
