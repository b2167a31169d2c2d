/* Forks sleeping children until the kernel refuses (EAGAIN) or there are 4096, tells how many it made, ends them,
 * exits 0: a program that copes with the refusal and still met its limit. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST = 4096 };

int main(void)
{
    static pid_t children[MOST];
    int made = 0, refused = 0;
    while (made < MOST) {
        pid_t child = fork();
        if (child == 0) {
            pause();
            _exit(0);
        }
        if (child < 0) {
            refused = errno;
            break;
        }
        children[made++] = child;
    }
    printf("%d children, then %s\n", made, refused ? (refused == EAGAIN ? "EAGAIN" : strerror(refused)) : "enough");
    for (int i = 0; i < made; i++)
        kill(children[i], SIGKILL);
    while (wait(NULL) > 0)
        ;
    return 0;
}
