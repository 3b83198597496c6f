/*
 * server.h - a real PostgreSQL in a temporary folder, on a free port.
 *
 * It does not run as root: then it runs as the user postgres, as Debian makes one.
 */
#ifndef TESTS_STORE_SERVER_H
#define TESTS_STORE_SERVER_H

#include "tests/unit/cacher/store/fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <postgresql/libpq-fe.h>
#include <pwd.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

static char server_folder[64], server_bin[200];
static int server_port;
static pid_t server_pid;
static uid_t server_user;
static gid_t server_group;

static bool find_server(void)
{
    glob_t found;
    const struct passwd *user = getpwnam("postgres");

    if (geteuid() == 0 && user == NULL)
        return false;
    if (geteuid() == 0) {
        server_user = user->pw_uid;
        server_group = user->pw_gid;
    }
    if (glob("/usr/lib/postgresql/*/bin/initdb", 0, NULL, &found) != 0)
        return false;
    snprintf(server_bin, sizeof server_bin, "%s", found.gl_pathv[found.gl_pathc - 1]);
    *strrchr(server_bin, '/') = '\0';
    globfree(&found);
    return true;
}

static int free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    close(fd);
    return ntohs(address.sin_port);
}

/* Starts a program of PostgreSQL, as its user, its words in the folder's log. */
static pid_t start_program(const char *program, const char *const arguments[])
{
    char file[300], log[100];

    snprintf(file, sizeof file, "%s/%s", server_bin, program);
    snprintf(log, sizeof log, "%s/log", server_folder);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid > 0)
        return pid;
    if (server_user != 0 && (setgroups(0, NULL) != 0 || setgid(server_group) != 0 ||
                             setuid(server_user) != 0))
        _exit(126);
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    (void)dup2(fd, 1);
    (void)dup2(fd, 2);
    for (int i = 3; i < 256; i++)
        close(i);
    if (chdir("/") < 0)
        _exit(71);
    /* By its path: it looks for its companions beside it, or else in PATH. */
    const char *words[24] = {file};
    for (unsigned i = 1; i < 23 && arguments[i] != NULL; i++)
        words[i] = arguments[i];
    (void)execv(file, (char *const *)(uintptr_t)words);
    _exit(127);
}

static void server_start(void)
{
    char port[16], data[100];

    snprintf(port, sizeof port, "%d", server_port);
    snprintf(data, sizeof data, "%s/data", server_folder);
    const char *const arguments[] = {"postgres", "-D", data, "-p", port, NULL};
    server_pid = start_program("postgres", arguments);
}

/* SIGQUIT is the end without a shutdown: what follows is recovery from the log. */
static void server_stop(int signal)
{
    assert_int_equal(kill(server_pid, signal), 0);
    assert_int_equal(waitpid(server_pid, NULL, 0), server_pid);
    server_pid = 0;
}

#define SERVER_PASSWORD                                                                  \
    "secret%%2F%%3A%%40word" /* "secret/:@word", in a format of a URL */

static bool server_make(void)
{
    char data[100], password[100], text[200];
    int status = -1;

    if (!find_server())
        return false;
    strcpy(server_folder, "/tmp/siftmesh-pg-XXXXXX");
    assert_non_null(mkdtemp(server_folder));
    snprintf(data, sizeof data, "%s/data", server_folder);
    snprintf(password, sizeof password, "--pwfile=%s/password", server_folder);
    FILE *file = fopen(strchr(password, '/'), "w");
    assert_non_null(file);
    fprintf(file, "secret/:@word\n");
    fclose(file);
    if (geteuid() == 0) {
        assert_int_equal(chown(server_folder, server_user, server_group), 0);
        assert_int_equal(chown(strchr(password, '/'), server_user, server_group), 0);
    }
    const char *const arguments[] = {
        "initdb", "-D",        data, "-U",   "siftmesh",   "-A", "scram-sha-256",
        password, "--no-sync", "-E", "UTF8", "--locale=C", NULL};
    pid_t pid = start_program("initdb", arguments);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    server_port = free_port();
    snprintf(text, sizeof text, "%s/data/postgresql.conf", server_folder);
    file = fopen(text, "a");
    assert_non_null(file);
    /* Processes die here, machines do not: no waiting for the disk. */
    fprintf(file,
            "listen_addresses = '127.0.0.1'\nunix_socket_directories = '%s'\n"
            "fsync = off\nshared_buffers = 16MB\nmax_connections = 60\n"
            "max_wal_size = 128MB\nautovacuum_naptime = 5s\n",
            server_folder);
    fclose(file);
    server_start();
    return true;
}

static void server_remove(void)
{
    char command[200];

    if (server_pid != 0)
        server_stop(SIGQUIT);
    snprintf(command, sizeof command, "rm -rf '%s'", server_folder);
    if (system(command) != 0)
        fprintf(stderr, "%s is left\n", server_folder);
}

/* ---- behind the store's back ---- */

static PGconn *server_connect(void)
{
    char info[200];

    snprintf(
        info, sizeof info,
        "host=127.0.0.1 port=%d user=siftmesh password='secret/:@word' dbname=postgres "
        "application_name=test options='-c search_path=siftmesh,public'",
        server_port);
    uint64_t until_us = uv_hrtime() / 1000 + DEADLINE_US;
    for (;;) { /* it may just be starting */
        PGconn *db = PQconnectdb(info);
        if (PQstatus(db) == CONNECTION_OK)
            return db;
        if (uv_hrtime() / 1000 > until_us)
            fail_msg("%s", PQerrorMessage(db));
        PQfinish(db);
        uv_run(&loop, UV_RUN_ONCE);
    }
}

static long long sql_with(PGconn *db, const char *text)
{
    PGresult *result = PQexec(db, text);
    ExecStatusType status = PQresultStatus(result);
    long long value = 0;

    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
        fail_msg("%s: %s", text, PQerrorMessage(db));
    if (PQntuples(result) > 0)
        value = atoll(PQgetvalue(result, 0, 0));
    PQclear(result);
    return value;
}

static long long sql_number(const char *text)
{
    PGconn *db = server_connect();
    long long value = sql_with(db, text);

    PQfinish(db);
    return value;
}

static void sql(const char *text)
{
    (void)sql_number(text);
}

/* The store's connections that wait for a lock of ours. */
#define BLOCKED                                                                          \
    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'siftmesh'"          \
    " AND wait_event_type = 'Lock'"
#define TERMINATE                                                                        \
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"                      \
    " WHERE application_name = 'siftmesh'"

static void empty(void)
{
    sql("SET client_min_messages = error; DROP SCHEMA IF EXISTS siftmesh CASCADE");
}

#endif
