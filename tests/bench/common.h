/* What both load tools need: a clock, a growing buffer, a way to end with a reason. */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct buf {
    char *data;
    size_t len;
    size_t cap;
};

static inline void die(const char *what)
{
    perror(what);
    exit(1);
}

/* Both tools run on one machine, so that the upstream's stamps and the client's clock are the same clock. */
static inline uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline void *checked(void *memory)
{
    if (!memory)
        die("memory");
    return memory;
}

/* Room for `more` bytes after what is there. */
static inline void buf_reserve(struct buf *b, size_t more)
{
    if (b->cap - b->len >= more)
        return;
    size_t cap = b->cap ? b->cap : 4096;
    while (cap - b->len < more)
        cap *= 2;
    b->data = checked(realloc(b->data, cap));
    b->cap = cap;
}

static inline void buf_add(struct buf *b, const void *data, size_t len)
{
    buf_reserve(b, len);
    memcpy(b->data + b->len, data, len);
    b->len += len;
}

static inline void buf_text(struct buf *b, const char *text)
{
    buf_add(b, text, strlen(text));
}

/* Forget the first `len` bytes. */
static inline void buf_drop(struct buf *b, size_t len)
{
    memmove(b->data, b->data + len, b->len - len);
    b->len -= len;
}

static inline void buf_free(struct buf *b)
{
    free(b->data);
    memset(b, 0, sizeof *b);
}

#endif
