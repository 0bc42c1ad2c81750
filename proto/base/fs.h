/* fs: every durable operation on files and folders, in one place, so that a review (and the
 * power-loss harness) finds them all. Any failed sync is ERR_IO (class FATAL): nobody retries
 * it (P9). */
#ifndef ONESLOT_BASE_FS_H
#define ONESLOT_BASE_FS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"

/* mkdir with mode, then nothing: the caller syncs the parent (fs_sync_dir). An existing folder
 * is fine. */
int fs_mkdir(const char *path, mode_t mode, struct err *e) MUST_CHECK;
int fs_sync_dir(const char *path, struct err *e) MUST_CHECK;
/* Syncs the folder that holds path. */
int fs_sync_parent(const char *path, struct err *e) MUST_CHECK;
int fs_sync_fd(int fd, const char *path, struct err *e) MUST_CHECK; /* path: for the message */
/* Writes path.tmp, fsyncs it, renames it over path and fsyncs the folder. */
int fs_write_atomic(
    const char *path, struct str content, mode_t mode, struct err *e) MUST_CHECK;
/* rename, then fsync of both parents. */
int fs_rename_durable(const char *from, const char *to, struct err *e) MUST_CHECK;
/* Removes a folder and the plain files in it (one level); a missing one is fine. Not synced. */
int fs_remove_tree(const char *path, struct err *e) MUST_CHECK;
/* Appends the whole file to b, at most max bytes (else ERR_TOOBIG); ERR_NOTFOUND when missing.
 */
int fs_read_file(const char *path, struct buf *b, size_t max, struct err *e) MUST_CHECK;
/* A secret that is the only line of a file, without its line break; at most FS_SECRET_MAX
 * bytes. ERR_CONFIG, with a sentence that never holds it. */
enum { FS_SECRET_MAX = 16 * 1024 };
int fs_read_secret(const char *path, struct buf *secret, struct err *e) MUST_CHECK;
int fs_free_bytes(const char *path, uint64_t *ret_bytes, struct err *e) MUST_CHECK;

enum fs_kind { FS_LOCAL, FS_WARN /* overlay, tmpfs */, FS_UNSAFE /* network, FUSE */ };
/* What lies under path, or, while nothing is there, under the folder it would be made in:
 * ERR_NOTFOUND when that is missing too. ret_name is a static string ("nfs", "overlay", ...).
 */
int fs_kind(
    const char *path, enum fs_kind *ret_kind, const char **ret_name, struct err *e) MUST_CHECK;
/* The same for a statfs(2) f_type, pure. */
enum fs_kind fs_kind_of_type(uint32_t f_type, const char **ret_name);

/* Creates or opens path, takes an exclusive flock, writes `text` into it. ERR_LOCKED names the
 * holder's text. Waits up to wait_ms for the lock. The descriptor (kept open = held) is
 * returned in *ret_fd. */
int fs_lock(
    const char *path, struct str text, int64_t wait_ms, int *ret_fd, struct err *e) MUST_CHECK;

/* dir/rel, or rel alone when it is absolute or dir is empty; owned by the caller. */
char *fs_join(const char *dir, const char *rel);

#endif
