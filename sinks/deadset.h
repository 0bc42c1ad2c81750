/* deadset: the dead letters of this sink as its worker has to know them: which keys have some,
 * from where on, in which state. The broker keeps them; this is loaded when a session opens and
 * follows what is buried and raised. Not thread-safe: the worker's lock guards it. Pure. */
#ifndef ONESLOT_SINKS_DEADSET_H
#define ONESLOT_SINKS_DEADSET_H

#include "proto/api.h"
#include "proto/base/str.h"

struct letter;

struct deadset {
    struct letter **slots; /* hash table of chains, by key */
    size_t nslots, n;
};

void deadset_init(struct deadset *l);
void deadset_fini(struct deadset *l);
void deadset_reset(struct deadset *l);
/* Copies key; replaces the state of one that is there. */
void deadset_add(struct deadset *l, struct str key, uint64_t offset, uint8_t state);
/* Those of key at or below offset go; without a key (empty), the one at that very offset: so
 * for letters_has too. */
void deadset_remove(struct deadset *l, struct str key, uint64_t offset);
/* Those of every key that begins with prefix. */
void deadset_remove_prefix(struct deadset *l, struct str prefix, uint64_t offset);
/* Whether the key has any at or below offset; *ret_first: the lowest one's. ret_first may be
 * NULL. */
bool deadset_has(const struct deadset *l, struct str key, uint64_t offset, uint64_t *ret_first);
bool deadset_has_prefix(const struct deadset *l, struct str prefix, uint64_t offset);
/* Whether that very letter is there and in that state. */
bool deadset_is(const struct deadset *l, struct str key, uint64_t offset, uint8_t state);
/* The lowest offset >= from of a letter that a person wants to be sent once more; false: none.
 */
bool deadset_next_retry(const struct deadset *l, uint64_t from, uint64_t *ret_offset);

#endif
