/*
 * run.c - `siftmesh run PHOTO...`: the whole mesh for as long as it takes to show what it
 * does: start it, send the photos over HTTP twice, draw the keypoints, stop it.
 */
#include "client/command/command.h"
#include "proto/render.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#define READY_TIMEOUT_MS 30000
#define HTTP_TIMEOUT_MS  120000

struct mesh_process {
    pid_t pid;
    char dir[64], url[64];
};

/* ---- a mesh of our own ---- */

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static bool wait_ready(int notify_fd, pid_t pid)
{
    int64_t until = now_ms() + READY_TIMEOUT_MS;
    char text[512], value[8];

    while (now_ms() < until) {
        struct pollfd item = {.fd = notify_fd, .events = POLLIN};
        poll(&item, 1, 100);
        if (command_notify_read(notify_fd, text, sizeof text) == pid &&
            command_notify_value(text, "READY", value, sizeof value))
            return true;
        if (waitpid(pid, NULL, WNOHANG) == pid)
            return false; /* it said why */
    }
    fprintf(stderr, "siftmesh run: the mesh is not ready after %d s\n",
            READY_TIMEOUT_MS / 1000);
    kill(pid, SIGTERM);
    return false;
}

static bool read_port(struct mesh_process *mesh)
{
    char path[96], text[16] = "";

    snprintf(path, sizeof path, "%s/gateway.port", mesh->dir);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    bool ok = fgets(text, sizeof text, file) != NULL && atoi(text) > 0;
    fclose(file);
    snprintf(mesh->url, sizeof mesh->url, "http://127.0.0.1:%d", atoi(text));
    return ok;
}

static bool start_mesh(struct mesh_process *mesh)
{
    char program[512], name[COMMAND_NOTIFY_BYTES];
    int fd = command_notify_open(name, sizeof name);

    snprintf(mesh->dir, sizeof mesh->dir, "/tmp/siftmesh-run-XXXXXX");
    if (fd < 0 || mkdtemp(mesh->dir) == NULL ||
        !command_beside("siftmesh", program, sizeof program)) {
        fprintf(stderr, "siftmesh run: %s\n", strerror(errno));
        return false;
    }
    printf("starting a mesh in %s\n", mesh->dir);
    fflush(stdout);
    pid_t parent = getpid();
    mesh->pid = fork();
    if (mesh->pid == 0) {
        if (freopen("/dev/null", "w", stdout) == NULL) /* its story is not ours */
            _exit(EX_OSERR);
        signal(SIGINT, SIG_DFL);
        signal(SIGTERM, SIG_DFL);
        signal(SIGHUP, SIG_DFL);
        setenv("NOTIFY_SOCKET", name, 1);
        setpgid(0, 0); /* Ctrl-C is for us to pass on */
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (getppid() != parent)
            _exit(EX_TEMPFAIL); /* the parent died before prctl */
        execl(program, program, "up", "--runtime-dir", mesh->dir, "--listen",
              "127.0.0.1:0", "--monitor-listen", "127.0.0.1:0", "--store", "none",
              (char *)NULL);
        _exit(EX_UNAVAILABLE);
    }
    bool ok = mesh->pid > 0 && wait_ready(fd, mesh->pid) && read_port(mesh);
    close(fd);
    return ok;
}

static void remove_dir(const char *dir)
{
    pid_t pid = fork();
    if (pid == 0) {
        execlp("rm", "rm", "-rf", "--", dir, (char *)NULL);
        _exit(EX_OSERR);
    }
    if (pid > 0)
        waitpid(pid, NULL, 0);
}

static void stop_mesh(struct mesh_process *mesh)
{
    if (mesh->pid > 0) {
        kill(mesh->pid, SIGINT);
        waitpid(mesh->pid, NULL, 0);
    }
    if (mesh->dir[0] != '\0')
        remove_dir(mesh->dir);
}

static struct mesh_process *mesh_to_stop;

/* Leaves nothing behind: calls nothing but what is safe in a handler. */
static void on_interrupt(int number)
{
    stop_mesh(mesh_to_stop);
    _exit(128 + number);
}

/* ---- one photo ---- */

/* "decode;dur=1.25, sift;dur=88" -> the number behind a stage; 0: not there. */
static double stage_ms(const char *timing, const char *stage)
{
    size_t length = strlen(stage);

    for (const char *at = strstr(timing, stage); at != NULL; at = strstr(at + 1, stage)) {
        bool begins = at == timing || at[-1] == ' ' || at[-1] == ',';
        if (begins && strncmp(at + length, ";dur=", 5) == 0)
            return strtod(at + length + 5, NULL);
    }
    return 0;
}

static int complain(const char *photo, long status, const char *body)
{
    fprintf(stderr, "%s: HTTP %ld: %s\n", command_shown(photo), status,
            body != NULL ? command_shown(body) : "");
    return status == 415 || status == 422 || status == 413 ? EX_DATAERR : EX_TEMPFAIL;
}

static void print_times(const struct command_http *cold, const struct command_http *warm)
{
    static const char *const stages[] = {"recv", "queue", "decode", "denoise", "sift"};
    char timing[512] = "", cache[32] = "?";

    command_http_header(cold, "Server-Timing", timing, sizeof timing);
    printf("  cold    %8.2f ms:", cold->seconds * 1000);
    for (int i = 0; i < 5; i++)
        printf(" %s %.2f%s", stages[i], stage_ms(timing, stages[i]), i < 4 ? "," : "\n");
    command_http_header(warm, "X-Cache", cache, sizeof cache);
    printf("  again   %8.2f ms: cache %s\n", warm->seconds * 1000, cache);
}

/* NAME.features.png in the current folder, drawn on the picture that the mesh denoised.
 */
static int write_picture(const struct mesh_process *mesh, const char *photo,
                         const uint8_t *image, size_t size, const struct proto_blob *blob)
{
    char url[128], error[300], path[512];
    const char *base = strrchr(photo, '/');
    struct command_http grey;
    uint8_t *png = NULL;
    size_t png_bytes = 0;

    snprintf(url, sizeof url, "%s/v1/denoise", mesh->url);
    if (!command_http_post(url, "image/png", image, size, HTTP_TIMEOUT_MS, &grey, error,
                           sizeof error)) {
        fprintf(stderr, "%s: %s\n", command_shown(photo), command_shown(error));
        return EX_UNAVAILABLE;
    }
    int code =
        grey.status == 200 ? EX_OK : complain(photo, grey.status, (char *)grey.body);
    if (code == EX_OK && command_draw(grey.body, grey.size, blob, &png, &png_bytes) < 0)
        code = EX_SOFTWARE;
    snprintf(path, sizeof path, "%s.features.png", base != NULL ? base + 1 : photo);
    if (code == EX_OK && !command_write_file(path, png, png_bytes))
        code = EX_CANTCREAT;
    if (code == EX_OK)
        printf("  drawn   %s\n", command_shown(path));
    free(png);
    command_http_free(&grey);
    return code;
}

static int show(const struct mesh_process *mesh, const char *photo, const uint8_t *image,
                size_t size)
{
    char url[128], error[300];
    struct command_http cold, warm;
    struct proto_blob blob;
    int code;

    snprintf(url, sizeof url, "%s/v1/features", mesh->url);
    const char *accept = proto_format_media(PROTO_FORMAT_BIN);
    if (!command_http_post(url, accept, image, size, HTTP_TIMEOUT_MS, &cold, error,
                           sizeof error)) {
        fprintf(stderr, "%s: %s\n", command_shown(photo), command_shown(error));
        return EX_UNAVAILABLE;
    }
    if (cold.status != 200) {
        code = complain(photo, cold.status, (char *)cold.body);
    } else if (!command_http_post(url, accept, image, size, HTTP_TIMEOUT_MS, &warm, error,
                                  sizeof error)) {
        fprintf(stderr, "%s: %s\n", command_shown(photo), command_shown(error));
        code = EX_UNAVAILABLE;
    } else if (proto_blob_decode(cold.body, cold.size, &blob) < 0 ||
               warm.size != cold.size || memcmp(warm.body, cold.body, cold.size) != 0) {
        fprintf(stderr, "%s: the answers are not valid, or not equal\n",
                command_shown(photo));
        code = EX_PROTOCOL;
        command_http_free(&warm);
    } else {
        printf("%s\n  size    %u x %u, %u keypoints\n", command_shown(photo),
               blob.width_px, blob.height_px, blob.count);
        print_times(&cold, &warm);
        code = write_picture(mesh, photo, image, size, &blob);
        command_http_free(&warm);
    }
    command_http_free(&cold);
    return code;
}

static int show_all(const struct mesh_process *mesh, int count, char **photos)
{
    int code = EX_OK;

    for (int i = 0; i < count; i++) {
        size_t size;
        uint8_t *image = command_read_file(photos[i], &size);
        int one = image != NULL ? show(mesh, photos[i], image, size) : EX_NOINPUT;
        code = code == EX_OK ? one : code;
        free(image);
    }
    if (count == 0) {
        size_t size;
        uint8_t *image = command_scene(&size);
        code = image != NULL ? show(mesh, "sample-scene.pgm", image, size) : EX_OSERR;
        free(image);
    }
    return code;
}

int command_run(int argc, char **argv)
{
    struct mesh_process mesh = {0};
    int code = EX_UNAVAILABLE;

    if (argc > 1 && argv[1][0] == '-') {
        printf("Usage: siftmesh run [PHOTO...]\n"
               "Start a mesh, send it the photos (or a generated scene), print size,\n"
               "keypoints and times, write PHOTO.features.png here, stop the mesh.\n");
        return strcmp(argv[1], "--help") == 0 ? EX_OK : EX_USAGE;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    mesh_to_stop = &mesh;
    signal(SIGINT, on_interrupt);
    signal(SIGTERM, on_interrupt);
    signal(SIGPIPE, on_interrupt); /* the reader of what is printed has gone */
    if (signal(SIGHUP, on_interrupt) == SIG_IGN)
        signal(SIGHUP, SIG_IGN); /* nohup */
    if (start_mesh(&mesh))
        code = show_all(&mesh, argc - 1, argv + 1);
    command_http_close();
    stop_mesh(&mesh);
    return code;
}
