#include "client/command/command.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/*
 * An abstract address that the kernel picks: no file to clean up. Others in this network
 * namespace could write to it, so senders are told apart by the pid that the kernel
 * attests (SCM_CREDENTIALS, unix(7)).
 */
int command_notify_open(char *name, size_t capacity)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t length = sizeof address;
    int on = 1;

    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) < 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address.sun_family) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &length) < 0) {
        int err = -errno;
        close(fd);
        return err;
    }
    int size = (int)length - (int)offsetof(struct sockaddr_un, sun_path) - 1;
    snprintf(name, capacity, "@%.*s", size, address.sun_path + 1);
    return fd;
}

pid_t command_notify_read(int fd, char *text, size_t capacity)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(struct ucred))];
    } control;
    struct iovec iov = {text, capacity - 1};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof control};

    ssize_t n = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0)
        return 0;
    text[n] = '\0';
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    if (c == NULL || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_CREDENTIALS)
        return 0;
    struct ucred who;
    memcpy(&who, CMSG_DATA(c), sizeof who);
    return who.pid;
}

bool command_notify_value(const char *text, const char *name, char *out, size_t capacity)
{
    size_t length = strlen(name);

    for (const char *line = text; line != NULL && *line != '\0';) {
        const char *end = strchrnul(line, '\n');
        if (strncmp(line, name, length) == 0 && line[length] == '=') {
            snprintf(out, capacity, "%.*s", (int)(end - line - (int)length - 1),
                     line + length + 1);
            return true;
        }
        line = *end == '\n' ? end + 1 : NULL;
    }
    return false;
}
