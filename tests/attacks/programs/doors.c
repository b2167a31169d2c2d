/* doors NAME...: tries doors that must be shut, and tells what each attempt came to: "mount tmpfs: EPERM", or
 * "mount tmpfs: ALLOWED". It exits 0 whatever happens, so that a test reads the answers and not a status. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <linux/mempolicy.h>
#include <linux/perf_event.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

enum { X32 = 0x40000000, PAGE = 4096, SHOCKER_ROOT_INODE = 2 };

static void tell(const char *what, long result)
{
    printf("%s: %s\n", what, result < 0 ? strerrorname_np(errno) : "ALLOWED");
    fflush(stdout);
}

static long opened(const char *path, int flags)
{
    int file = open(path, flags | O_CLOEXEC);
    if (file >= 0)
        close(file);
    return file;
}

static void mounts(void)
{
    tell("mount tmpfs", mount("none", "/tmp", "tmpfs", 0, ""));
    tell("mount proc", mount("proc", "/tmp", "proc", 0, ""));
    tell("mount cgroup", mount("cgroup", "/tmp", "cgroup", 0, "memory"));
    tell("mount bind", mount("/", "/tmp", "", MS_BIND, ""));
    tell("remount", mount("", "/", "", MS_REMOUNT, ""));
    tell("umount", umount2("/proc/sys", MNT_DETACH));
    tell("fsopen", syscall(SYS_fsopen, "tmpfs", 0));
    tell("open_tree", syscall(SYS_open_tree, AT_FDCWD, "/", 1));
    tell("move_mount", syscall(SYS_move_mount, AT_FDCWD, "/tmp", AT_FDCWD, "/task", 0));
    tell("mount_setattr", syscall(SYS_mount_setattr, AT_FDCWD, "/", 0, "", 32));
    tell("pivot_root", syscall(SYS_pivot_root, "/task", "/task"));
    tell("chroot", chroot("/task"));
}

static void tracing(void)
{
    char byte;
    struct iovec here = {&byte, 1}, there = {&byte, 1};
    tell("ptrace", ptrace(PTRACE_ATTACH, 1, 0, 0));
    tell("process_vm_readv", process_vm_readv(1, &here, 1, &there, 1, 0));
    tell("process_vm_writev", process_vm_writev(1, &here, 1, &there, 1, 0));
    tell("kcmp", syscall(SYS_kcmp, 1, getpid(), 0, 0, 0));
    tell("pidfd_getfd", syscall(SYS_pidfd_getfd, 0, 0, 0));
    tell("process_madvise", syscall(SYS_process_madvise, 0, &here, 1, 0, 0));
}

static void uring(void)
{
    struct io_uring_params params = {0};
    tell("io_uring_setup", syscall(SYS_io_uring_setup, 4, &params));
    tell("io_uring_enter", syscall(SYS_io_uring_enter, 0, 0, 0, 0, 0, 0));
    tell("io_uring_register", syscall(SYS_io_uring_register, 0, 0, 0, 0));
}

static void vsock(void)
{
    tell("vsock stream", socket(AF_VSOCK, SOCK_STREAM, 0));
    tell("vsock datagram", socket(AF_VSOCK, SOCK_DGRAM, 0));
}

static void families(void)
{
    tell("alg", socket(AF_ALG, SOCK_SEQPACKET, 0));
    tell("packet", socket(AF_PACKET, SOCK_RAW, 0));
    tell("xdp", socket(AF_XDP, SOCK_RAW, 0));
    tell("bluetooth", socket(AF_BLUETOOTH, SOCK_RAW, 0));
    tell("can", socket(AF_CAN, SOCK_RAW, 0));
    tell("tipc", socket(AF_TIPC, SOCK_RDM, 0));
    tell("rds", socket(AF_RDS, SOCK_SEQPACKET, 0));
    tell("raw", socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
    tell("raw6", socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6));
}

static void namespaces(void)
{
    const int kinds[] = {CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWNET, CLONE_NEWPID, CLONE_NEWIPC, CLONE_NEWUTS};
    const char *names[] = {"user", "mnt", "net", "pid", "ipc", "uts"};
    for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char what[32];
        snprintf(what, sizeof what, "unshare %s", names[i]);
        tell(what, unshare(kinds[i]));
        snprintf(what, sizeof what, "clone %s", names[i]);
        long child = syscall(SYS_clone, kinds[i] | SIGCHLD, 0, 0, 0, 0);
        if (child == 0)
            _exit(0);
        tell(what, child);
    }
    tell("clone3", syscall(SYS_clone3, 0, 0));
    int own = open("/proc/1/ns/net", O_RDONLY | O_CLOEXEC);
    tell("setns", own < 0 ? own : setns(own, 0));
}

static void keys(void)
{
    tell("keyctl", syscall(SYS_keyctl, 0, -3, 0));
    tell("add_key", syscall(SYS_add_key, "user", "attack", "x", 1, -3));
    tell("request_key", syscall(SYS_request_key, "user", "attack", 0, -3));
}

static void bpf(void)
{
    union bpf_attr attr = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
    tell("bpf", syscall(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof attr));
}

static void perf(void)
{
    struct perf_event_attr attr = {.type = PERF_TYPE_SOFTWARE, .size = sizeof attr, .exclude_kernel = 1};
    tell("perf_event_open", syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0));
}

static void modules(void)
{
    tell("init_module", syscall(SYS_init_module, "", 0, ""));
    tell("finit_module", syscall(SYS_finit_module, 0, "", 0));
    tell("delete_module", syscall(SYS_delete_module, "dummy", 0));
    tell("kexec_load", syscall(SYS_kexec_load, 0, 0, 0, 0));
    tell("kexec_file_load", syscall(SYS_kexec_file_load, 0, 0, 0, 0, 0));
}

static void power(void)
{
    /* "Ctrl-Alt-Del sends a signal": harmless should it ever be allowed. */
    tell("reboot", syscall(SYS_reboot, 0xfee1dead, 672274793, 0, 0));
    tell("swapon", swapon("/task/swap", 0));
    tell("swapoff", swapoff("/task/swap"));
    tell("acct", syscall(SYS_acct, "/task/acct"));
    tell("quotactl", syscall(SYS_quotactl, 0, 0, 0, 0));
    tell("vhangup", syscall(SYS_vhangup));
    tell("iopl", syscall(SYS_iopl, 3));
    tell("ioperm", syscall(SYS_ioperm, 0, 1, 1));
    tell("sethostname", sethostname("attacked", 8));
    tell("setdomainname", setdomainname("attacked", 8));
}

static void clocks(void)
{
    struct timespec then = {.tv_sec = 1000000000};
    struct timeval old = {.tv_sec = 1000000000};
    struct timex offset = {.modes = ADJ_SETOFFSET, .time = {.tv_sec = 3600}};
    tell("clock_settime", clock_settime(CLOCK_REALTIME, &then));
    tell("settimeofday", settimeofday(&old, 0));
    tell("adjtimex", adjtimex(&offset));
}

static void real_time(void)
{
    struct sched_param most = {.sched_priority = 99};
    struct { uint32_t size, policy; uint64_t flags; int32_t nice; uint32_t priority; uint64_t run, deadline, period; }
        deadline = {56, 6, 0, 0, 0, 900000, 1000000, 1000000};
    tell("first in first out", sched_setscheduler(0, SCHED_FIFO, &most));
    tell("round robin", sched_setscheduler(0, SCHED_RR, &most));
    tell("round robin without children", sched_setscheduler(0, SCHED_RR | 0x40000000, &most));
    tell("deadline", syscall(SYS_sched_setattr, 0, &deadline, 0));
    tell("disk", syscall(SYS_ioprio_set, 1, 0, 1 << 13));
    tell("disk of a user", syscall(SYS_ioprio_set, 3, 0, (1 << 13) | 7));
}

static void priorities(void)
{
    tell("nice -20", setpriority(PRIO_PROCESS, 0, -20));
    tell("nice of init", setpriority(PRIO_PROCESS, 1, -1));
    for (int kind = 0; kind < RLIM_NLIMITS; kind++) {
        struct rlimit limit = {0};
        if (kind == RLIMIT_CORE || kind == RLIMIT_NOFILE || kind == RLIMIT_FSIZE || kind == RLIMIT_NICE) {
            getrlimit(kind, &limit);
            limit.rlim_max += 1 << 20;
            tell("raise a limit", setrlimit(kind, &limit));
        }
    }
}

static void devices(void)
{
    const char *paths[] = {"/dev/mem", "/dev/kmem", "/dev/port", "/dev/kmsg", "/dev/fuse", "/dev/loop-control",
                           "/dev/loop0", "/dev/vda", "/dev/sda", "/dev/net/tun", "/dev/kvm", "/dev/vsock",
                           "/dev/vhost-vsock", "/dev/uinput", "/dev/tty1", "/dev/mapper/control"};
    for (unsigned i = 0; i < sizeof paths / sizeof *paths; i++)
        tell(paths[i], opened(paths[i], O_RDWR));
}

static void make_devices(void)
{
    const char *folders[] = {"/task", "/tmp", "/dev/shm"};
    for (unsigned i = 0; i < sizeof folders / sizeof *folders; i++) {
        char path[64];
        snprintf(path, sizeof path, "%s/null", folders[i]);
        tell("character device", mknod(path, S_IFCHR | 0666, makedev(1, 3)));
        snprintf(path, sizeof path, "%s/disk", folders[i]);
        tell("block device", mknod(path, S_IFBLK | 0666, makedev(254, 0)));
    }
}

static void identities(void)
{
    tell("setuid 0", setuid(0));
    tell("setgid 0", setgid(0));
    tell("setgroups", setgroups(1, (gid_t[]){0}));
    tell("setresuid", setresuid(-1, 0, -1));
    close(open("/task/mine", O_CREAT | O_WRONLY, 0600));
    tell("chown to root", chown("/task/mine", 0, 0));
    tell("chown a file of root", chown("/bin/busybox", 65532, 65532));
    tell("chmod a file of root", chmod("/bin/busybox", 04777));
}

static void identity(void)
{
    char line[256];
    FILE *status = fopen("/proc/self/status", "r");
    printf("euid %u egid %u\n", geteuid(), getegid());
    while (status && fgets(line, sizeof line, status))
        if (strncmp(line, "Cap", 3) == 0 || strncmp(line, "NoNewPrivs", 10) == 0 || strncmp(line, "Seccomp:", 8) == 0)
            fputs(line, stdout);
}

static void capabilities(void)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct all[2] = {{~0u, ~0u, ~0u}, {~0u, ~0u, ~0u}};
    tell("capset", syscall(SYS_capset, &header, all));
    tell("ambient", prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN, 0, 0));
    tell("securebits", prctl(PR_SET_SECUREBITS, 0x2f));
    tell("new privileges again", prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0));
    tell("personality", personality(0x0040000)); /* ADDR_NO_RANDOMIZE */
}

static void kernel_log(void)
{
    char text[PAGE];
    tell("syslog read", syscall(SYS_syslog, 3, text, sizeof text));
    tell("syslog clear", syscall(SYS_syslog, 5, 0, 0));
    tell("/proc/kmsg", opened("/proc/kmsg", O_RDONLY));
    tell("/dev/kmsg", opened("/dev/kmsg", O_WRONLY));
}

static void handles(void)
{
    /* How "shocker" read the host's files: a handle of the root inode of the file system below. */
    struct { struct file_handle head; uint64_t inode; } root = {{8, 1, {}}, SHOCKER_ROOT_INODE};
    int here = open("/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    tell("open_by_handle_at", syscall(SYS_open_by_handle_at, here, &root, O_RDONLY));
    tell("fanotify", syscall(SYS_fanotify_init, 0, 0));
    tell("userfaultfd", syscall(SYS_userfaultfd, 0));
    tell("mbind", syscall(SYS_mbind, 0, PAGE, MPOL_DEFAULT, 0, 0, 0));
    tell("move_pages", syscall(SYS_move_pages, 1, 0, 0, 0, 0, 0));
}

static void file_flags(void)
{
    int file = open("/task/stays", O_CREAT | O_RDWR | O_CLOEXEC, 0600), all = FS_IMMUTABLE_FL, seal = FS_APPEND_FL;
    int here = open("/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    tell("immutable", ioctl(file, FS_IOC_SETFLAGS, &all));
    tell("append only", ioctl(file, FS_IOC_SETFLAGS, &seal));
    tell("freeze", ioctl(here, FIFREEZE, 0));
    tell("trim", ioctl(here, FITRIM, (struct fstrim_range[]){{0, ~0ull, 0}}));
    tell("shutdown", ioctl(here, _IOR('X', 125, unsigned), (unsigned[]){2}));
    tell("trusted attribute", setxattr("/task/stays", "trusted.attack", "x", 1, 0));
    /* VFS_CAP_REVISION_2 with all permitted. */
    unsigned cap[] = {0x02000001, ~0u, ~0u, ~0u, ~0u};
    tell("file capability", setxattr("/task/stays", "security.capability", cap, sizeof cap, 0));
}

/* The doors of other calling conventions, tried in a child: some kernels end who knocks there. */
static void foreign_abi(void)
{
    const char *names[] = {"x32 io_uring", "x32 mount", "i386 io_uring", "i386 socketcall vsock", "i386 mount"};
    for (int i = 0; i < 5; i++) {
        pid_t child = fork();
        if (child == 0) {
            long result = 0;
            static unsigned vsock_arguments[] = {AF_VSOCK, SOCK_STREAM, 0};
            if (i == 0)
                result = syscall(X32 | SYS_io_uring_setup, 4, 0);
            else if (i == 1)
                result = syscall(X32 | SYS_mount, "none", "/tmp", "tmpfs", 0, "");
            else {
                const long number[] = {425, 102, 21}; /* io_uring_setup, socketcall, mount */
                __asm__ volatile("int $0x80"
                                 : "=a"(result)
                                 : "a"(number[i - 2]), "b"(i == 3 ? 1 : 0), "c"(i == 3 ? (long)vsock_arguments : 0),
                                   "d"(0), "S"(0), "D"(0)
                                 : "memory");
            }
            if (i > 1 && result < 0)
                errno = (int)-result;
            tell(names[i], result);
            _exit(0);
        }
        int status = 0;
        waitpid(child, &status, 0);
        if (WIFSIGNALED(status))
            printf("%s: SIGNAL\n", names[i]);
        fflush(stdout);
    }
}

static void try_address(const char *name, const char *address, int port, int type)
{
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, address, &there.sin_addr);
    int file = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    long result = connect(file, (struct sockaddr *)&there, sizeof there);
    if (result == 0 && type == SOCK_DGRAM)
        result = send(file, "x", 1, 0);
    tell(name, result);
    close(file);
}

static void egress(void)
{
    const char *grid = getenv("GRID_PORT");
    try_address("outside", "1.1.1.1", 80, SOCK_STREAM);
    try_address("private", "10.0.0.1", 443, SOCK_STREAM);
    try_address("metadata", "169.254.169.254", 80, SOCK_STREAM);
    try_address("dns", "8.8.8.8", 53, SOCK_DGRAM);
    try_address("docker bridge", "172.17.0.1", 2375, SOCK_STREAM);
    try_address("docker's resolver", "127.0.0.11", 53, SOCK_STREAM);
    try_address("broadcast", "255.255.255.255", 9, SOCK_DGRAM);
    try_address("the host's loopback", "127.0.0.1", grid ? atoi(grid) : 8080, SOCK_STREAM);
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(80)};
    inet_pton(AF_INET6, "2606:4700:4700::1111", &six.sin6_addr);
    tell("outside6", connect(socket(AF_INET6, SOCK_STREAM, 0), (struct sockaddr *)&six, sizeof six));
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    const char *name = getenv("ABSTRACT");
    snprintf(local.sun_path + 1, sizeof local.sun_path - 1, "%s", name ? name : "attack");
    socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(local.sun_path + 1));
    tell("abstract socket", connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&local, length));
}

static void interfaces(void)
{
    struct ifreq wanted = {.ifr_name = "lo", .ifr_flags = 0};
    int file = socket(AF_INET, SOCK_DGRAM, 0);
    tell("take lo down", ioctl(file, SIOCSIFFLAGS, &wanted));
    wanted.ifr_mtu = 68;
    tell("mtu of lo", ioctl(file, SIOCSIFMTU, &wanted));
    tell("promiscuous", setsockopt(file, SOL_SOCKET, SO_BINDTODEVICE, "eth0", 5));
    tell("mark", setsockopt(file, SOL_SOCKET, SO_MARK, (int[]){1}, sizeof(int)));
    tell("forced buffer", setsockopt(file, SOL_SOCKET, SO_RCVBUFFORCE, (int[]){1 << 30}, sizeof(int)));
}

static const struct { const char *name; void (*try)(void); } DOORS[] = {
    {"mounts", mounts},         {"tracing", tracing},       {"uring", uring},           {"vsock", vsock},
    {"families", families},     {"namespaces", namespaces}, {"keys", keys},             {"bpf", bpf},
    {"perf", perf},             {"modules", modules},       {"power", power},           {"clocks", clocks},
    {"priorities", priorities}, {"real_time", real_time}, {"devices", devices},       {"make_devices", make_devices},
    {"identity", identity},     {"identities", identities}, {"capabilities", capabilities}, {"kernel_log", kernel_log},
    {"handles", handles},       {"file_flags", file_flags}, {"foreign_abi", foreign_abi},
    {"egress", egress},         {"interfaces", interfaces},
};

int main(int count, char **arguments)
{
    for (int i = 1; i < count; i++)
        for (unsigned door = 0; door < sizeof DOORS / sizeof *DOORS; door++)
            if (strcmp(arguments[i], DOORS[door].name) == 0)
                DOORS[door].try();
    return 0;
}
