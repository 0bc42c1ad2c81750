/* letters: the dead letters of this sink as its worker has to know them: which keys have some,
 * from where on, in which state. The broker keeps them; this is loaded when a session opens and
 * follows what is buried and raised. Not thread-safe: the worker's lock guards it. Pure. */
#ifndef ONESLOT_SINKS_LETTERS_H
#define ONESLOT_SINKS_LETTERS_H

#include "proto/api.h"
#include "proto/base/str.h"

struct letter;

struct letters {
    struct letter **slots; /* hash table of chains, by key */
    size_t nslots, n;
};

void letters_init(struct letters *l);
void letters_fini(struct letters *l);
void letters_reset(struct letters *l);
/* Copies key; replaces the state of one that is there. */
void letters_add(struct letters *l, struct str key, uint64_t offset, uint8_t state);
/* Those of key at or below offset go; without a key (empty), the one at that very offset: so
 * for letters_has too. */
void letters_remove(struct letters *l, struct str key, uint64_t offset);
/* Those of every key that begins with prefix. */
void letters_remove_prefix(struct letters *l, struct str prefix, uint64_t offset);
/* Whether the key has any at or below offset; *ret_first: the lowest one's. ret_first may be
 * NULL. */
bool letters_has(const struct letters *l, struct str key, uint64_t offset, uint64_t *ret_first);
bool letters_has_prefix(const struct letters *l, struct str prefix, uint64_t offset);
/* Whether that very letter is there and in that state. */
bool letters_is(const struct letters *l, struct str key, uint64_t offset, uint8_t state);
/* The lowest offset >= from of a letter that a person wants to be sent once more; false: none.
 */
bool letters_next_retry(const struct letters *l, uint64_t from, uint64_t *ret_offset);

#endif
