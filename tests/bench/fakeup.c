/* fakeup: a fake model server that costs next to nothing, for measuring what stands in front of it.
 *
 *   gcc -O2 -o fakeup fakeup.c
 *   fakeup -p PORT [-u] [-s]
 *
 * GET  /v1/models             one model, "bench"; any other GET: {"status":"ok"}
 * POST (any path)             a chat completion in vLLM's format, as JSON or as SSE when "stream" is true
 *
 * A request says what it wants in ordinary fields, so that its wishes survive every proxy:
 *   "max_tokens": N           N words of prose; in a stream one event a word
 *   "seed": D                 D microseconds between two events, or before a JSON answer
 *   "include_usage": true     a usage chunk before [DONE]; with "continuous_usage_stats": true usage in every chunk
 *
 * Events of all streams leave on a common grid of D, as an inference engine's steps do; -u gives every stream
 * its own. With -s each text begins with "@" and the sending time as 16 digits, for reading one-way delays.
 * Each event is one send() and one HTTP chunk. One thread, epoll, loopback only.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "common.h"
#include "prose.h"

#define MAX_WORDS 1024
#define MAX_TOKENS 100000
#define READ_SIZE 65536
#define LOOK_AT 4096 /* fields are searched this far from both ends: a picture in the middle costs nothing */
#define IDENTITY "\"id\":\"chatcmpl-0123456789abcdef0123456789abcdef\""
#define ABOUT ",\"created\":1767225600,\"model\":\"bench\","
#define CHUNK "{" IDENTITY ",\"object\":\"chat.completion.chunk\"" ABOUT "\"choices\":["
#define DELTA CHUNK "{\"index\":0,\"delta\":"
#define HEAD "HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\nserver: uvicorn\r\n"

enum doing { READING, THINKING, STREAMING };

struct conn {
    int fd;
    enum doing doing;
    struct buf in;
    struct buf out;
    size_t sent; /* of `out` */
    bool wants_write;
    bool dead;
    bool usage;
    bool usage_always;
    long tokens;
    long said;
    uint64_t step; /* ns between events */
    uint64_t due;
    long place; /* in `waiting`, or -1 */
};

struct word {
    const char *text;
    size_t len;
};

static struct word words[MAX_WORDS];
static size_t word_count;
static bool own_grids;
static bool stamps;
static int poller;
static int timer;
static struct conn **waiting; /* connections with something due; few enough to be scanned */
static long waiting_count;
static long waiting_cap;

/* -- What is due ------------------------------------------------------------------------------------------ */

static void wait_for_due(struct conn *c)
{
    if (c->place >= 0)
        return;
    if (waiting_count == waiting_cap) {
        waiting_cap = waiting_cap ? waiting_cap * 2 : 256;
        waiting = checked(realloc(waiting, (size_t)waiting_cap * sizeof *waiting));
    }
    c->place = waiting_count;
    waiting[waiting_count++] = c;
}

static void stop_waiting(struct conn *c)
{
    if (c->place < 0)
        return;
    struct conn *last = waiting[--waiting_count];
    waiting[c->place] = last;
    last->place = c->place;
    c->place = -1;
}

static void set_due(struct conn *c, uint64_t now)
{
    if (!c->step)
        c->due = now;
    else if (own_grids)
        c->due = (c->due ? c->due : now) + c->step;
    else
        c->due = (now / c->step + 1) * c->step;
}

static void arm_timer(void)
{
    static uint64_t armed;
    uint64_t first = 0;
    for (long i = 0; i < waiting_count; i++)
        if (!waiting[i]->wants_write && (!first || waiting[i]->due < first))
            first = waiting[i]->due;
    if (first == armed && first > now_ns())
        return;
    struct itimerspec at = {.it_value = {(time_t)(first / 1000000000u), (long)(first % 1000000000u)}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
    armed = first;
}

/* -- Output ----------------------------------------------------------------------------------------------- */

static void want_write(struct conn *c, bool wanted)
{
    if (c->wants_write == wanted)
        return;
    struct epoll_event e = {.events = EPOLLIN | (wanted ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e);
    c->wants_write = wanted;
}

static void flush(struct conn *c)
{
    while (c->sent < c->out.len) {
        ssize_t n = send(c->fd, c->out.data + c->sent, c->out.len - c->sent, MSG_NOSIGNAL);
        if (n > 0) {
            c->sent += (size_t)n;
        } else {
            if (errno == EAGAIN)
                want_write(c, true);
            else
                c->dead = true;
            return;
        }
    }
    c->out.len = c->sent = 0;
    want_write(c, false);
}

/* One event as one HTTP chunk. */
static void add_event(struct conn *c, const char *data, size_t len)
{
    char size[24];
    snprintf(size, sizeof size, "%zx\r\n", len + 8);
    buf_text(&c->out, size);
    buf_text(&c->out, "data: ");
    buf_add(&c->out, data, len);
    buf_text(&c->out, "\n\n\r\n");
}

static void put_usage(char *to, size_t size, long said)
{
    snprintf(to, size, ",\"usage\":{\"prompt_tokens\":20,\"total_tokens\":%ld,\"completion_tokens\":%ld}", 20 + said,
             said);
}

static void add_word(struct conn *c)
{
    static const char tail[] = "\"},\"logprobs\":null,\"finish_reason\":null,\"token_ids\":null}]";
    char event[512];
    char stamp[24] = "";
    char usage[128] = "";
    const struct word *w = &words[(size_t)c->said % word_count];
    if (stamps)
        snprintf(stamp, sizeof stamp, "@%016llu ", (unsigned long long)now_ns());
    if (c->usage_always)
        put_usage(usage, sizeof usage, c->said + 1);
    int n = snprintf(event, sizeof event, DELTA "{\"content\":\"%s%.*s%s%s}", stamp, (int)w->len, w->text, tail, usage);
    add_event(c, event, (size_t)n);
    c->said++;
}

static void add_stream_start(struct conn *c)
{
    static const char role[] =
        DELTA "{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,\"finish_reason\":null}]}";
    buf_text(&c->out, HEAD "content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n");
    add_event(c, role, sizeof role - 1);
}

static void add_stream_end(struct conn *c)
{
    static const char stop[] = DELTA
        "{\"content\":\"\"},\"logprobs\":null,\"finish_reason\":\"stop\",\"stop_reason\":null,\"token_ids\":null}]}";
    add_event(c, stop, sizeof stop - 1);
    if (c->usage) {
        char usage[128];
        char event[512];
        put_usage(usage, sizeof usage, c->tokens);
        int n = snprintf(event, sizeof event, CHUNK "]%s}", usage);
        add_event(c, event, (size_t)n);
    }
    add_event(c, "[DONE]", 6);
    buf_text(&c->out, "0\r\n\r\n");
}

static void add_json(struct conn *c, const char *body, size_t len)
{
    char head[256];
    snprintf(head, sizeof head, HEAD "content-length: %zu\r\ncontent-type: application/json\r\n\r\n", len);
    buf_text(&c->out, head);
    buf_add(&c->out, body, len);
}

/* The last answer is kept: a benchmark asks for the same length again and again. */
static void add_completion(struct conn *c)
{
    static struct buf body;
    static long body_tokens = -1;
    if (body_tokens != c->tokens) {
        char tail[512];
        body.len = 0;
        buf_text(&body, "{" IDENTITY ",\"object\":\"chat.completion\"" ABOUT
                        "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"");
        for (long i = 0; i < c->tokens; i++)
            buf_add(&body, words[(size_t)i % word_count].text, words[(size_t)i % word_count].len);
        snprintf(tail, sizeof tail,
                 "\",\"refusal\":null,\"annotations\":null,\"audio\":null,\"function_call\":null,\"tool_calls\":[],"
                 "\"reasoning\":null},\"logprobs\":null,\"finish_reason\":\"stop\",\"stop_reason\":null,"
                 "\"token_ids\":null}],\"service_tier\":null,\"system_fingerprint\":null,\"usage\":{"
                 "\"prompt_tokens\":20,\"total_tokens\":%ld,\"completion_tokens\":%ld,"
                 "\"prompt_tokens_details\":null},\"prompt_logprobs\":null,\"prompt_token_ids\":null,"
                 "\"kv_transfer_params\":null}",
                 20 + c->tokens, c->tokens);
        buf_text(&body, tail);
        body_tokens = c->tokens;
    }
    add_json(c, body.data, body.len);
}

/* -- Requests --------------------------------------------------------------------------------------------- */

static bool field_in(const char *from, size_t len, const char *key, long *value)
{
    const char *end = from + len;
    const char *at = memmem(from, len, key, strlen(key));
    if (!at)
        return false;
    at += strlen(key);
    while (at < end && (*at == ' ' || *at == ':'))
        at++;
    if (at == end)
        return false;
    *value = *at == 't' ? 1 : atol(at); /* the buffer always has a byte after the body */
    return true;
}

/* A field's number or boolean, near the end of the body or near its start. */
static long field(const char *body, size_t len, const char *key, long otherwise)
{
    size_t near = len < LOOK_AT ? len : LOOK_AT;
    long value = otherwise;
    if (!field_in(body + len - near, near, key, &value))
        field_in(body, near, key, &value);
    return value;
}

static void answer_get(struct conn *c, const char *head)
{
    static const char models[] =
        "{\"object\":\"list\",\"data\":[{\"id\":\"bench\",\"object\":\"model\",\"created\":1767225600,"
        "\"owned_by\":\"vllm\",\"root\":\"bench\",\"parent\":null,\"max_model_len\":131072,\"permission\":[]}]}";
    static const char well[] = "{\"status\":\"ok\"}";
    if (!strncmp(head, "GET /v1/models", 14))
        add_json(c, models, sizeof models - 1);
    else
        add_json(c, well, sizeof well - 1);
}

static void answer_chat(struct conn *c, const char *body, size_t len)
{
    long tokens = field(body, len, "\"max_tokens\"", -1);
    if (tokens < 0)
        tokens = field(body, len, "\"max_completion_tokens\"", 100);
    long delay = field(body, len, "\"seed\"", 0);
    c->tokens = tokens > MAX_TOKENS ? MAX_TOKENS : tokens;
    c->step = delay > 0 ? (uint64_t)delay * 1000 : 0;
    c->due = 0;
    c->said = 0;
    if (field(body, len, "\"stream\"", 0)) {
        c->usage = field(body, len, "\"include_usage\"", 0);
        c->usage_always = c->usage && field(body, len, "\"continuous_usage_stats\"", 0);
        c->doing = STREAMING;
        add_stream_start(c);
    } else if (c->step) {
        c->doing = THINKING;
    } else {
        add_completion(c);
        return;
    }
    if (c->doing == THINKING)
        c->due = now_ns() + c->step;
    else
        set_due(c, now_ns());
    wait_for_due(c);
}

/* Undo chunking in place; returns the bytes taken from the wire, 0 if the body is not complete yet. */
static size_t unchunk(char *from, size_t len, size_t *body_len)
{
    char *at = from;
    char *end = from + len;
    size_t size = 1;
    while (size) { /* first look whether all of it is there: the copy below cannot be repeated */
        char *line_end = memmem(at, (size_t)(end - at), "\r\n", 2);
        if (!line_end)
            return 0;
        size = strtoul(at, NULL, 16);
        at = line_end + 2;
        if ((size_t)(end - at) < size + 2)
            return 0;
        at += size + 2;
    }
    size_t taken = (size_t)(at - from);
    char *to = from;
    at = from;
    while ((size = strtoul(at, NULL, 16))) {
        at = (char *)memmem(at, (size_t)(end - at), "\r\n", 2) + 2;
        memmove(to, at, size);
        to += size;
        at += size + 2;
    }
    *body_len = (size_t)(to - from);
    return taken;
}

/* Answer the first request in `data` if it is complete; returns its length, else 0. */
static size_t take_request(struct conn *c, char *data, size_t len)
{
    char *head_end = memmem(data, len, "\r\n\r\n", 4);
    if (!head_end)
        return 0;
    size_t head_len = (size_t)(head_end - data) + 4;
    size_t body_len = 0;
    size_t taken = head_len;
    bool chunked = false;
    for (char *line = data; line < head_end; line = (char *)memmem(line, head_len, "\r\n", 2) + 2) {
        if (!strncasecmp(line, "content-length:", 15))
            body_len = strtoul(line + 15, NULL, 10);
        chunked |= !strncasecmp(line, "transfer-encoding: chunked", 26);
    }
    if (chunked) {
        size_t body = unchunk(data + head_len, len - head_len, &body_len);
        if (!body)
            return 0;
        taken += body;
    } else {
        taken += body_len;
        if (len < taken)
            return 0;
    }
    if (data[0] == 'P')
        answer_chat(c, data + head_len, body_len);
    else
        answer_get(c, data);
    return taken;
}

static void take_requests(struct conn *c)
{
    size_t done = 0;
    while (c->doing == READING && done < c->in.len) {
        size_t n = take_request(c, c->in.data + done, c->in.len - done);
        if (!n)
            break;
        done += n;
    }
    if (done)
        buf_drop(&c->in, done);
    if (c->out.len && !c->wants_write)
        flush(c);
}

static void receive(struct conn *c)
{
    ssize_t n;
    do {
        buf_reserve(&c->in, READ_SIZE + 1); /* one more: so that a number at the end has an end */
        n = recv(c->fd, c->in.data + c->in.len, READ_SIZE, 0);
        if (n > 0) {
            c->in.len += (size_t)n;
            c->in.data[c->in.len] = 0;
        }
    } while (n == READ_SIZE);
    if (n == 0 || (n < 0 && errno != EAGAIN))
        c->dead = true;
    else
        take_requests(c);
}

/* -- Loop ------------------------------------------------------------------------------------------------- */

static void finish(struct conn *c)
{
    stop_waiting(c);
    c->doing = READING;
    flush(c);
    if (!c->dead && c->in.len)
        take_requests(c);
}

/* Say what is due; without a step everything, as fast as the other side reads. */
static void say(struct conn *c, uint64_t now)
{
    if (c->doing == THINKING) {
        add_completion(c);
        finish(c);
        return;
    }
    while (c->due <= now && c->said < c->tokens && !c->dead && !c->wants_write) {
        add_word(c);
        flush(c);
        set_due(c, now);
    }
    if (c->said == c->tokens && !c->dead) {
        add_stream_end(c);
        finish(c);
    }
}

static void end(struct conn *c)
{
    stop_waiting(c);
    close(c->fd);
    buf_free(&c->in);
    buf_free(&c->out);
    free(c);
}

static void accept_all(int listener)
{
    static const int on = 1;
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct conn *c = checked(calloc(1, sizeof *c));
        c->fd = fd;
        c->place = -1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e);
    }
}

static void say_all(void)
{
    uint64_t now = now_ns();
    for (long i = waiting_count - 1; i >= 0; i--) { /* backwards: ending one moves the last into its place */
        struct conn *c = waiting[i];
        if (c->due <= now && !c->wants_write)
            say(c, now);
        if (c->dead)
            end(c);
    }
}

static void serve_conn(struct conn *c, uint32_t events)
{
    if (events & (EPOLLHUP | EPOLLERR))
        c->dead = true;
    if (!c->dead && events & EPOLLOUT)
        flush(c);
    if (!c->dead && events & EPOLLIN)
        receive(c);
    if (c->dead)
        end(c);
}

static void serve(int listener)
{
    struct epoll_event events[256];
    for (;;) {
        arm_timer();
        int n = epoll_wait(poller, events, 256, -1);
        for (int i = 0; i < n; i++) {
            void *who = events[i].data.ptr;
            uint64_t fired;
            if (who == &poller)
                accept_all(listener);
            else if (who == &timer)
                (void)!read(timer, &fired, sizeof fired);
            else
                serve_conn(who, events[i].events);
        }
        say_all();
    }
}

static void split_prose(void)
{
    for (const char *at = PROSE; *at && word_count < MAX_WORDS; word_count++) {
        size_t len = strcspn(at, " ") + 1; /* a word keeps the space after it */
        words[word_count] = (struct word){at, len};
        at += len;
    }
}

static int listen_on(int port)
{
    static const int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in where = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&where, sizeof where) || listen(fd, 4096))
        die("listen");
    return fd;
}

int main(int argc, char **argv)
{
    int port = 8000;
    int option;
    while ((option = getopt(argc, argv, "p:us")) != -1) {
        if (option == 'p')
            port = atoi(optarg);
        else if (option == 'u')
            own_grids = true;
        else if (option == 's')
            stamps = true;
        else
            return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    split_prose();
    int listener = listen_on(port);
    poller = epoll_create1(0);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = &poller};
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &e);
    e.data.ptr = &timer;
    epoll_ctl(poller, EPOLL_CTL_ADD, timer, &e);
    serve(listener);
}
