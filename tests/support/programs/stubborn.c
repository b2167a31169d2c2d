/* Ignores SIGTERM, SIGINT and SIGHUP, and leaves a grandchild in a session of its own that does the same. Prints
 * "ready" when all of them sleep. Only SIGKILL to every one of them ends it. */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static void sleep_for_ever(void)
{
    for (;;)
        pause();
}

int main(void)
{
    int ready[2];
    char byte = 0;
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    if (pipe(ready) != 0)
        return 2;
    if (fork() == 0) {
        setsid();
        if (fork() != 0)
            _exit(0); /* the grandchild belongs to init now */
        if (write(ready[1], &byte, 1) != 1)
            _exit(2);
        sleep_for_ever();
    }
    if (read(ready[0], &byte, 1) != 1)
        return 2;
    puts("ready");
    fflush(stdout);
    sleep_for_ever();
}
