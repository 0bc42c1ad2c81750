/* check: assertions that stay on in release. CHECK is for our own bugs, never for input. */
#ifndef ONESLOT_BASE_CHECK_H
#define ONESLOT_BASE_CHECK_H

/* Prints file, line and expression in one line ("CHECK failed: ...") and aborts. */
_Noreturn void check_failed(const char *file, int line, const char *expr);

#define CHECK(expr) ((expr) ? (void)0 : check_failed(__FILE__, __LINE__, #expr))

/* Structs that cross a void* border begin with `unsigned magic`. */
#define CHECK_MAGIC(ptr, value) CHECK((ptr) != NULL && (ptr)->magic == (value))

#endif
