/* A line between two network namespaces on which each packet takes a constant time: `line MICROSECONDS`.
 *
 * Makes two namespaces, each with a TUN device (10.99.0.1 and 10.99.0.2) and a working loopback, and forwards between the
 * devices. Prints a path to each namespace, for setns(2), and serves until it is killed; the namespaces live as long as it
 * and whatever was started in them. Needs root.
 *
 * The devices have the usual MTU of 1500, and leave the cutting of large writes to the other side, as a network card does: so
 * TCP behaves as on a real line, and one process carries more than rsync can fill. Nothing is lost and nothing limits
 * the rate. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { LARGEST = 65536 + 64, AT_ONCE = 64, QUEUE = 10000 };

struct packet {
    struct packet *next;
    long long due; /* nanoseconds of CLOCK_MONOTONIC */
    size_t size;
    char bytes[];
};

/* What is on its way from one device to the other. */
struct direction {
    int from, to;
    struct packet *first, **last;
};

static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void change(int socket, unsigned long request, struct ifreq *interface) {
    if (ioctl(socket, request, interface) < 0) err(1, "setting up %s", interface->ifr_name);
}

static void up(int socket, struct ifreq *interface) {
    interface->ifr_flags = IFF_UP | IFF_RUNNING;
    change(socket, SIOCSIFFLAGS, interface);
}

/* Enters a new namespace and sets up its devices; the TUN device's descriptor. */
static int make_end(const char *address, const char *other) {
    if (unshare(CLONE_NEWNET) < 0) err(1, "a network namespace");
    int socket_ = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq loopback = {.ifr_name = "lo"};
    up(socket_, &loopback);

    int device = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (device < 0) err(1, "/dev/net/tun");
    struct ifreq tun = {.ifr_name = "line", .ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR};
    change(device, TUNSETIFF, &tun);
    if (ioctl(device, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4) < 0) err(1, "offloading");
    struct sockaddr_in *name = (struct sockaddr_in *)&tun.ifr_addr;
    memset(name, 0, sizeof *name);
    name->sin_family = AF_INET;
    inet_pton(AF_INET, address, &name->sin_addr);
    change(socket_, SIOCSIFADDR, &tun);
    inet_pton(AF_INET, other, &name->sin_addr);
    change(socket_, SIOCSIFDSTADDR, &tun);
    tun.ifr_qlen = QUEUE;
    change(socket_, SIOCSIFTXQLEN, &tun);
    up(socket_, &tun);
    close(socket_);
    return device;
}

static void deliver(struct direction *direction, long long time) {
    struct packet *packet;
    while ((packet = direction->first) && packet->due <= time) {
        /* The device refuses a packet only where the namespace is going away. */
        if (write(direction->to, packet->bytes, packet->size) < 0) warn("a packet");
        direction->first = packet->next;
        if (!direction->first) direction->last = &direction->first;
        free(packet);
    }
}

static void take(struct direction *direction, long long delay) {
    static char bytes[LARGEST];
    for (int count = 0; count < AT_ONCE; count++) {
        ssize_t size = read(direction->from, bytes, sizeof bytes);
        if (size < 0) return;
        struct packet *packet = malloc(sizeof *packet + size);
        if (!packet) err(1, "memory");
        *packet = (struct packet){.due = now() + delay, .size = size};
        memcpy(packet->bytes, bytes, size);
        *direction->last = packet;
        direction->last = &packet->next;
    }
}

/* The time until the next packet is due, or NULL for ever. */
static struct timespec *pause_(struct direction *directions, struct timespec *pause) {
    long long due = -1;
    for (int side = 0; side < 2; side++) {
        struct packet *packet = directions[side].first;
        if (packet && (due < 0 || packet->due < due)) due = packet->due;
    }
    if (due < 0) return NULL;
    long long left = due - now();
    if (left < 0) left = 0;
    *pause = (struct timespec){.tv_sec = left / 1000000000, .tv_nsec = left % 1000000000};
    return pause;
}

int main(int count, char **words) {
    long long delay = count == 2 ? atoll(words[1]) * 1000 : 0;
    if (delay <= 0) errx(2, "usage: line MICROSECONDS");
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_TIMERSLACK, 1);
    int here = make_end("10.99.0.1", "10.99.0.2");
    int namespace = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    int there = make_end("10.99.0.2", "10.99.0.1");
    printf("/proc/%d/fd/%d /proc/%d/ns/net\n", getpid(), namespace, getpid());
    fflush(stdout);

    struct direction directions[2] = {{.from = here, .to = there}, {.from = there, .to = here}};
    for (int side = 0; side < 2; side++) directions[side].last = &directions[side].first;
    struct pollfd readable[2] = {{.fd = here, .events = POLLIN}, {.fd = there, .events = POLLIN}};
    for (;;) {
        struct timespec pause;
        if (ppoll(readable, 2, pause_(directions, &pause), NULL) < 0) err(1, "waiting");
        for (int side = 0; side < 2; side++) {
            if (readable[side].revents) take(&directions[side], delay);
            deliver(&directions[side], now());
        }
    }
}
