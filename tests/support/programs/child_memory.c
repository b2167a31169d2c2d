/* Forks a child that eats memory until the kernel kills it, then exits 0 itself: the limit was met although the
 * program "succeeded". Prints how the child ended. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CHUNK = 1 << 20, MOST_CHUNKS = 4096 };

int main(void)
{
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        for (int i = 0; i < MOST_CHUNKS; i++) {
            char *chunk = malloc(CHUNK);
            if (chunk == NULL)
                _exit(3);
            memset(chunk, 1 + i % 255, CHUNK);
        }
        _exit(4); /* nobody stopped it at 4 GiB */
    }
    if (child < 0 || waitpid(child, &status, 0) < 0)
        return 2;
    if (WIFSIGNALED(status))
        printf("child killed by signal %d\n", WTERMSIG(status));
    else
        printf("child exited with %d\n", WEXITSTATUS(status));
    return 0;
}
