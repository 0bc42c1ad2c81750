/* listen_shim: every listen takes 0.3 seconds, so that what comes between two of them is seen.
 */
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int
listen(int fd, int backlog)
{
    struct timespec t = {.tv_nsec = 300 * 1000 * 1000};
    (void)nanosleep(&t, NULL);
    return (int)syscall(SYS_listen, fd, backlog);
}
