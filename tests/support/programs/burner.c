/* burner PROCESSES SECONDS: that many processes spin for that long (wall time), so their processor time adds up. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: burner PROCESSES SECONDS\n");
        return 2;
    }
    double end = now() + atof(argv[2]);
    for (int i = 1; i < atoi(argv[1]); i++)
        if (fork() == 0)
            break;
    while (now() < end)
        ;
    while (wait(NULL) > 0)
        ;
    return 0;
}
