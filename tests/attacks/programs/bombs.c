/* bombs NAME: takes as much of one thing as there is, or will not end. What is refused is told and survived. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mqueue.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

enum { MIB = 1 << 20, MANY = 1 << 20, DEEP = 20000, BURNERS = 48 };

static int refused(const char *what, long count)
{
    printf("%s: %s after %ld\n", what, strerrorname_np(errno), count);
    fflush(stdout);
    return 0;
}

/* ------------------------------------------------------------------------------------------------ processes, time */

/* Every process forks as fast as it can, for ever; nobody waits for anybody. */
static int forks(void)
{
    for (;;)
        if (fork() == 0)
            setsid();
    return 0;
}

static void *asleep(void *nothing)
{
    pause();
    return nothing;
}

static int threads(void)
{
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 1 << 16);
    pthread_t one;
    for (long count = 0;; count++)
        if ((errno = pthread_create(&one, &small, asleep, NULL)) != 0)
            return refused("thread", count);
}

static void *burn(void *nothing)
{
    for (volatile long spin = 0;; spin++)
        ;
    return nothing;
}

static int burners(void)
{
    pthread_t one;
    for (int count = 0; count < BURNERS; count++)
        pthread_create(&one, NULL, burn, NULL);
    burn(NULL);
    return 0;
}

/* One short-lived child after the other: none of them ever reaches a limit on its own processor time. */
static int relay(void)
{
    for (;;) {
        pid_t child = fork();
        if (child == 0) {
            for (volatile long spin = 0; spin < 3000000; spin++)
                ;
            _exit(0);
        }
        waitpid(child, NULL, 0);
    }
}

/* Every signal that can be ignored or blocked is, in three generations. */
static int deaf(void)
{
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_IGN);
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    fork();
    setsid();
    fork();
    for (;;)
        sleep(60);
    return 0;
}

static int freezes(void)
{
    raise(SIGSTOP);
    return 0;
}

/* Children that are stopped, and zombies that nobody waits for; the program itself ends well. */
static int leftovers(void)
{
    for (int count = 0; count < 10; count++) {
        pid_t child = fork();
        if (child == 0) {
            if (count % 2)
                raise(SIGSTOP);
            _exit(0);
        }
    }
    usleep(100000);
    return 0;
}

/* Leaves its session, its parent and its streams behind and goes on: writes into a file for ever. */
static int daemon_stays(void)
{
    if (fork() > 0) {
        usleep(200000);
        return 0;
    }
    setsid();
    if (fork() > 0)
        _exit(0);
    prctl(PR_SET_NAME, "kworker/0:1");
    for (int file = 0; file < 3; file++)
        close(file);
    signal(SIGTERM, SIG_IGN);
    int diary = open("/task/diary", O_CREAT | O_WRONLY | O_APPEND, 0644);
    for (;;) {
        (void)!write(diary, "alive\n", 6);
        usleep(1000);
    }
}

static int kills(void)
{
    signal(SIGTERM, SIG_IGN);
    printf("kill init: %s\n", kill(1, SIGKILL) ? strerrorname_np(errno) : "sent");
    printf("stop init: %s\n", kill(1, SIGSTOP) ? strerrorname_np(errno) : "sent");
    printf("kill all: %s\n", kill(-1, SIGKILL) ? strerrorname_np(errno) : "sent");
    printf("still here\n");
    return 0;
}

/* The kernel itself ends a process that has used up its limit, be it the first one of a container: at the first tick of
   the clock that finds it at work, which the signals that it passes on see to. */
static int init_limits(void)
{
    struct rlimit none = {0, 0};
    signal(SIGTERM, SIG_IGN);
    int memory = open("/proc/1/mem", O_RDWR);
    printf("memory of init: %s\n", memory < 0 ? strerrorname_np(errno) : "open");
    printf("limit of init: %s\n", prlimit(1, RLIMIT_CPU, &none, NULL) ? strerrorname_np(errno) : "set");
    fflush(stdout);
    for (time_t end = time(NULL) + 20; time(NULL) < end;)
        kill(1, SIGTERM);
    printf("it outlived its limit\n");
    return 0;
}

static int dumps(void)
{
    struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
    printf("core limit: %s\n", setrlimit(RLIMIT_CORE, &all) ? strerrorname_np(errno) : "ALLOWED");
    fflush(stdout);
    prctl(PR_SET_DUMPABLE, 1);
    abort();
}

static int recursion(int depth)
{
    volatile char room[PIPE_BUF];
    room[0] = (char)depth;
    if (depth < 0)
        return 0;
    return room[0] + recursion(depth + 1) + room[0];
}

static int overflows(void)
{
    return recursion(0);
}

/* --------------------------------------------------------------------------------------------------------- memory */

static int fill(const char *what, int file, long most)
{
    static char piece[MIB];
    memset(piece, 'x', sizeof piece);
    for (long count = 0; count < most; count++)
        if (write(file, piece, sizeof piece) < (long)sizeof piece)
            return refused(what, count);
    return 0;
}

static int memory(void)
{
    for (long count = 0;; count++) {
        char *room = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (room == MAP_FAILED)
            return refused("mmap", count);
        memset(room, 1, MIB);
    }
}

static int many_hogs(void)
{
    for (int count = 0; count < 8; count++)
        if (fork() == 0)
            memory();
    while (wait(NULL) > 0)
        ;
    return 0;
}

static int memfd(void)
{
    return fill("memfd", memfd_create("attack", 0), 4096);
}

static int shm_file(void)
{
    return fill("/dev/shm", open("/dev/shm/big", O_CREAT | O_WRONLY, 0600), 4096);
}

static int tmp_file(void)
{
    return fill("/tmp", open("/tmp/big", O_CREAT | O_WRONLY, 0600), 4096);
}

static int tmp_files(void)
{
    char path[64];
    for (long count = 0;; count++) {
        snprintf(path, sizeof path, "/tmp/%ld", count);
        if (mknod(path, S_IFREG | 0600, 0) < 0)
            return refused("/tmp", count);
    }
}

/* Segments of System V outlive every process; only the IPC namespace ends them. */
static int segments(void)
{
    for (long count = 0;; count++) {
        int segment = shmget(IPC_PRIVATE, MIB, IPC_CREAT | 0600);
        char *room = segment < 0 ? (char *)-1 : shmat(segment, NULL, 0);
        if (room == (char *)-1)
            return refused("segment", count);
        memset(room, 1, MIB);
    }
}

static int queues(void)
{
    struct mq_attr wide = {.mq_maxmsg = 10, .mq_msgsize = 8192};
    char name[32];
    for (long count = 0;; count++) {
        snprintf(name, sizeof name, "/attack-%ld", count);
        if (mq_open(name, O_CREAT | O_RDWR, 0600, &wide) == (mqd_t)-1)
            return refused("queue", count);
    }
}

static int buffers(void)
{
    static char piece[1 << 16];
    for (long count = 0;; count++) {
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) < 0)
            return refused("socket", count);
        while (write(pair[0], piece, sizeof piece) > 0)
            ;
    }
}

static int pipes(void)
{
    static char piece[1 << 16];
    for (long count = 0;; count++) {
        int pair[2];
        if (pipe2(pair, O_NONBLOCK) < 0)
            return refused("pipe", count);
        while (write(pair[1], piece, sizeof piece) > 0)
            ;
    }
}

static int descriptors(void)
{
    for (long count = 0;; count++)
        if (epoll_create1(0) < 0)
            return refused("descriptor", count);
}

/* ---------------------------------------------------------------------------------------------------------- files */

static int disk(void)
{
    return fill("disk", open("/task/big", O_CREAT | O_WRONLY, 0644), 65536);
}

/* The name goes at once; the room stays taken until the descriptor is closed. */
static int unlinked(void)
{
    int file = open("/task/gone", O_CREAT | O_RDWR, 0644);
    unlink("/task/gone");
    fill("unlinked", file, 65536);
    return (int)sleep(2);
}

/* The same outside of /task, again and again: some stay open, some are only mapped. */
static int hidden(void)
{
    static char piece[MIB];
    for (long count = 0;; count++) {
        int file = open("/var/hidden", O_CREAT | O_RDWR, 0644);
        if (file < 0 || write(file, piece, sizeof piece) < (long)sizeof piece)
            return refused("hidden", count);
        unlink("/var/hidden");
        if (count % 2) {
            char *room = mmap(NULL, MIB, PROT_READ, MAP_SHARED, file, 0);
            close(file);
            if (room == MAP_FAILED)
                return refused("mapping", count);
        }
        usleep(10000);
    }
}

static int inodes(void)
{
    char path[64];
    for (long count = 0;; count++) {
        snprintf(path, sizeof path, "/task/%ld", count);
        if (mknod(path, S_IFREG | 0600, 0) < 0)
            return refused("file", count);
    }
}

static int sparse(void)
{
    signal(SIGXFSZ, SIG_IGN);
    int file = open("/task/sparse", O_CREAT | O_RDWR, 0644);
    return ftruncate(file, 1L << 40) ? refused("terabyte", 0) : 0;
}

static int mapped(void)
{
    char path[64];
    for (int count = 0; count < 3; count++) { /* more than there is room for: SIGBUS */
        snprintf(path, sizeof path, "/task/mapped-%d", count);
        int file = open(path, O_CREAT | O_RDWR, 0644);
        if (ftruncate(file, 4 * MIB))
            return refused("file", count);
        memset(mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0), 'x', 4 * MIB);
    }
    return 0;
}

/* Many files of holes: a few bytes on the disk, gigabytes when somebody reads them. */
static int holes(void)
{
    char path[64];
    for (int count = 0; count < 200; count++) {
        snprintf(path, sizeof path, "/task/hole-%03d", count);
        int file = open(path, O_CREAT | O_WRONLY, 0644);
        if (ftruncate(file, 30 * MIB))
            return refused("hole", count);
        close(file);
    }
    return 0;
}

static int deep(void)
{
    int here = open("/task", O_RDONLY | O_DIRECTORY);
    for (long count = 0; count < DEEP; count++) {
        int next = mkdirat(here, "d", 0755) ? -1 : openat(here, "d", O_RDONLY | O_DIRECTORY);
        if (next < 0)
            return refused("folder", count);
        close(here);
        here = next;
    }
    close(openat(here, "bottom", O_CREAT | O_WRONLY, 0644));
    printf("%d folders deep\n", DEEP);
    return 0;
}

static int attributes(void)
{
    static char value[PIPE_BUF - 512];
    char name[64];
    close(open("/task/odd", O_CREAT | O_WRONLY, 0644));
    for (long count = 0;; count++) {
        snprintf(name, sizeof name, "user.attack-%ld", count);
        if (setxattr("/task/odd", name, value, sizeof value, 0))
            return refused("attribute", count);
    }
}

static int sockets(void)
{
    struct sockaddr_un place = {.sun_family = AF_UNIX, .sun_path = "/task/socket"};
    bind(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&place, sizeof place);
    mkfifo("/task/pipe", 0666);
    return 0;
}

/* A file becomes a link to SECRET and a file again, as fast as can be, also while somebody looks for outputs. */
static int swaps(void)
{
    const char *secret = getenv("SECRET");
    if (fork() > 0) {
        usleep(300000);
        return 0;
    }
    setsid();
    signal(SIGTERM, SIG_IGN);
    for (;;) {
        close(open("/task/plain", O_CREAT | O_WRONLY | O_TRUNC, 0644));
        rename("/task/plain", "/task/swapped");
        if (symlink(secret ? secret : "/etc/passwd", "/task/link") == 0)
            rename("/task/link", "/task/swapped");
    }
}

static int many_files(void)
{
    char path[64];
    mkdir("/task/many", 0755);
    for (long count = 0; count < 12000; count++) {
        snprintf(path, sizeof path, "/task/many/%05ld", count);
        if (mknod(path, S_IFREG | 0644, 0))
            return refused("file", count);
    }
    return 0;
}

static int crowd(void)
{
    char name[32];
    close(open("/task/wanted", O_CREAT | O_WRONLY, 0644));
    if (mkdir("/task/crowd", 0755) || chdir("/task/crowd"))
        return refused("folder", 0);
    for (long count = 0; count < 60000; count++) {
        snprintf(name, sizeof name, "%06ld", count);
        if (mknod(name, S_IFREG | 0644, 0))
            return refused("name", count);
    }
    return 0;
}

static int strange_names(void)
{
    static char longest[256];
    memset(longest, 'n', 255);
    const char *names[] = {"line\nend", "esc\033[2Jape", "\xff\xfe raw", "-rf", "back\\slash", " ", "%0A", "tab\tand\rreturn",
                           "\xe2\x80\xae" "txt.exe", "<script>alert(1)<", "a;b|c&d$(e)`f`", "*", longest};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        close(open(names[i], O_CREAT | O_WRONLY, 0644));
    return 0;
}

static const struct { const char *name; int (*go)(void); } BOMBS[] = {
    {"forks", forks}, {"threads", threads}, {"burners", burners}, {"relay", relay}, {"deaf", deaf},
    {"freezes", freezes}, {"leftovers", leftovers}, {"daemon", daemon_stays}, {"kills", kills}, {"dumps", dumps},
    {"overflows", overflows}, {"memory", memory}, {"many_hogs", many_hogs}, {"memfd", memfd}, {"shm_file", shm_file},
    {"tmp_file", tmp_file}, {"tmp_files", tmp_files}, {"segments", segments}, {"queues", queues},
    {"buffers", buffers}, {"pipes", pipes}, {"descriptors", descriptors}, {"disk", disk}, {"unlinked", unlinked}, {"hidden", hidden},
    {"inodes", inodes}, {"sparse", sparse}, {"mapped", mapped}, {"holes", holes}, {"deep", deep},
    {"attributes", attributes}, {"sockets", sockets}, {"swaps", swaps}, {"many_files", many_files},
    {"crowd", crowd}, {"strange_names", strange_names}, {"init_limits", init_limits},
};

int main(int count, char **arguments)
{
    for (unsigned bomb = 0; bomb < sizeof BOMBS / sizeof *BOMBS; bomb++)
        if (count == 2 && strcmp(arguments[1], BOMBS[bomb].name) == 0)
            return BOMBS[bomb].go();
    return 64;
}
