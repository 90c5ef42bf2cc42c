/* What of C's standard library works in a handler: each line of the answer is one thing that was tried, and what came of
 * it. With the target /exit, /abort, /assert or /memory it ends in that way instead. */
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "tidegate.h"

static char text[4096];
static size_t text_len;

static void say(const char *format, ...) {
    va_list args;
    va_start(args, format);
    text_len += (size_t)vsnprintf(text + text_len, sizeof text - text_len, format, args);
    va_end(args);
}

static int constructed;

__attribute__((constructor)) static void construct(void) {
    constructed++;
}

static void at_exit(void) {
    puts("atexit ran");
}

static void end_as(const char *how) {
    atexit(at_exit);
    if (strcmp(how, "exit") == 0) exit(3);
    if (strcmp(how, "abort") == 0) abort();
    if (strcmp(how, "assert") == 0) assert(!"this was asserted");
    /* There is no NULL: memory that may not grow ends the handler. */
    while (strcmp(how, "memory") == 0) *(volatile char *)malloc(1 << 20) = 1;
}

static void memory(void) {
    char *block = malloc(3 << 20);
    say("malloc: %s\n", block ? "yes" : "no");
    if (block) memset(block, 7, 3 << 20);
    block = realloc(block, 5 << 20);
    say("realloc: %s\n", block && block[(3 << 20) - 1] == 7 ? "yes" : "no");
    free(block);
    void *aligned = NULL;
    say("posix_memalign: %d\n", posix_memalign(&aligned, 4096, 100));
    free(aligned);
}

static void clocks(void) {
    struct timespec began, ended, wait = {.tv_nsec = 20 * 1000 * 1000};
    clock_gettime(CLOCK_MONOTONIC, &began);
    int slept = nanosleep(&wait, NULL);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    long long ns = (ended.tv_sec - began.tv_sec) * 1000000000ll + (ended.tv_nsec - began.tv_nsec);
    say("nanosleep: %d, %s\n", slept, ns >= wait.tv_nsec && ns < 5000000000ll ? "as long as asked" : "not as asked");
    time_t now = time(NULL);
    struct tm utc;
    say("time: %d\n", gmtime_r(&now, &utc)->tm_year + 1900);
    struct timespec resolution;
    say("clock_getres: %d\n", clock_getres(CLOCK_MONOTONIC, &resolution));
    say("usleep: %d\n", usleep(1000));
}

static void files(void) {
    FILE *file = fopen("/etc/passwd", "r");
    say("fopen: %s\n", file ? "yes" : strerror(errno));
    char word[16];
    say("stdin: %s\n", fgets(word, sizeof word, stdin) ? word : feof(stdin) ? "at its end" : strerror(errno));
    say("isatty: %d\n", isatty(1));
    say("lseek: %s\n", lseek(1, 0, SEEK_SET) == -1 ? strerror(errno) : "yes");
    say("close of 9: %s\n", close(9) == -1 ? strerror(errno) : "yes");
    printf("printed %d\n", 1);
    fprintf(stderr, "printed %d\n", 2);
    printf("printed 3, without an end");
    fflush(stdout);
}

TIDEGATE_EXPORT("tidegate_handle") int32_t handle(void) {
    _Alignas(8) char bytes[4096];
    if (tidegate_request_head(bytes, sizeof bytes) > (int32_t)sizeof bytes) return 1;
    const tidegate_request_head_t *head = (const void *)bytes;
    char target[32] = "";
    if (head->target.len < sizeof target) memcpy(target, bytes + head->target.offset, head->target.len);
    end_as(target + 1);

    say("constructors: %d\n", constructed);
    say("getenv: %s\n", getenv("WHO") ? getenv("WHO") : "none");
    say("snprintf: %.3f %5d %-4s| %zu %llx\n", 3.14159, 42, "ab", sizeof(void *), 0xfeedfacecafell);
    say("strtod: %g\n", strtod("2.5e-3", NULL));
    say("sqrt: %.4f\n", sqrt(2));
    memory();
    clocks();
    unsigned char random[16] = {0};
    say("getentropy: %d\n", getentropy(random, sizeof random));
    files();
    return tidegate_respond(200, NULL, 0, text, text_len) == 0 ? 0 : 1;
}
